/**
 * A node's own idea of time, over the one true time of the simulation: its monotonic clock drifts,
 * stands still while the host is suspended, and may leap when it comes back; its wall clock is set
 * by leaps. Callbacks go through `run`, which knows whether the node is paused or gone.
 */

import type { Clock } from '../../replica/clock.ts';
import type { EventQueue } from './event-queue.ts';

export class NodeClock implements Clock {
  readonly #queue: EventQueue;
  readonly #run: (callback: () => void) => void;
  #baseUs: number;
  #baseMs: number;
  #rate = 1;
  #isStanding = false;
  #wallOffsetMs = 0;

  constructor(queue: EventQueue, startMs: number, run: (callback: () => void) => void) {
    this.#queue = queue;
    this.#run = run;
    this.#baseUs = queue.nowUs;
    this.#baseMs = startMs;
  }

  nowMs(): number {
    if (this.#isStanding) return this.#baseMs;
    return this.#baseMs + ((this.#queue.nowUs - this.#baseUs) * this.#rate) / 1000;
  }

  wallMs(): number {
    return this.#queue.nowUs / 1000 + this.#wallOffsetMs;
  }

  drift(ppm: number): void {
    this.#rebase();
    this.#rate = 1 + ppm / 1e6;
  }

  get isStanding(): boolean {
    return this.#isStanding;
  }

  stand(): void {
    this.#rebase();
    this.#isStanding = true;
  }

  go(): void {
    if (!this.#isStanding) return;
    this.#baseUs = this.#queue.nowUs;
    this.#isStanding = false;
  }

  /** Nobody sets the clock of a host that is suspended; by just that long, it would hide the sleep. */
  setWall(byMs: number): void {
    if (!this.#isStanding) this.#wallOffsetMs += byMs;
  }

  #rebase(): void {
    this.#baseMs = this.nowMs();
    this.#baseUs = this.#queue.nowUs;
  }

  nextTurn(turn: () => void): void {
    this.#queue.after(1, () => this.#run(turn));
  }

  after(delayMs: number, callback: () => void): () => void {
    let isCancelled = false;
    this.#queue.after(Math.max(0, (delayMs * 1000) / this.#rate), () =>
      this.#run(() => {
        if (!isCancelled) callback();
      }),
    );
    return () => {
      isCancelled = true;
    };
  }

  every(periodMs: number, callback: () => void): () => void {
    let isCancelled = false;
    const repeat = (): void => {
      this.after(periodMs, () => {
        if (isCancelled) return;
        repeat();
        callback();
      });
    };
    repeat();
    return () => {
      isCancelled = true;
    };
  }
}
