/** Time as the drivers see it: the operating system's, or a simulated one in tests. */

const NS_PER_MS = 1_000_000;

/** setTimeout wakes a millisecond late as often as not: sleep short of the goal, then spin. */
const SPIN_FROM_NS = 2 * NS_PER_MS;
const SLEEP_SHORT_BY_NS = 1.5 * NS_PER_MS;

export type Clock = {
  nowNs(): number;
  /** Calls back once, at or after `atNs`. Returns a function that cancels it. */
  wakeAt(atNs: number, callback: () => void): () => void;
};

/**
 * `precise` spins through the event loop for the last two milliseconds, which costs a core;
 * `coarse` accepts about a millisecond of lateness (published as start delay).
 */
export type Pacing = 'precise' | 'coarse';

/**
 * CLOCK_MONOTONIC in ns: the same for all threads and processes of a host. Exact to the ns for 104
 * days of uptime, and to less than a microsecond for centuries.
 */
export function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}

export function systemClock(pacing: Pacing): Clock {
  return {
    nowNs: monotonicNs,
    wakeAt: (atNs, callback) => {
      const waitNs = atNs - monotonicNs();
      if (waitNs <= 0 || (pacing === 'precise' && waitNs <= SPIN_FROM_NS)) {
        const immediate = setImmediate(callback);
        return () => clearImmediate(immediate);
      }
      const sleepNs = pacing === 'precise' ? waitNs - SLEEP_SHORT_BY_NS : waitNs;
      const timer = setTimeout(callback, Math.max(1, Math.floor(sleepNs / NS_PER_MS)));
      return () => clearTimeout(timer);
    },
  };
}
