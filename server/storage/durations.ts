/** What something costs, each time it happens, for metrics. */

export type DurationStatistics = {
  /** How many there were, the last of them, their sum, and the longest. */
  readonly count: number;
  readonly lastMs: number;
  readonly totalMs: number;
  readonly maxMs: number;
};

/** Of whole states that went somewhere. */
export type TransferStatistics = DurationStatistics & { readonly totalBytes: number };

export const NO_DURATIONS: DurationStatistics = { count: 0, lastMs: 0, totalMs: 0, maxMs: 0 };
export const NO_TRANSFERS: TransferStatistics = { ...NO_DURATIONS, totalBytes: 0 };

export class Durations {
  #statistics = NO_DURATIONS;

  add(ms: number): void {
    const { count, totalMs, maxMs } = this.#statistics;
    this.#statistics = {
      count: count + 1,
      lastMs: ms,
      totalMs: totalMs + ms,
      maxMs: Math.max(maxMs, ms),
    };
  }

  statistics(): DurationStatistics {
    return this.#statistics;
  }
}

export class Transfers {
  readonly #durations = new Durations();
  #totalBytes = 0;

  add(ms: number, bytes: number): void {
    this.#durations.add(ms);
    this.#totalBytes += bytes;
  }

  statistics(): TransferStatistics {
    return { ...this.#durations.statistics(), totalBytes: this.#totalBytes };
  }
}
