/** Who is told that a batch has become visible, and in what order (see `applier.ts`). */

import type { Change } from '../core/ports.ts';
import type { Clock } from './clock.ts';
import { IndexWaiters } from './index-waiters.ts';

export class Publication {
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #waiters: IndexWaiters;
  #appliedIndex: number;

  constructor(clock: Clock, appliedIndex: number) {
    this.#waiters = new IndexWaiters(clock);
    this.#appliedIndex = appliedIndex;
  }

  appliedIndex(): number {
    return this.#appliedIndex;
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  awaitApplied(index: number, timeoutMs: number): Promise<boolean> {
    if (index <= this.#appliedIndex) return Promise.resolve(true);
    return this.#waiters.wait(index, timeoutMs);
  }

  /** In the turn in which the batch became visible: caches first, then whoever waits for it. */
  publish(change: Change): void {
    for (const listener of this.#listeners) listener(change);
    this.#appliedIndex = change.index;
    this.#waiters.reach(change.index);
  }
}
