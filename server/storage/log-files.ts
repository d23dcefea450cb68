/**
 * The file operations of the durable log, as a port: tests count and fail them. All of them block,
 * and none goes through libuv's thread pool, which password hashing can occupy for tens of
 * milliseconds.
 */

import {
  closeSync,
  mkdirSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  unlinkSync,
  writevSync,
} from 'node:fs';
import { dirname } from 'node:path';

import { lockDirectory } from './directory-lock.ts';

export type LogFiles = {
  /** Makes the directory if need be, and takes it for this process; returns the release. */
  enter(directory: string): () => void;
  list(directory: string): string[];
  read(path: string): Buffer;
  /** Opens a file for writing; `create` fails if it exists. */
  create(path: string): number;
  openExisting(path: string): number;
  /** Returns how much was written, which may be less than what was given. */
  writev(file: number, buffers: readonly Uint8Array[], position: number): number;
  datasync(file: number): void;
  truncate(file: number, length: number): void;
  close(file: number): void;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  /** Makes created, renamed and removed names durable. */
  syncDirectory(directory: string): void;
};

export const systemFiles: LogFiles = {
  enter(directory) {
    mkdirSync(directory, { recursive: true });
    systemFiles.syncDirectory(dirname(directory));
    return lockDirectory(directory);
  },
  list: (directory) => readdirSync(directory),
  read: (path) => readFileSync(path),
  create: (path) => openSync(path, 'wx', 0o600),
  openExisting: (path) => openSync(path, 'r+'),
  writev: (file, buffers, position) => writevSync(file, buffers, position),
  datasync: fdatasyncSync,
  truncate: ftruncateSync,
  close: closeSync,
  rename: renameSync,
  unlink: unlinkSync,
  syncDirectory(directory) {
    const file = openSync(directory, 'r');
    fsyncSync(file);
    closeSync(file);
  },
};
