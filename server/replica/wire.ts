/**
 * What peers say to each other, as frames of `cluster/frames.ts`. All numbers are little-endian;
 * terms, indexes and offsets take 48 bits. A payload is
 *
 *     u8 version | u8 kind | fields of the kind
 *
 *     requestVote            term | u8 flags | lastLogIndex | lastLogTerm
 *     requestVoteResponse    term | u8 flags | committed index | committed term (0 and 0 for none)
 *     appendEntries          term | prevLogIndex | prevLogTerm | leaderCommit | entry records
 *     appendEntriesResponse  term | u8 success | matchIndex | rejectedIndex | hintIndex | hintTerm
 *                            | appliedIndex
 *     heartbeat              term | leaderCommit | round | freshRound | freshIndex
 *     heartbeatResponse      term | appliedIndex | round
 *     timeoutNow             term
 *     installSnapshot        term | lastIncludedIndex | lastIncludedTerm | configuration
 *     readIndex              term | id
 *     readIndexResponse      term | id | u8 success | index
 *
 * where a text is `u16 bytes | UTF-8`. A connection belongs to an ordered pair of nodes that its
 * hello names, so messages carry no ids. Entries travel as the very records that the log holds.
 *
 * Decoding trusts nothing: each field is checked against the end, each payload must be used up.
 */

import { FrameError } from '../frames.ts';
import { decodeConfiguration, encodeConfiguration } from '../raft/configuration.ts';
import type { Entry, Message, SnapshotMetadata } from '../raft/message.ts';
import { decodeEntries, encodeEntry } from '../storage/entry-codec.ts';
import { decodeControlBody } from './control-frames.ts';
import type { ControlFrame } from './control-frames.ts';
import { FieldReader, FieldWriter } from './frame-fields.ts';

const KIND = {
  requestVote: 3,
  requestVoteResponse: 4,
  appendEntries: 5,
  appendEntriesResponse: 6,
  heartbeat: 7,
  heartbeatResponse: 8,
  timeoutNow: 9,
  installSnapshot: 10,
  readIndex: 32,
  readIndexResponse: 33,
} as const;

/** The parts of a message's frame, to be written in order. Entry records are not copied. */
export function encodeMessage(message: Message): Buffer[] {
  const writer = new FieldWriter(KIND[message.kind]);
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
      writer.number(message.leaderCommit).number(message.round);
      writer.number(message.freshRound).number(message.freshIndex);
      break;
    case 'heartbeatResponse':
      writer.number(message.appliedIndex).number(message.round);
      break;
    case 'readIndex':
      writer.number(message.id);
      break;
    case 'readIndexResponse':
      writer.number(message.id);
      writer.flags(false, message.success);
      writer.number(message.index);
      break;
    case 'timeoutNow':
      break;
    case 'installSnapshot': {
      const { lastIncludedIndex, lastIncludedTerm, configuration } = message.snapshot;
      writer.number(lastIncludedIndex).number(lastIncludedTerm);
      return writer.bytes(encodeConfiguration(configuration)).frame([]);
    }
  }
  return writer.frame([]);
}

/**
 * Decodes any frame but a hello of a connection whose hello said `from` and `to`. Bytes of a
 * snapshot chunk share the payload's memory. Throws `FrameError`.
 */
export function decodeFrame(payload: Buffer, from: string, to: string): Message | ControlFrame {
  const reader = new FieldReader(payload);
  const frame = decodeControlBody(reader) ?? decodeMessageBody(reader, from, to);
  reader.finish();
  return frame;
}

function decodeMessageBody(reader: FieldReader, from: string, to: string): Message {
  const { kind } = reader;
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
    case KIND.heartbeat: {
      const leaderCommit = reader.number();
      const round = reader.number();
      const fresh = { freshRound: reader.number(), freshIndex: reader.number() };
      return { kind: 'heartbeat', ...addressed, leaderCommit, round, ...fresh };
    }
    case KIND.heartbeatResponse: {
      const appliedIndex = reader.number();
      return { kind: 'heartbeatResponse', ...addressed, appliedIndex, round: reader.number() };
    }
    case KIND.timeoutNow:
      return { kind: 'timeoutNow', ...addressed };
    case KIND.installSnapshot:
      return { kind: 'installSnapshot', ...addressed, snapshot: decodeSnapshot(reader) };
    case KIND.readIndex:
      return { kind: 'readIndex', ...addressed, id: reader.number() };
    case KIND.readIndexResponse: {
      const id = reader.number();
      const success = reader.flags().other;
      return { kind: 'readIndexResponse', ...addressed, id, success, index: reader.number() };
    }
    default:
      throw new FrameError(`unknown kind ${kind}`);
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

function decodeSnapshot(reader: FieldReader): SnapshotMetadata {
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
