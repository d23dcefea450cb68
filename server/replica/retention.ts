/**
 * How much of the applied log is kept for followers that lag: a number of entries and a number of
 * bytes, whichever is less. What lies behind is compacted, and such a follower gets a snapshot.
 *
 * What the store does not hold durably is kept whatever it takes: only the log can bring it back.
 */

import type { Entry } from '../raft/message.ts';

export type RetentionLimits = { readonly entriesMax: number; readonly bytesMax: number };

type Run = { readonly lastIndex: number; readonly count: number; readonly bytes: number };

/** Compaction goes in steps of so many entries: to forget one by one would cost a copy each. */
const RUN_ENTRIES = 256;

export class Retention {
  readonly #limits: RetentionLimits;
  /** Applied and kept, oldest first; `#last` still grows. */
  #runs: Run[] = [];
  #last = { count: 0, bytes: 0 };
  #count = 0;
  #bytes = 0;

  constructor(limits: RetentionLimits) {
    this.#limits = limits;
  }

  /** Counts applied entries in. */
  add(entries: readonly Entry[]): void {
    for (const { index, command } of entries) {
      this.#count += 1;
      this.#bytes += command.length;
      this.#last.count += 1;
      this.#last.bytes += command.length;
      if (this.#last.count < RUN_ENTRIES && this.#last.bytes < this.#limits.bytesMax / 8) continue;
      this.#runs.push({ lastIndex: index, ...this.#last });
      this.#last = { count: 0, bytes: 0 };
    }
  }

  reset(): void {
    this.#runs = [];
    this.#last = { count: 0, bytes: 0 };
    this.#count = 0;
    this.#bytes = 0;
  }

  /** Returns up to which index, at most `durableIndex`, the log may be forgotten, if any. */
  forget(durableIndex: number): number | undefined {
    const { entriesMax, bytesMax } = this.#limits;
    let index: number | undefined;
    for (;;) {
      const oldest = this.#runs[0];
      if (oldest === undefined || durableIndex < oldest.lastIndex) return index;
      const isOver = bytesMax < this.#bytes || entriesMax <= this.#count - oldest.count;
      if (!isOver) return index;
      this.#runs.shift();
      this.#count -= oldest.count;
      this.#bytes -= oldest.bytes;
      index = oldest.lastIndex;
    }
  }
}
