/**
 * What waits to be applied, and how it is cut into groups: one group is one batch of the store and
 * one change that readers see. Nothing of the order is lost: what replaces everything, a snapshot or
 * an entry, is a group of its own.
 *
 * The chunks of a large command are never parted: until the last one is here, or something else in
 * its place, those that are wait apart (`storage/chunking.ts`).
 */

import type { Entry, SnapshotMetadata } from '../raft/message.ts';
import { applicableCount, continuesSequence, headOf } from '../storage/chunking.ts';
import { isRestore } from '../storage/restore-command.ts';
import type { StoreStream } from '../storage/store.ts';
import { startsGroup } from './state-machine.ts';

export type ApplyJob =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  /** An entry that replaces the whole state. */
  | { readonly kind: 'restore'; readonly entry: Entry }
  | {
      readonly kind: 'snapshot';
      readonly snapshot: SnapshotMetadata;
      readonly chunks: StoreStream;
      readonly done: () => void;
    };

/** Large enough to share a sync of the disk, small enough to hold up nobody on this thread. */
export const GROUP_BYTES_MAX = 1024 * 1024;
export const GROUP_ENTRIES_MAX = 256;

/** What an entry takes beside its command; so that empty ones are bounded as well. */
export const ENTRY_BYTES = 64;

export class ApplyQueue {
  #jobs: ApplyJob[] = [];
  /** How many entries of the first job are taken. */
  #taken = 0;
  #unfinished: readonly Entry[] = [];
  #bytes = 0;

  /** Of the entries that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#jobs.length === 0;
  }

  push(job: Exclude<ApplyJob, { readonly kind: 'restore' }>): void {
    if (job.kind === 'snapshot') {
      // A snapshot replaces what is committed, and with it whatever it was to become.
      this.#bytes -= bytesOf(this.#unfinished);
      this.#unfinished = [];
      this.#jobs.push(job);
      return;
    }
    this.#bytes += bytesOf(job.entries);
    const { length } = this.#unfinished;
    const entries = length === 0 ? job.entries : [...this.#unfinished, ...job.entries];
    const count = applicableCount(entries);
    this.#unfinished = count === entries.length ? [] : entries.slice(count);
    if (count === 0) return;
    const isAll = count === entries.length;
    this.#jobs.push({ kind: 'entries', entries: isAll ? entries : entries.slice(0, count) });
  }

  clear(): void {
    this.#jobs = [];
    this.#taken = 0;
    this.#unfinished = [];
    this.#bytes = 0;
  }

  /** Takes a snapshot, or as many entries from the front as make one group: at least one. */
  take(): ApplyJob | undefined {
    const next = this.#jobs[0];
    if (next?.kind !== 'entries') return this.#jobs.shift();
    const first = next.entries[this.#taken];
    if (first !== undefined && restores(first)) {
      this.#takeOne(next.entries, first);
      return { kind: 'restore', entry: first };
    }
    const entries: Entry[] = [];
    let bytes = 0;
    for (;;) {
      const job = this.#jobs[0];
      if (job?.kind !== 'entries') break;
      const entry = job.entries[this.#taken];
      if (entry === undefined || !fits(entry, entries.length, bytes)) break;
      bytes += entry.command.length;
      entries.push(entry);
      this.#takeOne(job.entries, entry);
    }
    return entries.length === 0 ? undefined : { kind: 'entries', entries };
  }

  /** `entry` is the next of `entries`, which are those of the first job. */
  #takeOne(entries: readonly Entry[], { command }: Entry): void {
    this.#bytes -= ENTRY_BYTES + command.length;
    this.#taken += 1;
    if (this.#taken < entries.length) return;
    this.#jobs.shift();
    this.#taken = 0;
  }
}

function restores({ kind, command }: Entry): boolean {
  return kind === 'command' && isRestore(command);
}

/** Whether the entry may be of the same group as `count` before it, with so many bytes. */
function fits(entry: Entry, count: number, bytes: number): boolean {
  if (count === 0 || continuesSequence(entry)) return true;
  if (GROUP_ENTRIES_MAX <= count || GROUP_BYTES_MAX < bytes + entry.command.length) return false;
  if (entry.kind !== 'command') return true;
  return !startsGroup(headOf(entry.command)) && !restores(entry);
}

function bytesOf(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const { command } of entries) bytes += ENTRY_BYTES + command.length;
  return bytes;
}
