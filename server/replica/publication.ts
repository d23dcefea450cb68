/** Who is told that a batch has become visible, and in what order (see `applier.ts`). */

import type { Change } from '../core/ports.ts';
import type { Clock } from './clock.ts';

type Waiter = { readonly index: number; readonly resolve: () => void };

export class Publication {
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #clock: Clock;
  #waiters: Waiter[] = [];
  #appliedIndex: number;

  constructor(clock: Clock, appliedIndex: number) {
    this.#clock = clock;
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
    if (timeoutMs <= 0) return Promise.resolve(false);
    return new Promise((resolve) => {
      const cancel = this.#clock.after(timeoutMs, () => {
        this.#waiters = this.#waiters.filter((each) => each !== waiter);
        resolve(false);
      });
      const waiter = {
        index,
        resolve: () => {
          cancel();
          resolve(true);
        },
      };
      this.#waiters.push(waiter);
    });
  }

  /** In the turn in which the batch became visible: caches first, then whoever waits for it. */
  publish(change: Change): void {
    for (const listener of this.#listeners) listener(change);
    this.#appliedIndex = change.index;
    if (this.#waiters.length === 0) return;
    const due = this.#waiters.filter((waiter) => waiter.index <= change.index);
    this.#waiters = this.#waiters.filter((waiter) => change.index < waiter.index);
    for (const waiter of due) waiter.resolve();
  }
}
