/**
 * The term of every index of a log, as runs of equal terms: terms change rarely, so a few pairs
 * describe a log of any length.
 *
 * Invariants:
 * - Runs are sorted by `firstIndex`, and terms never decrease.
 * - The first run begins at the log's base; `lastIndex` is in the last one.
 */

import assert from 'node:assert/strict';

import type { LogPosition } from './segment.ts';

type TermRun = { readonly firstIndex: number; readonly term: number };

export class TermRuns {
  #runs: TermRun[];
  #lastIndex: number;

  constructor(base: LogPosition) {
    this.#runs = [{ firstIndex: base.index, term: base.term }];
    this.#lastIndex = base.index;
  }

  get last(): LogPosition {
    return { index: this.#lastIndex, term: this.termAt(this.#lastIndex) };
  }

  termAt(index: number): number {
    assert(index <= this.#lastIndex, 'the log does not reach that far');
    const run = this.#runs.findLast((candidate) => candidate.firstIndex <= index);
    assert(run !== undefined, 'the log begins later');
    return run.term;
  }

  push(position: LogPosition): void {
    assert(position.index === this.#lastIndex + 1, 'entries leave a gap');
    const term = this.#runs.at(-1)?.term ?? 0;
    assert(term <= position.term, 'terms decrease');
    if (term < position.term) {
      this.#runs.push({ firstIndex: position.index, term: position.term });
    }
    this.#lastIndex = position.index;
  }

  /** Forgets everything after `index`, and returns what is then the last entry. */
  truncate(index: number): LogPosition {
    const term = this.termAt(index);
    this.#runs = this.#runs.filter((run) => run.firstIndex <= index);
    this.#lastIndex = index;
    return { index, term };
  }

  /** Lets the log begin at `index`. */
  compact(index: number): void {
    const base = this.#runs[0];
    assert(base !== undefined);
    if (index <= base.firstIndex) return;
    const term = this.termAt(index);
    const later = this.#runs.filter((run) => index < run.firstIndex);
    this.#runs = [{ firstIndex: index, term }, ...later];
  }
}
