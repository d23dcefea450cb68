/**
 * One file of the durable log: a header, then batches. Pure: everything here works on buffers.
 *
 *     segment   header (512 bytes) | batch | batch | ... | zeros, while it is the last segment
 *     batch     record ... | batch end record
 *
 * Header, little-endian:
 *
 *       0  magic "BAORAFT1"
 *       8  u32 format version
 *      12  u48 segment sequence: 1, 2, 3, ... without gaps
 *      18  u48 index, 24 u48 term: the last entry of the log before this segment
 *      30  u48 sequence of the first batch
 *      36  8 random bytes, repeated in every batch end of this file
 *      44  u16 length and up to 256 bytes of identity: whose log this is
 *     508  u32 crc32 of the bytes before
 *
 * Records have the frame of `record.ts`. Beside entries there are:
 *
 *     kind            index            term            payload
 *     16 hard state   commitIndex      currentTerm     empty, or u8 1 and votedFor
 *     17 truncate     last kept index  its term        -
 *     18 reset        snapshot index   snapshot term   -
 *     19 batch end    batch sequence   batch bytes     8 bytes salt | u32 crc32 of the batch
 *
 * A batch is what one fdatasync made durable, so it is valid as a whole or not at all. The batch
 * after it is written only when it is durable. Hence the rule that separates a torn write from
 * damage: an invalid batch that is followed by the end of a *later* batch was once durable, and
 * somebody may have been told so. The salt makes such an end findable at any offset, and keeps
 * bytes that a client stored from passing as one.
 */

import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';

import type { HardState } from '../raft/message.ts';
import { RECORD_BYTES_MIN, encodeRecord, readRecord } from './record.ts';
import type { LogRecord, RecordFault } from './record.ts';

export const SEGMENT_HEADER_BYTES = 512;
const CRC_OFFSET = SEGMENT_HEADER_BYTES - 4;
const IDENTITY_OFFSET = 46;
const IDENTITY_BYTES_MAX = 256;
const MAGIC = Buffer.from('BAORAFT1', 'latin1');
const VERSION = 1;
export const SALT_BYTES = 8;

export const RECORD_KINDS = { hardState: 16, truncate: 17, reset: 18, batchEnd: 19 } as const;
const NO_BYTES = new Uint8Array(0);

/** A place between two entries, named by the entry before it. */
export type LogPosition = { readonly index: number; readonly term: number };

export type SegmentHeader = {
  readonly sequence: number;
  readonly previous: LogPosition;
  readonly firstBatch: number;
  readonly salt: Buffer;
  readonly identity: string;
};

export type SegmentScan = {
  readonly records: readonly LogRecord[];
  readonly batchCount: number;
  /** Where the last valid batch ends. */
  readonly end: number;
  /** Why the bytes from `end` on are no batch; undefined if there are none. */
  readonly tail: string | undefined;
  /** Whether the end of a batch later than the first invalid one was found. */
  readonly isDamaged: boolean;
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
  bytes.writeUInt16LE(identity.length, 44);
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
    identity: bytes.toString('utf8', IDENTITY_OFFSET, IDENTITY_OFFSET + bytes.readUInt16LE(44)),
  };
}

export function encodeBatchEnd(
  batch: { sequence: number; bytes: number; crc: number },
  salt: Buffer,
) {
  const payload = Buffer.allocUnsafe(SALT_BYTES + 4);
  salt.copy(payload, 0);
  payload.writeUInt32LE(batch.crc, SALT_BYTES);
  const kind = RECORD_KINDS.batchEnd;
  return encodeRecord({ kind, index: batch.sequence, term: batch.bytes }, payload);
}

/** Reads all valid batches, and judges what follows them. */
export function scanSegment(bytes: Buffer, header: SegmentHeader): SegmentScan {
  const records: LogRecord[] = [];
  let end = SEGMENT_HEADER_BYTES;
  let sequence = header.firstBatch;
  let tail: string | undefined;
  while (end < bytes.length) {
    const batch = readBatch(bytes.subarray(end), { salt: header.salt, sequence });
    if ('fault' in batch) {
      tail = batch.fault;
      break;
    }
    for (const record of batch.records) records.push(record);
    end += batch.bytes;
    sequence += 1;
  }
  return {
    records,
    batchCount: sequence - header.firstBatch,
    end,
    tail,
    isDamaged: tail !== undefined && hasBatchEndAfter(bytes, end, { salt: header.salt, sequence }),
  };
}

function readBatch(
  bytes: Buffer,
  expected: { salt: Buffer; sequence: number },
): { records: LogRecord[]; bytes: number } | RecordFault {
  const records: LogRecord[] = [];
  for (let offset = 0; ;) {
    const record = readRecord(bytes, offset);
    if ('fault' in record) return record;
    if (record.kind !== RECORD_KINDS.batchEnd) {
      records.push(record);
      offset += record.bytes.length;
      continue;
    }
    if (!isBatchEnd(record, expected.salt)) return { fault: 'a batch end of another file' };
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

function hasBatchEndAfter(
  bytes: Buffer,
  start: number,
  invalid: { salt: Buffer; sequence: number },
): boolean {
  for (let found = start; ; found += 1) {
    found = bytes.indexOf(invalid.salt, found);
    if (found < 0) return false;
    if (found - RECORD_BYTES_MIN < start) continue;
    const record = readRecord(bytes, found - RECORD_BYTES_MIN);
    if ('fault' in record || !isBatchEnd(record, invalid.salt)) continue;
    if (invalid.sequence < record.index) return true;
  }
}

function isBatchEnd(record: LogRecord, salt: Buffer): boolean {
  return (
    record.kind === RECORD_KINDS.batchEnd &&
    record.payload.length === SALT_BYTES + 4 &&
    record.payload.subarray(0, SALT_BYTES).equals(salt)
  );
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
