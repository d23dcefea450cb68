/**
 * The frame that every entry and every log record travels in, on disk and between nodes alike. All
 * numbers are little-endian.
 *
 *     0        4        8         14        20     21
 *     | length | crc32  |  index  |  term   | kind | payload ...
 *       u32      u32       u48       u48      u8
 *
 * `length` counts the bytes after the checksum, and the checksum covers exactly those bytes. A
 * frame is made once per entry: the bytes in the leader's log are the bytes on the wire are the
 * bytes in the followers' logs.
 */

import { crc32 } from 'node:zlib';

/** Bytes before the checksummed part. */
const PREFIX_BYTES = 8;
const KIND_OFFSET = 20;
/** The frame of an empty payload. */
export const RECORD_BYTES_MIN = 21;

export type LogRecord = {
  readonly kind: number;
  readonly index: number;
  readonly term: number;
  /** A view of `bytes`. */
  readonly payload: Buffer;
  /** The whole frame, a view of the buffer that was read. */
  readonly bytes: Buffer;
};

export type RecordFault = { readonly fault: string };

export function encodeRecord(record: Omit<LogRecord, 'bytes' | 'payload'>, payload: Uint8Array) {
  const bytes = Buffer.allocUnsafe(RECORD_BYTES_MIN + payload.length);
  bytes.writeUInt32LE(bytes.length - PREFIX_BYTES, 0);
  bytes.writeUIntLE(record.index, 8, 6);
  bytes.writeUIntLE(record.term, 14, 6);
  bytes[KIND_OFFSET] = record.kind;
  bytes.set(payload, RECORD_BYTES_MIN);
  bytes.writeUInt32LE(crc32(bytes.subarray(PREFIX_BYTES)), 4);
  return bytes;
}

/** Reads the frame that begins at `offset`, or says why there is none. */
export function readRecord(buffer: Buffer, offset: number): LogRecord | RecordFault {
  const record = readUnchecked(buffer, offset);
  if ('fault' in record || isIntact(record)) return record;
  return { fault: 'checksum does not match' };
}

export function isIntact({ bytes }: LogRecord): boolean {
  return crc32(bytes.subarray(PREFIX_BYTES)) === bytes.readUInt32LE(4);
}

/** `readRecord` for bytes that another checksum covers. */
export function readUnchecked(buffer: Buffer, offset: number): LogRecord | RecordFault {
  const available = buffer.length - offset;
  if (available < RECORD_BYTES_MIN) return { fault: `${available} bytes are no record` };

  const length = buffer.readUInt32LE(offset);
  if (length < RECORD_BYTES_MIN - PREFIX_BYTES) return { fault: `length ${length} is too short` };
  if (available < PREFIX_BYTES + length) {
    return { fault: `length ${length} exceeds the ${available - PREFIX_BYTES} bytes left` };
  }

  const bytes = buffer.subarray(offset, offset + PREFIX_BYTES + length);
  return {
    kind: bytes.readUInt8(KIND_OFFSET),
    index: bytes.readUIntLE(8, 6),
    term: bytes.readUIntLE(14, 6),
    payload: bytes.subarray(RECORD_BYTES_MIN),
    bytes,
  };
}
