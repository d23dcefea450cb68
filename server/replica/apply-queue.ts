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

export class ApplyQueue {
  #jobs: ApplyJob[] = [];
  #unfinished: readonly Entry[] = [];
  #bytes = 0;

  /** The commands that wait. */
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
    this.#unfinished = [];
    this.#bytes = 0;
  }

  /** Takes a snapshot, or as many entries from the front as make one group: at least one. */
  take(): ApplyJob | undefined {
    const next = this.#jobs[0];
    if (next?.kind !== 'entries') return this.#jobs.shift();
    const [first] = next.entries;
    if (first !== undefined && restores(first)) {
      return this.#takeRestore(first, next.entries.slice(1));
    }
    const entries: Entry[] = [];
    let bytes = 0;
    for (;;) {
      const job = this.#jobs[0];
      if (job?.kind !== 'entries') break;
      let count = 0;
      for (const entry of job.entries) {
        if (entries.length > 0 && !continuesSequence(entry)) {
          const isFull = GROUP_BYTES_MAX < bytes + entry.command.length;
          if (isFull || GROUP_ENTRIES_MAX <= entries.length) break;
          if (entry.kind === 'command' && startsGroup(headOf(entry.command))) break;
          if (restores(entry)) break;
        }
        bytes += entry.command.length;
        entries.push(entry);
        count += 1;
      }
      if (count < job.entries.length) {
        this.#jobs[0] = { kind: 'entries', entries: job.entries.slice(count) };
        break;
      }
      this.#jobs.shift();
    }
    this.#bytes -= bytes;
    return entries.length === 0 ? undefined : { kind: 'entries', entries };
  }

  #takeRestore(entry: Entry, others: readonly Entry[]): ApplyJob {
    this.#bytes -= entry.command.length;
    if (others.length === 0) this.#jobs.shift();
    else this.#jobs[0] = { kind: 'entries', entries: others };
    return { kind: 'restore', entry };
  }
}

function restores({ kind, command }: Entry): boolean {
  return kind === 'command' && isRestore(command);
}

function bytesOf(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const { command } of entries) bytes += command.length;
  return bytes;
}
