/**
 * Raft entries as records (see `record.ts` for the frame). An entry is encoded once in its life on
 * a node: `encodeEntry` remembers its frame, and `decodeEntries` remembers the frames it read, so
 * that what a follower received is appended to its log and sent on without another copy. They
 * remember it in the entry itself: a `WeakMap` took a twentieth of all the time that a write takes.
 */

import type { Entry } from '../raft/message.ts';
import { asBuffer } from './as-buffer.ts';
import { encodeRecord, readRecord } from './record.ts';
import type { LogRecord } from './record.ts';

/** The largest command of one entry; keeps an append, a frame and a log batch bounded. */
export const ENTRY_BYTES_MAX = 8 * 1024 * 1024;

const KIND_CODES = { command: 1, noop: 2, configuration: 3 } as const satisfies Record<
  Entry['kind'],
  number
>;
const KINDS = new Map<number, Entry['kind']>([
  [KIND_CODES.command, 'command'],
  [KIND_CODES.noop, 'noop'],
  [KIND_CODES.configuration, 'configuration'],
]);

type Framed = Entry & { frame?: Buffer };

/** Returns the frame of an entry; callers must not change its bytes. Throws above the size limit. */
export function encodeEntry(entry: Entry): Buffer {
  const known = (entry as Framed).frame;
  if (known !== undefined) return known;

  if (ENTRY_BYTES_MAX < entry.command.length) {
    throw new RangeError(
      `Cannot encode entry ${entry.index}: its command has ${entry.command.length} bytes, the limit is ${ENTRY_BYTES_MAX}`,
    );
  }
  const { index, term } = entry;
  const frame = encodeRecord({ kind: KIND_CODES[entry.kind], index, term }, entry.command);
  (entry as Framed).frame = frame;
  return frame;
}

/**
 * Reads a run of entry frames that fills `bytes` exactly. The entries are views of `bytes`: they
 * keep it alive, and it must not change afterwards. Throws if any frame is damaged.
 */
export function decodeEntries(bytes: Uint8Array): Entry[] {
  const buffer = asBuffer(bytes);
  const entries: Entry[] = [];
  for (let offset = 0; offset < buffer.length;) {
    const record = readRecord(buffer, offset);
    if ('fault' in record) {
      throw new Error(`Cannot decode entries: offset ${offset}: ${record.fault}`);
    }
    const entry = entryOf(record);
    if (entry === undefined) {
      throw new Error(`Cannot decode entries: offset ${offset}: kind ${record.kind} is no entry`);
    }
    (entry as Framed).frame = record.bytes;
    entries.push(entry);
    offset += record.bytes.length;
  }
  return entries;
}

/** Returns the entry in a record, or undefined if the record holds something else. */
export function entryOf(record: LogRecord): Entry | undefined {
  const kind = KINDS.get(record.kind);
  if (kind === undefined || ENTRY_BYTES_MAX < record.payload.length) return undefined;

  return { index: record.index, term: record.term, kind, command: record.payload };
}
