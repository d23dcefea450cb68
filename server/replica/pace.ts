/**
 * Spreads bytes over time: whoever reads, sends or stores a whole state leaves room for writes,
 * on the disk and in the event loop.
 */

import type { Clock } from './clock.ts';

/** What was missed because a timer or the work itself was late is made up for, so much of it. */
const CATCH_UP_MS = 20;

/** As a rate: no limit. */
export const AT_ONCE = 0;

export class Pace {
  #bytesPerSecond: number;
  readonly #clock: Clock;
  #dueMs = 0;
  readonly #waiting = new Set<() => void>();

  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when so many bytes may follow what was spent before. */
  async spend(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === AT_ONCE) return;
    const nowMs = this.#clock.nowMs();
    const startMs = Math.max(this.#dueMs, nowMs - CATCH_UP_MS);
    this.#dueMs = startMs + (bytes / this.#bytesPerSecond) * 1_000;
    if (startMs <= nowMs) return;
    await new Promise<void>((resolve) => {
      const proceed = (): void => {
        callOff();
        this.#waiting.delete(proceed);
        resolve();
      };
      const callOff = this.#clock.after(startMs - nowMs, proceed);
      this.#waiting.add(proceed);
    });
  }

  /** No limit from now on: a node that stops waits for what is under way. */
  lift(): void {
    this.#bytesPerSecond = AT_ONCE;
    for (const proceed of this.#waiting) proceed();
  }

  async *spread(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const chunk of chunks) {
      await this.spend(chunk.length);
      yield chunk;
    }
  }
}
