/**
 * What a core promises readers, against what was committed when (I14).
 *
 * - A read index covers everything that was committed when it was asked for, on whatever node. With
 *   leases that is also what says that no two leases overlap in time: of two leaders, only one
 *   commits, and the other one's reads would miss it.
 * - "Fresh as of t with index i" means that everything committed before t lies at or below i.
 *
 * Commit is earlier than acknowledgement, so both are a little stricter than a client could tell.
 */

import type { Freshness, NodeId, ReadState } from '../../raft/message.ts';
import type { Ledger } from './invariants.ts';

export class ReadChecker {
  readonly #ledger: Ledger;
  /** `#commitTimesMs[i]` is when entry `i + 1` was first known to be committed; it ascends. */
  readonly #commitTimesMs: number[] = [];
  /** By question: what was committed when it was asked. */
  readonly #floors = new Map<number, number>();
  readonly #fresh = new Map<NodeId, Freshness>();
  #lastId = 0;
  readonly counts = { confirmed: 0, failed: 0, fresh: 0 };

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  onCommitted(committedIndex: number, nowMs: number): void {
    while (this.#commitTimesMs.length < committedIndex) this.#commitTimesMs.push(nowMs);
  }

  /** Returns an id that was never used. */
  ask(committedIndex: number): number {
    this.#lastId += 1;
    this.#floors.set(this.#lastId, committedIndex);
    return this.#lastId;
  }

  onReadStates(states: readonly ReadState[]): void {
    for (const state of states) {
      const floor = this.#floors.get(state.id);
      this.#ledger.check('I14', floor !== undefined, 'a read ends twice, or was never asked for');
      this.#floors.delete(state.id);
      this.counts[state.kind] += 1;
      if (state.kind === 'failed') continue;
      this.#ledger.check('I14', floor <= state.index, 'a read index misses what was committed');
      const isKnown = state.index <= this.#commitTimesMs.length;
      this.#ledger.check('I14', isKnown, 'a read index is not committed');
    }
  }

  onFreshness(id: NodeId, freshness: Freshness | undefined): void {
    if (freshness === undefined || freshness === this.#fresh.get(id)) return;
    this.#fresh.set(id, freshness);
    this.counts.fresh += 1;
    const committedBefore = this.#committedBefore(freshness.asOfMs);
    const isCovered = committedBefore <= freshness.index;
    this.#ledger.check('I14', isCovered, 'a state is called fresher than it is');
  }

  /** How many entries were committed before `timeMs`. */
  #committedBefore(timeMs: number): number {
    let start = 0;
    let end = this.#commitTimesMs.length;
    while (start < end) {
      const middle = (start + end) >>> 1;
      if ((this.#commitTimesMs[middle] ?? Infinity) < timeMs) start = middle + 1;
      else end = middle;
    }
    return start;
  }
}
