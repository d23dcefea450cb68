/** What raft's side says of its own speed and health, for metrics. */

export type DurationStatistics = {
  /** How many there were, the last of them, their sum, and the longest. */
  readonly count: number;
  readonly lastMs: number;
  readonly totalMs: number;
  readonly maxMs: number;
};

export type DriverStatistics = {
  /** How long the log took to make appends durable. */
  readonly appends: DurationStatistics;
  /** On the leader: from the proposal of a batch until all of it was committed. */
  readonly commits: DurationStatistics;
  /** By how much the latest of all ticks came after its time. */
  readonly tickLatenessMsMax: number;
};

export type RaftStatistics = DriverStatistics & {
  /** How often this node stood for election, pre-votes included. */
  readonly electionCount: number;
  /** Since a follower last heard of its leader; 0 on the leader itself. */
  readonly leaderContactMs: number;
  /** What the network has not taken yet, of all peers. */
  readonly peerBacklogBytes: number;
};

const NONE: DurationStatistics = { count: 0, lastMs: 0, totalMs: 0, maxMs: 0 };

export const NO_STATISTICS: RaftStatistics = {
  appends: NONE,
  commits: NONE,
  tickLatenessMsMax: 0,
  electionCount: 0,
  leaderContactMs: 0,
  peerBacklogBytes: 0,
};

export class Durations {
  #statistics = NONE;

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

/** How long batches took from their proposal to their commit. */
export class CommitTimes {
  readonly #durations = new Durations();
  /** In the order of their indexes. */
  #proposed: { readonly lastIndex: number; readonly startMs: number }[] = [];

  proposed(lastIndex: number, startMs: number): void {
    this.#proposed.push({ lastIndex, startMs });
  }

  committed(index: number, nowMs: number): void {
    for (;;) {
      const first = this.#proposed[0];
      if (first === undefined || index < first.lastIndex) return;
      this.#proposed.shift();
      this.#durations.add(nowMs - first.startMs);
    }
  }

  /** What was proposed before may be committed in another term, or never. */
  leadershipLost(): void {
    this.#proposed = [];
  }

  statistics(): DurationStatistics {
    return this.#durations.statistics();
  }
}
