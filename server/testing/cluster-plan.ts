/**
 * What a seed stands for: the shape of a simulated cluster and the faults it has to bear. Drawn at
 * random as a whole (swarm testing), because a cluster that suffers everything at once seldom gets
 * far enough for the rarer states.
 */

import type { CommitNotify } from '../raft/replication.ts';
import { Random } from './random.ts';

export type ClusterPlan = {
  readonly voterCount: number;
  /** Servers that start with an empty configuration and may join. */
  readonly spareCount: number;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly commitNotify: CommitNotify;
  readonly limits: {
    readonly appendBytesMax: number;
    readonly inflightAppendsMax: number;
    readonly uncommittedBytesMax: number;
  };
  /** How many applied entries a node keeps in its log. */
  readonly trailingEntries: number;
  readonly chaosMs: number;
  readonly proposalMs: number;
  readonly faultMs: number;
  readonly network: {
    readonly dropProbability: number;
    readonly duplicateProbability: number;
    readonly delayMsMax: number;
    /** A duplicate may arrive this much later, terms after it was sent. */
    readonly replayMsMax: number;
  };
  readonly diskMsMax: number;
  readonly faults: {
    readonly crash: boolean;
    readonly partition: boolean;
    readonly transfer: boolean;
    readonly campaign: boolean;
    readonly configuration: boolean;
    readonly compaction: boolean;
    readonly slowDisk: boolean;
    readonly pause: boolean;
  };
};

export function planCluster(seed: number): ClusterPlan {
  const random = new Random(seed, 'plan');
  const heartbeatTicks = random.between(1, 3);
  const electionTicks = heartbeatTicks * random.between(4, 8);
  const isLossy = random.chance(0.7);
  return {
    voterCount: random.pick([1, 2, 3, 3, 3, 4, 5, 5]),
    spareCount: random.between(0, 2),
    electionTicks,
    heartbeatTicks,
    commitNotify: random.chance(0.75)
      ? { kind: 'push' }
      : { kind: 'piggyback', timeoutTicks: random.between(2, 6) },
    limits: {
      appendBytesMax: random.pick([1, 60, 300, 65_536]),
      inflightAppendsMax: random.pick([1, 2, 4, 256]),
      uncommittedBytesMax: random.pick([1, 100, 2000, 1_000_000]),
    },
    trailingEntries: random.pick([0, 2, 10, 50]),
    chaosMs: random.between(1000, 3000),
    proposalMs: random.between(2, 40),
    faultMs: random.between(20, 250),
    network: {
      dropProbability: isLossy ? random.pick([0.01, 0.05, 0.2]) : 0,
      duplicateProbability: isLossy ? random.pick([0, 0.05, 0.2]) : 0,
      delayMsMax: random.pick([1, 5, 20, 60]),
      replayMsMax: random.pick([10, 1000]),
    },
    diskMsMax: random.pick([0, 2, 10, 40]),
    faults: {
      crash: random.chance(0.7),
      partition: random.chance(0.6),
      transfer: random.chance(0.5),
      campaign: random.chance(0.3),
      configuration: random.chance(0.6),
      compaction: random.chance(0.7),
      slowDisk: random.chance(0.3),
      pause: random.chance(0.3),
    },
  };
}
