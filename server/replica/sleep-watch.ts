/**
 * A monotonic clock stands still while the machine sleeps, and nobody else's does. The wall clock
 * goes on, so the two drift apart by leaps. A wall clock that is set looks the same: then a lease or
 * a bound is given up for nothing, until the next heartbeats renew it.
 */

import type { Clock } from './clock.ts';

/** Far more than a wall clock is slewed by in a turn, and less than the slack of a lease. */
const LEAP_MS_MAX = 20;

export class SleepWatch {
  readonly #clock: Pick<Clock, 'nowMs' | 'wallMs'>;
  #offsetMs: number;

  constructor(clock: Pick<Clock, 'nowMs' | 'wallMs'>) {
    this.#clock = clock;
    this.#offsetMs = clock.wallMs() - clock.nowMs();
  }

  /** Whether the machine may have slept since this was last asked. */
  hasSlept(): boolean {
    const offsetMs = this.#clock.wallMs() - this.#clock.nowMs();
    const leapMs = Math.abs(offsetMs - this.#offsetMs);
    this.#offsetMs = offsetMs;
    return LEAP_MS_MAX < leapMs;
  }
}
