/**
 * What waits to be applied, and how it is cut into groups: one group is one batch of the store and
 * one change that readers see. Nothing of the order is lost: a snapshot is a group of its own.
 */

import type { Entry, SnapshotMetadata } from '../raft/message.ts';
import type { StoreStream } from '../storage/store.ts';
import { startsGroup } from './state-machine.ts';

export type ApplyJob =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
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
  #bytes = 0;

  /** The commands that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#jobs.length === 0;
  }

  push(job: ApplyJob): void {
    if (job.kind === 'entries')
      for (const { command } of job.entries) this.#bytes += command.length;
    this.#jobs.push(job);
  }

  clear(): void {
    this.#jobs = [];
    this.#bytes = 0;
  }

  /** Takes a snapshot, or as many entries from the front as make one group: at least one. */
  take(): ApplyJob | undefined {
    if (this.#jobs[0]?.kind === 'snapshot') return this.#jobs.shift();
    const entries: Entry[] = [];
    let bytes = 0;
    for (;;) {
      const job = this.#jobs[0];
      if (job?.kind !== 'entries') break;
      let count = 0;
      for (const entry of job.entries) {
        const isFull = bytes + entry.command.length > GROUP_BYTES_MAX && entries.length > 0;
        if (isFull || entries.length === GROUP_ENTRIES_MAX) break;
        if (entries.length > 0 && entry.kind === 'command' && startsGroup(entry.command)) break;
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
}
