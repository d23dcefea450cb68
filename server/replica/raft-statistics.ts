/** What the loop around raft says of its own speed, for metrics. */

export type AppendStatistics = {
  /** Appends that were synced, how long the last took, and the mean and the longest of all. */
  readonly count: number;
  readonly lastMs: number;
  readonly meanMs: number;
  readonly maxMs: number;
};

export type RaftStatistics = {
  /** How long the log took to make appends durable. */
  readonly appends: AppendStatistics;
  /** By how much the latest of all ticks came after its time. */
  readonly tickLatenessMsMax: number;
};

export const NO_STATISTICS: RaftStatistics = {
  appends: { count: 0, lastMs: 0, meanMs: 0, maxMs: 0 },
  tickLatenessMsMax: 0,
};

/** Counts durations. */
export class Durations {
  #count = 0;
  #lastMs = 0;
  #totalMs = 0;
  #maxMs = 0;

  add(ms: number): void {
    this.#count += 1;
    this.#lastMs = ms;
    this.#totalMs += ms;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  summary(): AppendStatistics {
    const meanMs = this.#count === 0 ? 0 : this.#totalMs / this.#count;
    return { count: this.#count, lastMs: this.#lastMs, meanMs, maxMs: this.#maxMs };
  }
}
