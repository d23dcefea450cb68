/**
 * One file of the durable log: a header, then batches. Pure: everything here works on buffers.
 *
 *     segment   header (512 bytes) | batch | batch | ... | mark | zeros, until it is closed
 *     batch     record ... | batch end record
 *
 * Header, little-endian:
 *
 *       0  magic "BAORAFT1"
 *       8  u32 format version
 *      12  u48 segment sequence: 1, 2, 3, ... without gaps
 *      18  u48 index, 24 u48 term: the last entry of the log before this segment
 *      30  u48 sequence of the first batch
 *      36  8 random bytes, the salt, repeated in every batch end and mark of this file
 *      44  u48 bytes that the file has from the beginning, until it is closed
 *      50  u16 length and up to 256 bytes of identity: whose log this is
 *     508  u32 crc32 of the bytes before
 *
 * Records have the frame of `record.ts`. Beside entries there are:
 *
 *     kind            index            term            payload
 *     16 hard state   commitIndex      currentTerm     empty, or u8 1 and votedFor
 *     17 truncate     last kept index  its term        -
 *     18 reset        snapshot index   snapshot term   -
 *     19 batch end    batch sequence   batch bytes     8 bytes salt | u32 crc32 of the batch
 *     20 mark         batch sequence   0               8 bytes salt
 *
 * A batch is what one fdatasync made durable, so it is valid as a whole or not at all. The batch
 * after it is written only when it is durable. So is the mark, which names it and which the next
 * batch overwrites; nobody syncs a mark. Hence the rules that separate a torn write from damage:
 *
 * - An invalid batch that is followed by its own mark, or by the end or the mark of a *later* batch,
 *   was once durable, and somebody may have been told so.
 * - A file gets its whole length before its name, and is shorter only when it was closed: it then
 *   ends with the mark of its last batch. Any other short file has lost something.
 *
 * That leaves one case in which something acknowledged is taken for torn: the last batch is damaged
 * although it was synced, and power was lost before its mark reached the disk.
 *
 * The salt makes ends and marks findable at any offset, and keeps bytes that a client stored from
 * passing as one.
 */

import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';

import type { HardState } from '../raft/message.ts';
import { RECORD_BYTES_MIN, encodeRecord, isIntact, readRecord, readUnchecked } from './record.ts';
import type { LogRecord, RecordFault } from './record.ts';

export const SEGMENT_HEADER_BYTES = 512;
const CRC_OFFSET = SEGMENT_HEADER_BYTES - 4;
const FILE_BYTES_OFFSET = 44;
const IDENTITY_OFFSET = 52;
const IDENTITY_BYTES_MAX = 256;
const MAGIC = Buffer.from('BAORAFT1', 'latin1');
const VERSION = 2;
export const SALT_BYTES = 8;

export const RECORD_KINDS = {
  hardState: 16,
  truncate: 17,
  reset: 18,
  batchEnd: 19,
  mark: 20,
} as const;
export const MARK_BYTES = RECORD_BYTES_MIN + SALT_BYTES;
const BATCH_END_PAYLOAD_BYTES = SALT_BYTES + 4;
const NO_BYTES = new Uint8Array(0);

/** A place between two entries, named by the entry before it. */
export type LogPosition = { readonly index: number; readonly term: number };

export type SegmentHeader = {
  readonly sequence: number;
  readonly previous: LogPosition;
  readonly firstBatch: number;
  readonly salt: Buffer;
  readonly fileBytes: number;
  readonly identity: string;
};

export type SegmentScan = {
  readonly records: readonly LogRecord[];
  readonly batchCount: number;
  /** Where the last valid batch ends. */
  readonly end: number;
  /** Whether the file ends with the mark of its last batch, and nothing can be missing. */
  readonly isClosed: boolean;
  /** Why it must have held more that was durable; undefined if all of that is there. */
  readonly damage: string | undefined;
};

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const identity = Buffer.from(header.identity);
  assert(identity.length <= IDENTITY_BYTES_MAX, 'identity of a log is too long');
  assert(header.salt.length === SALT_BYTES);

  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUIntLE(header.sequence, 12, 6);
  bytes.writeUIntLE(header.previous.index, 18, 6);
  bytes.writeUIntLE(header.previous.term, 24, 6);
  bytes.writeUIntLE(header.firstBatch, 30, 6);
  header.salt.copy(bytes, 36);
  bytes.writeUIntLE(header.fileBytes, FILE_BYTES_OFFSET, 6);
  bytes.writeUInt16LE(identity.length, IDENTITY_OFFSET - 2);
  identity.copy(bytes, IDENTITY_OFFSET);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  return bytes;
}

export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | RecordFault {
  if (bytes.length < SEGMENT_HEADER_BYTES) return { fault: 'the header is incomplete' };
  if (!bytes.subarray(0, 8).equals(MAGIC)) return { fault: 'this is no segment of a log' };
  const version = bytes.readUInt32LE(8);
  if (crc32(bytes.subarray(0, CRC_OFFSET)) !== bytes.readUInt32LE(CRC_OFFSET)) {
    return { fault: 'the checksum of the header does not match' };
  }
  if (version !== VERSION) return { fault: `format version ${version} is unknown` };
  return {
    sequence: bytes.readUIntLE(12, 6),
    previous: { index: bytes.readUIntLE(18, 6), term: bytes.readUIntLE(24, 6) },
    firstBatch: bytes.readUIntLE(30, 6),
    salt: bytes.subarray(36, 36 + SALT_BYTES),
    fileBytes: bytes.readUIntLE(FILE_BYTES_OFFSET, 6),
    identity: identityOf(bytes),
  };
}

function identityOf(bytes: Buffer): string {
  const length = bytes.readUInt16LE(IDENTITY_OFFSET - 2);
  return bytes.toString('utf8', IDENTITY_OFFSET, IDENTITY_OFFSET + length);
}

export function encodeBatchEnd(
  batch: { sequence: number; bytes: number; crc: number },
  salt: Buffer,
): Buffer {
  const payload = Buffer.allocUnsafe(BATCH_END_PAYLOAD_BYTES);
  salt.copy(payload, 0);
  payload.writeUInt32LE(batch.crc, SALT_BYTES);
  const kind = RECORD_KINDS.batchEnd;
  return encodeRecord({ kind, index: batch.sequence, term: batch.bytes }, payload);
}

export const BATCH_END_BYTES = RECORD_BYTES_MIN + BATCH_END_PAYLOAD_BYTES;

/** Says that the batch was durable when this was written. */
export function encodeMark(sequence: number, salt: Buffer): Buffer {
  return encodeRecord({ kind: RECORD_KINDS.mark, index: sequence, term: 0 }, salt);
}

/** Reads all valid batches, and judges what follows them. */
export function scanSegment(bytes: Buffer, header: SegmentHeader): SegmentScan {
  const records: LogRecord[] = [];
  const { salt, firstBatch, fileBytes } = header;
  let end = SEGMENT_HEADER_BYTES;
  let sequence = firstBatch;
  let fault = '';
  while (end < bytes.length) {
    const batch = readBatch(bytes.subarray(end), { salt, sequence });
    if ('fault' in batch) {
      fault = batch.fault;
      break;
    }
    for (const record of batch.records) records.push(record);
    end += batch.bytes;
    sequence += 1;
  }
  const isClosed =
    bytes.length === end + MARK_BYTES && isMark(readRecord(bytes, end), salt, sequence - 1);
  let damage: string | undefined;
  if (provesDurable(bytes, end, { salt, sequence })) damage = fault;
  else if (!isClosed && bytes.length < fileBytes) {
    damage = `the file has ${bytes.length} bytes, and had ${fileBytes}`;
  }
  return { records, batchCount: sequence - firstBatch, end, isClosed, damage };
}

function readBatch(
  bytes: Buffer,
  expected: { salt: Buffer; sequence: number },
): { records: LogRecord[]; bytes: number } | RecordFault {
  const records: LogRecord[] = [];
  for (let offset = 0; ;) {
    // The checksum of the batch covers those of its records.
    const record = readUnchecked(bytes, offset);
    if ('fault' in record) return record;
    if (record.kind !== RECORD_KINDS.batchEnd) {
      records.push(record);
      offset += record.bytes.length;
      continue;
    }
    if (!isBatchEnd(record, expected.salt) || !isIntact(record)) {
      return { fault: 'a damaged batch end, or one of another file' };
    }
    if (record.index !== expected.sequence) {
      return { fault: `batch ${record.index} in the place of ${expected.sequence}` };
    }
    const crc = record.payload.readUInt32LE(SALT_BYTES);
    if (record.term !== offset || crc !== crc32(bytes.subarray(0, offset))) {
      return { fault: 'the checksum of the batch does not match' };
    }
    return { records, bytes: offset + record.bytes.length };
  }
}

/** Whether anything from `start` on says that the batch there, which is invalid, was durable. */
function provesDurable(
  bytes: Buffer,
  start: number,
  invalid: { salt: Buffer; sequence: number },
): boolean {
  const { salt, sequence } = invalid;
  for (let found = start; ; found += 1) {
    found = bytes.indexOf(salt, found);
    if (found < 0) return false;
    if (found - RECORD_BYTES_MIN < start) continue;
    const record = readRecord(bytes, found - RECORD_BYTES_MIN);
    if ('fault' in record) continue;
    if (isBatchEnd(record, salt) && sequence < record.index) return true;
    if (isMark(record, salt) && sequence <= record.index) return true;
  }
}

function isBatchEnd(record: LogRecord, salt: Buffer): boolean {
  return (
    record.kind === RECORD_KINDS.batchEnd &&
    record.payload.length === BATCH_END_PAYLOAD_BYTES &&
    record.payload.subarray(0, SALT_BYTES).equals(salt)
  );
}

function isMark(record: LogRecord | RecordFault, salt: Buffer, sequence?: number): boolean {
  if ('fault' in record || record.kind !== RECORD_KINDS.mark) return false;
  if (sequence !== undefined && record.index !== sequence) return false;
  return record.payload.equals(salt);
}

export function encodeHardState(hardState: HardState): Buffer {
  const { commitIndex, currentTerm, votedFor } = hardState;
  const payload = votedFor === null ? NO_BYTES : Buffer.from(`\u0001${votedFor}`);
  return encodeRecord(
    { kind: RECORD_KINDS.hardState, index: commitIndex, term: currentTerm },
    payload,
  );
}

export function decodeHardState(record: LogRecord): HardState {
  return {
    currentTerm: record.term,
    votedFor: record.payload.length === 0 ? null : record.payload.toString('utf8', 1),
    commitIndex: record.index,
  };
}

export function encodePosition(kind: 'truncate' | 'reset', position: LogPosition): Buffer {
  return encodeRecord({ kind: RECORD_KINDS[kind], ...position }, NO_BYTES);
}
