/** What raft's side says of its own speed and health, for metrics. */

import type { DurationStatistics, TransferStatistics } from '../storage/durations.ts';
import { Durations, NO_DURATIONS, NO_TRANSFERS } from '../storage/durations.ts';

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
  /** What the network has not taken yet. */
  readonly peers: readonly { readonly id: string; readonly backlogBytes: number }[];
  readonly snapshotsSent: TransferStatistics;
  readonly snapshotsReceived: TransferStatistics;
  /** How long what raft's thread says waits to be heard by this one; nothing if they are one. */
  readonly mailbox: DurationStatistics;
};

export const NO_STATISTICS: RaftStatistics = {
  appends: NO_DURATIONS,
  commits: NO_DURATIONS,
  tickLatenessMsMax: 0,
  electionCount: 0,
  leaderContactMs: 0,
  peers: [],
  snapshotsSent: NO_TRANSFERS,
  snapshotsReceived: NO_TRANSFERS,
  mailbox: NO_DURATIONS,
};

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
