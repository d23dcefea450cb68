/** How long the log takes to make appends durable. */

export type AppendStatistics = {
  /** Appends that were synced, how long the last took, and the mean and the longest of all. */
  readonly count: number;
  readonly lastMs: number;
  readonly meanMs: number;
  readonly maxMs: number;
};

export class AppendTimes {
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

  statistics(): AppendStatistics {
    const meanMs = this.#count === 0 ? 0 : this.#totalMs / this.#count;
    return { count: this.#count, lastMs: this.#lastMs, meanMs, maxMs: this.#maxMs };
  }
}
