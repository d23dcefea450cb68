/**
 * How many ticks raft is due, by a monotonic clock: timers are early and late, and counting them
 * would drift.
 *
 * When this process itself was away, peers have not been silent: their words lie in the sockets.
 * So after a stall the sockets are read first. A node that does not lead then counts one tick if
 * there was a word in them, however long the stall. If there was none, the silence may be theirs: it
 * counts up to a heartbeat, as a leader always does. Then no single stall is an election (a leader
 * may have been away as well), but a process that starves, and is late every time, still notices
 * within a few of them that nobody leads. Nothing counts for longer than it was.
 */

/** Each tick wakes an idle node: a fine tick is paid in CPU that its quota would give to reads. */
export const TICK_MS = 20;
/** Later than this is a stall: the timer of a healthy process is late by a fraction of a tick. */
const STALL_TICKS = 2;

type Situation = { readonly isLeader: boolean; readonly isHeard: boolean };

export class TickSchedule {
  readonly #heartbeatTicks: number;
  #lastTickMs: number;
  #areSocketsDrained = false;
  #wasHeard = false;
  /** By how much the latest of all ticks came after its time. */
  latenessMsMax = 0;

  constructor(startMs: number, heartbeatTicks: number) {
    this.#lastTickMs = startMs;
    this.#heartbeatTicks = heartbeatTicks;
  }

  /**
   * The ticks to count now; or undefined: read the sockets, then ask again. `isHeard`: there was a
   * word from a peer since this was last asked.
   */
  take(nowMs: number, { isLeader, isHeard }: Situation): number | undefined {
    const dueTicks = Math.floor((nowMs - this.#lastTickMs) / TICK_MS);
    const isStalled = STALL_TICKS < dueTicks;
    if (isStalled && !this.#areSocketsDrained) {
      this.#areSocketsDrained = true;
      this.#wasHeard = isHeard;
      return undefined;
    }
    if (dueTicks <= 0) return 0;
    const isSilent = !isHeard && !this.#wasHeard;
    this.#areSocketsDrained = false;
    this.#wasHeard = false;
    this.latenessMsMax = Math.max(this.latenessMsMax, nowMs - this.#lastTickMs - TICK_MS);
    this.#lastTickMs += dueTicks * TICK_MS;
    if (!isStalled) return dueTicks;
    return isLeader || isSilent ? Math.min(dueTicks, this.#heartbeatTicks) : 1;
  }
}
