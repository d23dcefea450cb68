/**
 * Those who wait until an index is applied here. An advance of the index costs what it wakes, and
 * all deadlines share one timer. Who waits for an index that never comes is gone at its deadline.
 */

import type { Clock } from './clock.ts';
import { Heap } from './heap.ts';

/** As many as a listener takes connections by default: each request waits at most once. */
export const WAITERS_MAX = 10_000;

type Waiter = {
  readonly index: number;
  readonly deadlineMs: number;
  readonly resolve: (isReached: boolean) => void;
};

export class IndexWaiters {
  readonly #clock: Clock;
  readonly #byIndex = new Heap<Waiter>(({ index }) => index);
  readonly #byDeadline = new Heap<Waiter>(({ deadlineMs }) => deadlineMs);
  /** When the timer will run, and how to call it off. */
  #timer: { readonly atMs: number; readonly cancel: () => void } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#byIndex.size;
  }

  /** False if the index was not reached in time, and at once if too many wait already. */
  wait(index: number, timeoutMs: number): Promise<boolean> {
    if (timeoutMs <= 0 || WAITERS_MAX <= this.size) return Promise.resolve(false);
    return new Promise((resolve) => {
      const waiter = { index, deadlineMs: this.#clock.nowMs() + timeoutMs, resolve };
      this.#byIndex.add(waiter);
      this.#byDeadline.add(waiter);
      this.#schedule();
    });
  }

  reach(index: number): void {
    for (;;) {
      const first = this.#byIndex.first();
      if (first === undefined || index < first.index) return;
      this.#end(first, true);
    }
  }

  #end(waiter: Waiter, isReached: boolean): void {
    this.#byIndex.remove(waiter);
    this.#byDeadline.remove(waiter);
    waiter.resolve(isReached);
  }

  /** A timer that runs earlier than needed is left alone: it finds out what is due then. */
  #schedule(): void {
    const first = this.#byDeadline.first();
    if (first === undefined) return;
    if (this.#timer !== undefined) {
      if (this.#timer.atMs <= first.deadlineMs) return;
      this.#timer.cancel();
    }
    const delayMs = Math.max(1, Math.ceil(first.deadlineMs - this.#clock.nowMs()));
    const cancel = this.#clock.after(delayMs, () => this.#expire());
    this.#timer = { atMs: first.deadlineMs, cancel };
  }

  #expire(): void {
    this.#timer = undefined;
    const nowMs = this.#clock.nowMs();
    for (;;) {
      const first = this.#byDeadline.first();
      if (first === undefined) return;
      if (nowMs < first.deadlineMs) break;
      this.#end(first, false);
    }
    this.#schedule();
  }
}
