/**
 * The file operations of snapshots, as a port: the simulation has disks of its own. None blocks;
 * what fails rejects with the error of the system.
 */

import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { syncPath } from '../storage/sync-path.ts';

export type OpenFile = {
  /** Fills `memory` from `start` on with at most `bytes` of what is at `position`. */
  read(
    memory: Buffer,
    start: number,
    bytes: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  /** Behind what was written before. */
  writeFile(bytes: Uint8Array): Promise<void>;
  datasync(): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
};

export type FileOperations = {
  /** Nothing, if it is there. */
  makeDirectory(path: string): Promise<unknown>;
  list(directory: string): Promise<string[]>;
  /** `a` creates what is missing, `wx` fails if it is there. */
  open(path: string, flags: 'r' | 'a' | 'wx'): Promise<OpenFile>;
  /** All of a file, piece by piece: each is overwritten when the next is asked for. */
  pieces(path: string): AsyncIterable<Buffer>;
  /** Replaces what has that name. */
  rename(from: string, to: string): Promise<void>;
  /** A directory with all that is in it; nothing, if there is none. */
  remove(path: string): Promise<void>;
  /** Makes created, renamed and removed names durable. */
  syncDirectory(path: string): Promise<void>;
};

const PIECE_BYTES = 64 * 1024;

export const systemFileOperations: FileOperations = {
  makeDirectory: (path) => mkdir(path, { recursive: true, mode: 0o700 }),
  list: (directory) => readdir(directory),
  open: (path, flags) => open(path, flags, 0o600),
  pieces: readPieces,
  rename,
  remove: (path) => rm(path, { recursive: true, force: true }),
  syncDirectory: syncPath,
};

async function* readPieces(path: string): AsyncIterable<Buffer> {
  const memory = Buffer.allocUnsafeSlow(PIECE_BYTES);
  const file = await open(path, 'r');
  try {
    for (;;) {
      const { bytesRead } = await file.read(memory, 0, PIECE_BYTES);
      if (bytesRead === 0) return;
      yield memory.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
