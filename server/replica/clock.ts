/**
 * All that the loop around raft knows of time: a monotonic clock, turns and delays. The simulator
 * has one of its own, under which a run is a function of its seed.
 */

export type Clock = {
  /** Monotonic, from an arbitrary start that is the same for all threads of the process. */
  nowMs(): number;
  /** May be set at any time: for nothing but `sleep-watch.ts`. */
  wallMs(): number;
  /**
   * Runs `turn` once, not before what already waits at sockets and ports has been read. Batches
   * rest on that, and on nothing finer: the order of microtasks and `nextTick` is not the same
   * everywhere.
   */
  nextTurn(turn: () => void): void;
  /** Returns how to call it off. May run early by a millisecond, and late by any time. */
  after(delayMs: number, run: () => void): () => void;
  every(periodMs: number, run: () => void): () => void;
};

export const systemClock: Clock = {
  nowMs: () => {
    // `performance.now()` counts from the start of its thread.
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1e3 + nanoseconds / 1e6;
  },
  wallMs: () => Date.now(),
  nextTurn: (turn) => void setImmediate(turn),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
  every: (periodMs, run) => {
    const timer = setInterval(run, periodMs);
    return () => clearInterval(timer);
  },
};
