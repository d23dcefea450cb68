/**
 * Writes at a constant rate, whatever becomes of them: each counts from when it was meant to be
 * made, so a node that is busy with something else cannot hide it.
 */

import { randomBytes } from 'node:crypto';

import type { Paced } from './peer.ts';

const VALUE_BYTES = 300;
const KEYS = 1_000;
const LOOK_MS = 1;
/** What waits beyond this is not made, and has failed. */
const IN_FLIGHT_MAX = 2_000;

export class PacedWrites {
  readonly #ratePerSecond: number;
  readonly #write: (key: string, value: Uint8Array) => Promise<unknown>;
  readonly #value = randomBytes(VALUE_BYTES);
  readonly #startMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  #next = 0;
  #inFlight = 0;
  #failures = 0;
  #latenciesMs: number[] = [];

  constructor(ratePerSecond: number, write: (key: string, value: Uint8Array) => Promise<unknown>) {
    this.#ratePerSecond = ratePerSecond;
    this.#write = write;
    this.#timer = setInterval(() => this.#startDue(), LOOK_MS);
  }

  /** What has ended since the last time. */
  take(): Paced {
    const sorted = this.#latenciesMs.toSorted((left, right) => left - right);
    const failures = this.#failures;
    this.#latenciesMs = [];
    this.#failures = 0;
    return { failures, latenciesMs: sorted };
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #startDue(): void {
    const due = Math.floor(((performance.now() - this.#startMs) / 1_000) * this.#ratePerSecond);
    for (; this.#next <= due; this.#next += 1) {
      if (this.#inFlight < IN_FLIGHT_MAX) void this.#make(this.#next);
      else this.#failures += 1;
    }
  }

  /** Never rejects. */
  async #make(number: number): Promise<void> {
    const intendedMs = this.#startMs + (number * 1_000) / this.#ratePerSecond;
    this.#inFlight += 1;
    try {
      await this.#write(`paced-${number % KEYS}`, this.#value);
      this.#latenciesMs.push(performance.now() - intendedMs);
    } catch {
      this.#failures += 1;
    }
    this.#inFlight -= 1;
  }
}
