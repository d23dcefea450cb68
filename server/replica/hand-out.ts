/**
 * Committed entries on their way to a state machine that may be slow or stuck. So much of them is
 * under way at once that it never waits for more; the rest stays here, where an entry is only a
 * reference into the log.
 */

import type { Entry } from '../raft/message.ts';
import { continuesSequence } from '../storage/chunking.ts';
import { ENTRY_BYTES } from './apply-queue.ts';

export type HandOutLimits = {
  /** Handed out and not applied. A single command always goes, whole: it is applied with its end. */
  readonly windowBytes: number;
  /** With more than this not applied the state machine counts as backlogged. */
  readonly backlogBytesMax: number;
};

/** Invariant: `#sent` followed by `#unsent` are contiguous. */
export class HandOut {
  readonly #limits: HandOutLimits;
  readonly #send: (entries: readonly Entry[]) => void;
  #sent: (readonly Entry[])[] = [];
  #unsent: (readonly Entry[])[] = [];
  #sentBytes = 0;
  #unsentBytes = 0;

  constructor(limits: HandOutLimits, send: (entries: readonly Entry[]) => void) {
    this.#limits = limits;
    this.#send = send;
  }

  isBacklogged(): boolean {
    return this.#limits.backlogBytesMax < this.#sentBytes + this.#unsentBytes;
  }

  add(entries: readonly Entry[]): void {
    this.#unsent.push(entries);
    this.#unsentBytes += bytesOf(entries);
    this.#pump();
  }

  /** Returns the entries up to `index`, which were handed out before. */
  applied(index: number): readonly Entry[] {
    const done: (readonly Entry[])[] = [];
    for (;;) {
      const [group] = this.#sent;
      const first = group?.[0];
      if (group === undefined || first === undefined || index < first.index) break;
      const count = Math.min(group.length, index - first.index + 1);
      done.push(count === group.length ? group : group.slice(0, count));
      if (count === group.length) this.#sent.shift();
      else this.#sent[0] = group.slice(count);
    }
    const entries = done.length === 1 && done[0] !== undefined ? done[0] : done.flat();
    this.#sentBytes -= bytesOf(entries);
    this.#pump();
    return entries;
  }

  #pump(): void {
    for (;;) {
      const [group] = this.#unsent;
      if (group === undefined) return;
      const count = this.#fitting(group);
      if (count === 0) return;
      const entries = count === group.length ? group : group.slice(0, count);
      if (count === group.length) this.#unsent.shift();
      else this.#unsent[0] = group.slice(count);
      const bytes = bytesOf(entries);
      this.#sent.push(entries);
      this.#sentBytes += bytes;
      this.#unsentBytes -= bytes;
      this.#send(entries);
    }
  }

  #fitting(group: readonly Entry[]): number {
    let bytes = this.#sentBytes;
    let count = 0;
    for (const entry of group) {
      bytes += ENTRY_BYTES + entry.command.length;
      const isLate = this.#sentBytes + count > 0 && !continuesSequence(entry);
      if (isLate && bytes > this.#limits.windowBytes) break;
      count += 1;
    }
    return count;
  }
}

function bytesOf(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const { command } of entries) bytes += ENTRY_BYTES + command.length;
  return bytes;
}
