/**
 * LevelDB's log format, in which its write-ahead log and its manifest are:
 *
 *     blocks of 32 KiB; fragment = | u32 masked crc | u16 length | u8 type | data |
 *     the crc is of type and data; zeros fill what is too short for a header
 *
 * A fragment that does not read back with nothing behind it is a write that a crash cut short:
 * LevelDB drops it, and it was never reported as durable. With a sound record behind, it is damage.
 * (leveldb doc/log_format.md)
 */

import { masked } from './crc32c.ts';

export type LevelFault = { readonly offset: number; readonly reason: string };

export type LevelLog = {
  /** Whole records, up to the damage or the torn end. */
  readonly records: readonly Buffer[];
  readonly fault: LevelFault | undefined;
};

const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

export function readLevelLog(bytes: Buffer): LevelLog {
  const records: Buffer[] = [];
  let fragments: Buffer[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const roomBytes = BLOCK_BYTES - (offset % BLOCK_BYTES);
    if (roomBytes < HEADER_BYTES) {
      offset += roomBytes;
      continue;
    }
    const end = endOfFragment(bytes, offset);
    if (end === undefined) return { records, fault: faultAt(bytes, offset) };
    const type = bytes.readUInt8(offset + 6);
    if (type === FULL || type === FIRST) fragments = [];
    fragments.push(bytes.subarray(offset + HEADER_BYTES, end));
    if (type === FULL || type === LAST) records.push(Buffer.concat(fragments));
    offset = end;
  }
  return { records, fault: undefined };
}

/** Where the fragment at `offset` ends, or undefined if there is none. */
function endOfFragment(bytes: Buffer, offset: number): number | undefined {
  const blockEnd = offset - (offset % BLOCK_BYTES) + BLOCK_BYTES;
  const limit = Math.min(blockEnd, bytes.length);
  if (limit < offset + HEADER_BYTES) return undefined;
  const end = offset + HEADER_BYTES + bytes.readUInt16LE(offset + 4);
  const type = bytes.readUInt8(offset + 6);
  if (type < FULL || LAST < type || limit < end) return undefined;
  return masked(bytes.subarray(offset + 6, end)) === bytes.readUInt32LE(offset) ? end : undefined;
}

/**
 * Looks everywhere behind: the length of what is damaged cannot be believed. Only the beginning of
 * a record counts. The rest of one may be on disk when its beginning is not, if power failed before
 * it was synced.
 */
function faultAt(bytes: Buffer, offset: number): LevelFault | undefined {
  for (let next = offset + 1; next < bytes.length; next += 1) {
    if (endOfFragment(bytes, next) === undefined) continue;
    const type = bytes.readUInt8(next + 6);
    if (type !== FULL && type !== FIRST) continue;
    return { offset, reason: `a record is damaged, the next is at ${next}` };
  }
  return undefined;
}
