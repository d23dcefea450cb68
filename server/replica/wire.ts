/**
 * What peers say to each other, as frames of `cluster/frames.ts`. All numbers are little-endian;
 * terms, indexes and offsets take 48 bits. A payload is
 *
 *     u8 version | u8 kind | fields of the kind
 *
 *     hello                  u8 purpose | clusterId | from | to | address
 *     seen                   -
 *     requestVote            term | u8 flags | lastLogIndex | lastLogTerm
 *     requestVoteResponse    term | u8 flags | committed index | committed term (0 and 0 for none)
 *     appendEntries          term | prevLogIndex | prevLogTerm | leaderCommit | entry records
 *     appendEntriesResponse  term | u8 success | matchIndex | rejectedIndex | hintIndex | hintTerm
 *                            | appliedIndex
 *     heartbeat              term | leaderCommit
 *     heartbeatResponse      term | appliedIndex
 *     timeoutNow             term
 *     installSnapshot        term | lastIncludedIndex | lastIncludedTerm | configuration
 *     snapshotChunk          offset | bytes
 *     snapshotEnd            size | sha256
 *     snapshotReceived       offset
 *
 * where a text is `u16 bytes | UTF-8`. A connection belongs to an ordered pair of nodes that its
 * hello names, so messages carry no ids. Entries travel as the very records that the log holds.
 *
 * Decoding trusts nothing: each field is checked against the end, each payload must be used up.
 */

import assert from 'node:assert/strict';
import { FrameError, frameLength } from '../frames.ts';
import { decodeConfiguration, encodeConfiguration } from '../raft/configuration.ts';
import type { Entry, Message, SnapshotMetadata } from '../raft/message.ts';
import { decodeEntries, encodeEntry } from '../storage/entry-codec.ts';

/** An append of the largest entry fits with room to spare. */
export const PEER_FRAME_BYTES_MAX = 16 * 1024 * 1024;

const VERSION = 1;
const NUMBER_BYTES = 6;
const NUMBER_MAX = 2 ** 48 - 1;
const TEXT_BYTES_MAX = 1024;
const SHA256_BYTES = 32;

const KIND = {
  hello: 1,
  seen: 2,
  requestVote: 3,
  requestVoteResponse: 4,
  appendEntries: 5,
  appendEntriesResponse: 6,
  heartbeat: 7,
  heartbeatResponse: 8,
  timeoutNow: 9,
  installSnapshot: 10,
  snapshotChunk: 11,
  snapshotEnd: 12,
  snapshotReceived: 13,
} as const;

/** The first frame of a connection, from the node that dialled. */
export type Hello = {
  readonly kind: 'hello';
  readonly purpose: 'messages' | 'snapshot';
  readonly clusterId: string;
  readonly from: string;
  readonly to: string;
  /** Where the dialling node listens: the other may not have it in its configuration yet. */
  readonly address: string;
};

/** Frames other than raft messages. */
export type ControlFrame =
  | Hello
  /** Tells the dialling node that what it writes arrives; after a snapshot: that it is complete. */
  | { readonly kind: 'seen' }
  | { readonly kind: 'snapshotChunk'; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'snapshotEnd'; readonly size: number; readonly sha256: Buffer }
  /** Everything before `offset` was taken. */
  | { readonly kind: 'snapshotReceived'; readonly offset: number };

const FLAG = { preVote: 1, other: 2 } as const;

/** The parts of a message's frame, to be written in order. Entry records are not copied. */
export function encodeMessage(message: Message): Buffer[] {
  const writer = new Writer(KIND[message.kind]);
  writer.number(message.term);
  switch (message.kind) {
    case 'requestVote':
      writer.flags(message.isPreVote, message.isTransfer);
      writer.number(message.lastLogIndex).number(message.lastLogTerm);
      break;
    case 'requestVoteResponse':
      writer.flags(message.isPreVote, message.voteGranted);
      writer.number(message.committed?.index ?? 0).number(message.committed?.term ?? 0);
      break;
    case 'appendEntries':
      writer.number(message.prevLogIndex).number(message.prevLogTerm).number(message.leaderCommit);
      return writer.frame(message.entries.map(encodeEntry));
    case 'appendEntriesResponse':
      writer.flags(false, message.success);
      writer.number(message.matchIndex).number(message.rejectedIndex).number(message.hintIndex);
      writer.number(message.hintTerm).number(message.appliedIndex);
      break;
    case 'heartbeat':
      writer.number(message.leaderCommit);
      break;
    case 'heartbeatResponse':
      writer.number(message.appliedIndex);
      break;
    case 'timeoutNow':
      break;
    case 'installSnapshot': {
      const { lastIncludedIndex, lastIncludedTerm, configuration } = message.snapshot;
      writer.number(lastIncludedIndex).number(lastIncludedTerm);
      return writer.frame([encodeConfiguration(configuration)]);
    }
  }
  return writer.frame([]);
}

export function encodeControl(frame: ControlFrame): Buffer[] {
  const writer = new Writer(KIND[frame.kind]);
  switch (frame.kind) {
    case 'hello':
      writer.flags(false, frame.purpose === 'snapshot');
      writer.text(frame.clusterId).text(frame.from).text(frame.to).text(frame.address);
      return writer.frame([]);
    case 'seen':
      return writer.frame([]);
    case 'snapshotChunk':
      return writer.number(frame.offset).frame([frame.bytes]);
    case 'snapshotEnd':
      assert(frame.sha256.length === SHA256_BYTES, 'not a sha256');
      return writer.number(frame.size).frame([frame.sha256]);
    case 'snapshotReceived':
      return writer.number(frame.offset).frame([]);
  }
}

/**
 * Decodes any frame but a hello of a connection whose hello said `from` and `to`. Bytes of a
 * snapshot chunk share the payload's memory. Throws `FrameError`.
 */
export function decodeFrame(payload: Buffer, from: string, to: string): Message | ControlFrame {
  const reader = new Reader(payload);
  const frame = decodeControlBody(reader) ?? decodeMessageBody(reader, from, to);
  reader.finish();
  return frame;
}

/** Throws `FrameError` if the payload is anything but a hello. */
export function decodeHello(payload: Buffer): Hello {
  const reader = new Reader(payload);
  if (reader.kind !== KIND.hello) throw new FrameError('expected a hello');
  const purpose = reader.flags().other ? 'snapshot' : 'messages';
  const clusterId = reader.text();
  const from = reader.text();
  const to = reader.text();
  const address = reader.text();
  reader.finish();
  return { kind: 'hello', purpose, clusterId, from, to, address };
}

function decodeControlBody(reader: Reader): ControlFrame | undefined {
  switch (reader.kind) {
    case KIND.seen:
      return { kind: 'seen' };
    case KIND.snapshotChunk:
      return { kind: 'snapshotChunk', offset: reader.number(), bytes: reader.rest() };
    case KIND.snapshotEnd: {
      const size = reader.number();
      const sha256 = reader.rest();
      if (sha256.length !== SHA256_BYTES) throw new FrameError('not a sha256');
      return { kind: 'snapshotEnd', size, sha256: Buffer.from(sha256) };
    }
    case KIND.snapshotReceived:
      return { kind: 'snapshotReceived', offset: reader.number() };
    default:
      return undefined;
  }
}

function decodeMessageBody(reader: Reader, from: string, to: string): Message {
  const { kind } = reader;
  if (kind < KIND.requestVote || KIND.installSnapshot < kind) {
    throw new FrameError(`unknown kind ${kind}`);
  }
  const addressed = { from, to, term: reader.number() };
  switch (kind) {
    case KIND.requestVote: {
      const { preVote: isPreVote, other: isTransfer } = reader.flags();
      const lastLogIndex = reader.number();
      const lastLogTerm = reader.number();
      return {
        kind: 'requestVote',
        ...addressed,
        isPreVote,
        isTransfer,
        lastLogIndex,
        lastLogTerm,
      };
    }
    case KIND.requestVoteResponse: {
      const { preVote: isPreVote, other: voteGranted } = reader.flags();
      const committed = { index: reader.number(), term: reader.number() };
      const response = {
        kind: 'requestVoteResponse',
        ...addressed,
        isPreVote,
        voteGranted,
      } as const;
      return committed.index === 0 ? response : { ...response, committed };
    }
    case KIND.appendEntries: {
      const prevLogIndex = reader.number();
      const prevLogTerm = reader.number();
      const leaderCommit = reader.number();
      const entries = decodeRecords(reader.rest(), prevLogIndex);
      return {
        kind: 'appendEntries',
        ...addressed,
        prevLogIndex,
        prevLogTerm,
        leaderCommit,
        entries,
      };
    }
    case KIND.appendEntriesResponse: {
      const success = reader.flags().other;
      const matchIndex = reader.number();
      const rejectedIndex = reader.number();
      const hintIndex = reader.number();
      const hintTerm = reader.number();
      const appliedIndex = reader.number();
      const indexes = { matchIndex, rejectedIndex, hintIndex, hintTerm, appliedIndex };
      return { kind: 'appendEntriesResponse', ...addressed, success, ...indexes };
    }
    case KIND.heartbeat:
      return { kind: 'heartbeat', ...addressed, leaderCommit: reader.number() };
    case KIND.heartbeatResponse:
      return { kind: 'heartbeatResponse', ...addressed, appliedIndex: reader.number() };
    case KIND.timeoutNow:
      return { kind: 'timeoutNow', ...addressed };
    default:
      return { kind: 'installSnapshot', ...addressed, snapshot: decodeSnapshot(reader) };
  }
}

function decodeRecords(bytes: Buffer, prevLogIndex: number): Entry[] {
  // Entries live long and would pin the whole network chunk: they get memory of their own.
  const owned = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(owned);
  const entries = refusing('entries', () => decodeEntries(owned));
  for (const [offset, { index }] of entries.entries()) {
    if (index !== prevLogIndex + 1 + offset)
      throw new FrameError('entries do not follow each other');
  }
  return entries;
}

function decodeSnapshot(reader: Reader): SnapshotMetadata {
  const lastIncludedIndex = reader.number();
  const lastIncludedTerm = reader.number();
  const bytes = reader.rest();
  const configuration = refusing('configuration', () => decodeConfiguration(bytes));
  return { lastIncludedIndex, lastIncludedTerm, configuration };
}

/** Codecs below throw errors of their own; to a connection all of them mean the same. */
function refusing<T>(what: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new FrameError(`damaged ${what}`, { cause: error });
  }
}

class Writer {
  readonly #parts: Buffer[];

  constructor(kind: number) {
    this.#parts = [Buffer.from([VERSION, kind])];
  }

  number(value: number): this {
    assert(Number.isSafeInteger(value) && 0 <= value && value <= NUMBER_MAX, 'not a wire number');
    const bytes = Buffer.allocUnsafe(NUMBER_BYTES);
    bytes.writeUIntLE(value, 0, NUMBER_BYTES);
    this.#parts.push(bytes);
    return this;
  }

  flags(preVote: boolean, other: boolean): this {
    const byte = (preVote ? FLAG.preVote : 0) | (other ? FLAG.other : 0);
    this.#parts.push(Buffer.from([byte]));
    return this;
  }

  text(value: string): this {
    const bytes = Buffer.from(value, 'utf8');
    assert(bytes.length <= TEXT_BYTES_MAX, 'text too long for the wire');
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16LE(bytes.length, 0);
    this.#parts.push(length, bytes);
    return this;
  }

  frame(rest: readonly Uint8Array[]): Buffer[] {
    const head = Buffer.concat(this.#parts);
    const restBytes = rest.reduce((sum, part) => sum + part.length, 0);
    assert(head.length + restBytes <= PEER_FRAME_BYTES_MAX, 'frame too large');
    const tail = rest.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    return [frameLength(head.length + restBytes), head, ...tail];
  }
}

class Reader {
  readonly kind: number;
  readonly #payload: Buffer;
  #position = 2;

  constructor(payload: Buffer) {
    if (payload.length < 2) throw new FrameError('truncated header');
    if (payload.readUInt8(0) !== VERSION) throw new FrameError('unknown version');
    this.kind = payload.readUInt8(1);
    this.#payload = payload;
  }

  number(): number {
    return this.#payload.readUIntLE(this.#take(NUMBER_BYTES), NUMBER_BYTES);
  }

  flags(): { preVote: boolean; other: boolean } {
    const byte = this.#payload.readUInt8(this.#take(1));
    if (byte > (FLAG.preVote | FLAG.other)) throw new FrameError('unknown flags');
    return { preVote: (byte & FLAG.preVote) !== 0, other: (byte & FLAG.other) !== 0 };
  }

  text(): string {
    const length = this.#payload.readUInt16LE(this.#take(2));
    if (length > TEXT_BYTES_MAX) throw new FrameError('text too long');
    const start = this.#take(length);
    return this.#payload.toString('utf8', start, start + length);
  }

  rest(): Buffer {
    return this.#payload.subarray(this.#take(this.#payload.length - this.#position));
  }

  finish(): void {
    if (this.#position !== this.#payload.length) throw new FrameError('trailing bytes');
  }

  #take(count: number): number {
    const start = this.#position;
    if (start + count > this.#payload.length) throw new FrameError('truncated frame');
    this.#position = start + count;
    return start;
  }
}
