/**
 * How many ticks raft is due, by a monotonic clock: timers are early and late, and counting them
 * would drift.
 *
 * When this process itself was away, peers have not been silent: their words lie in the sockets.
 * So after a stall the sockets are read first, and a node that does not lead then counts one tick
 * however long it was; a leader counts what one heartbeat needs.
 */

/** Each tick wakes an idle node: a fine tick is paid in CPU that its quota would give to reads. */
export const TICK_MS = 20;
/** Later than this is a stall: the timer of a healthy process is late by a fraction of a tick. */
const STALL_TICKS = 2;

export class TickSchedule {
  readonly #heartbeatTicks: number;
  #lastTickMs: number;
  #areSocketsDrained = false;
  /** By how much the latest of all ticks came after its time. */
  latenessMsMax = 0;

  constructor(startMs: number, heartbeatTicks: number) {
    this.#lastTickMs = startMs;
    this.#heartbeatTicks = heartbeatTicks;
  }

  /** The ticks to count now; or undefined: read the sockets, then ask again. */
  take(nowMs: number, isLeader: boolean): number | undefined {
    const dueTicks = Math.floor((nowMs - this.#lastTickMs) / TICK_MS);
    const isStalled = STALL_TICKS < dueTicks;
    if (isStalled && !this.#areSocketsDrained) {
      this.#areSocketsDrained = true;
      return undefined;
    }
    if (dueTicks <= 0) return 0;
    this.#areSocketsDrained = false;
    this.latenessMsMax = Math.max(this.latenessMsMax, nowMs - this.#lastTickMs - TICK_MS);
    this.#lastTickMs += dueTicks * TICK_MS;
    return isStalled ? Math.min(dueTicks, isLeader ? this.#heartbeatTicks : 1) : dueTicks;
  }
}
