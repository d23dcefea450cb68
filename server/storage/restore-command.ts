/**
 * The command that replaces the whole state by one that was staged in the store itself: pieces of
 * an exported state under the keys `<prefix>00000000`, `<prefix>00000001`, ... Staging goes through
 * the log like every write, so at the index of this command all nodes hold the same pieces, and
 * have or have not all of them alike.
 *
 *     u8 format = 193 | u32 pieces | sha256 of all pieces | prefix
 */

import assert from 'node:assert/strict';

export type RestoreCommand = {
  readonly pieceCount: number;
  readonly sha256: Buffer;
  readonly prefix: string;
};

/** Beside the formats of `command.ts` and `chunking.ts`. */
const FORMAT = 193;
const SHA256_START = 5;
const PREFIX_START = SHA256_START + 32;

/** Pieces of all restorations live below it; nothing there survives one. */
export const STAGING_PREFIX = 'core/raft/restore/';
/** Where a restored state says at which index it took the place of another. */
export const RESTORED_KEY = 'core/raft/restored';

export function encodeRestore({ pieceCount, sha256, prefix }: RestoreCommand): Uint8Array {
  assert(sha256.length === PREFIX_START - SHA256_START, 'not a sha256');
  assert(prefix.startsWith(STAGING_PREFIX), 'pieces are staged below their prefix');
  const head = Buffer.alloc(SHA256_START);
  head.writeUInt8(FORMAT, 0);
  head.writeUInt32LE(pieceCount, 1);
  return Buffer.concat([head, sha256, Buffer.from(prefix)]);
}

export function isRestore(command: Uint8Array): boolean {
  return command[0] === FORMAT;
}

export function decodeRestore(command: Uint8Array): RestoreCommand {
  const bytes = Buffer.from(command);
  assert(isRestore(bytes) && PREFIX_START < bytes.length, 'Cannot decode restore command');
  const prefix = bytes.toString('utf8', PREFIX_START);
  assert(prefix.startsWith(STAGING_PREFIX), 'Cannot decode restore command: prefix');
  const sha256 = Buffer.from(bytes.subarray(SHA256_START, PREFIX_START));
  return { pieceCount: bytes.readUInt32LE(1), sha256, prefix };
}

export function pieceKey(prefix: string, number: number): string {
  return `${prefix}${String(number).padStart(8, '0')}`;
}
