/**
 * What travels between the state machine's thread and raft's, all of it plain data. Requests that
 * are answered carry a number; entries and commands travel packed, as one piece of memory.
 */

import type { Configuration, Entry, ReadState, SnapshotMetadata } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { RefusedConfiguration } from './driver-input.ts';
import type { RaftStart } from './raft-host.ts';
import type { RaftStatistics } from './raft-statistics.ts';
import type { BuiltSnapshot } from './snapshot-builder.ts';
import type { PackedError } from '../threads/packed-error.ts';
import type { Answer } from '../threads/requests.ts';

export type ToRaft =
  | { readonly kind: 'open'; readonly request: number; readonly position: SnapshotMetadata }
  | { readonly kind: 'start'; readonly request: number; readonly start: RaftStart }
  | { readonly kind: 'propose'; readonly batch: number; readonly commands: PackedCommands }
  | {
      readonly kind: 'configure';
      readonly batch: number;
      /** Refused as `changed` if this is not what is in force. */
      readonly from: Configuration;
      readonly to: Configuration;
    }
  | { readonly kind: 'applied'; readonly index: number }
  | { readonly kind: 'readIndex'; readonly id: number }
  | { readonly kind: 'restored' }
  | { readonly kind: 'durable'; readonly index: number }
  | { readonly kind: 'transfer'; readonly request: number; readonly term: number }
  | { readonly kind: 'answer'; readonly request: number; readonly answer: Answer<AnswerValue> }
  | { readonly kind: 'stop' }
  | { readonly kind: 'close'; readonly request: number };

export type FromRaft =
  | { readonly kind: 'answer'; readonly request: number; readonly answer: Answer<AnswerValue> }
  | {
      readonly kind: 'accepted';
      readonly batch: number;
      readonly firstIndex: number;
      readonly term: number;
    }
  | { readonly kind: 'refused'; readonly batch: number; readonly error: PackedError }
  | {
      readonly kind: 'notConfigured';
      readonly batch: number;
      readonly result: RefusedConfiguration | { kind: 'changed'; inForce: Configuration };
    }
  | { readonly kind: 'leadershipLost' }
  | { readonly kind: 'readStates'; readonly states: readonly ReadState[] }
  | { readonly kind: 'entries'; readonly entries: PackedEntries }
  | {
      readonly kind: 'install';
      readonly request: number;
      readonly snapshot: SnapshotMetadata;
      readonly file: string;
    }
  | { readonly kind: 'lease'; readonly request: number; readonly firstIndex: number }
  | { readonly kind: 'release'; readonly request: number }
  | {
      readonly kind: 'status';
      readonly status: RaftStatus;
      readonly statistics: RaftStatistics;
      readonly postedMs: number;
    }
  | { readonly kind: 'fatal'; readonly error: PackedError };

/** Of `open`: whether the log is empty; of `start`: the status; of a lease: the file. */
export type AnswerValue = boolean | RaftStatus | BuiltSnapshot | null;

/** One piece of memory of its own, and where what is in it ends. */
export type PackedCommands = { readonly ends: readonly number[]; readonly bytes: Uint8Array };

export function packCommands(commands: readonly Uint8Array[]): PackedCommands {
  const ends: number[] = [];
  let end = 0;
  for (const command of commands) {
    end += command.length;
    ends.push(end);
  }
  // Not `Buffer.allocUnsafe`: that hands out slices of a pool, which cannot be given away.
  const bytes = new Uint8Array(end);
  for (const [i, command] of commands.entries()) bytes.set(command, i === 0 ? 0 : ends[i - 1]);
  return { ends, bytes };
}

export function unpackCommands({ ends, bytes }: PackedCommands): Uint8Array[] {
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

/** The memory that is to be given away with a packed thing. */
export function memoryOf({ bytes }: PackedCommands): ArrayBuffer[] {
  const { buffer } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength > 0 ? [buffer] : [];
}

export type PackedEntries = PackedCommands & {
  /** They are contiguous. */
  readonly firstIndex: number;
  readonly terms: readonly number[];
  readonly kinds: readonly Entry['kind'][];
};

export function packEntries(entries: readonly Entry[]): PackedEntries {
  return {
    ...packCommands(entries.map((entry) => entry.command)),
    firstIndex: entries[0]?.index ?? 0,
    terms: entries.map((entry) => entry.term),
    kinds: entries.map((entry) => entry.kind),
  };
}

export function unpackEntries(packed: PackedEntries): Entry[] {
  const { firstIndex, terms, kinds } = packed;
  return unpackCommands(packed).map((command, offset) => ({
    index: firstIndex + offset,
    term: terms[offset] ?? 0,
    kind: kinds[offset] ?? 'command',
    command,
  }));
}
