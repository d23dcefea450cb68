/**
 * What a seed stands for: the shape of a cluster, its network and disks, what is asked of it, and
 * what is done to it. Drawn at random as a whole (swarm testing), because a cluster that suffers
 * everything at once seldom gets far enough for the rarer states; limits are often tiny, because
 * what is at its limit behaves in a way of its own.
 *
 * A plan is plain data: shrinking takes parts of it away and runs what is left.
 */

import type { NodeId } from '../../raft/message.ts';
import type { CommitNotify } from '../../raft/replication.ts';
import { leaseMsOf } from '../../replica/lease.ts';
import { CHUNK_BYTES } from '../../storage/chunking.ts';
import { Random } from '../random.ts';
import { SWARM_WORKLOAD, type Row, type Workload } from './matrix.ts';
import { LOSSES, NEMESES, planNemesis, type Nemesis, type NemesisAction } from './nemesis.ts';
import type { NetworkPlan } from './network.ts';
import { planTransferFaults, planTransfers, type TransferPlan } from './transfer-plan.ts';

/** A client's request: to the leader it believes in, or to just any node. */
export type Operation = {
  readonly atUs: number;
  readonly client: number;
  readonly toLeader: boolean;
  readonly pick: number;
  /** Asks for a read index instead of proposing. */
  readonly isRead: boolean;
  /** Bytes of each command that is proposed together. */
  readonly sizes: readonly number[];
};

export type Plan = {
  readonly seed: number;
  readonly voterCount: number;
  /** Servers that start with an empty configuration and may join. */
  readonly spareCount: number;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Zero: reads of the leader need a round trip. */
  readonly leaseMs: number;
  readonly commitNotify: CommitNotify;
  readonly limits: {
    readonly appendBytesMax: number;
    readonly inflightAppendsMax: number;
    readonly uncommittedBytesMax: number;
  };
  /** How many applied entries a node keeps in its log. */
  readonly trailingEntries: number;
  readonly compactsBySize: boolean;
  /** When a batch is visible: with or before its durability. Of the node world. */
  readonly storeMode: 'sync' | 'overlay';
  /** Larger commands travel in chunks. Of the node world. */
  readonly chunkBytes: number;
  /** What clients do. Of the node world. */
  readonly workload: Workload;
  /** How nodes are connected. Of the node world. */
  readonly transfers: TransferPlan;
  readonly chaosUs: number;
  readonly network: NetworkPlan;
  /** A disk write takes up to this long. */
  readonly diskUsMax: number;
  readonly nemesis: readonly NemesisAction[];
  readonly operations: readonly Operation[];
};

/** Of the matrix; without them a seed draws whatever there is. */
export type Cell = { readonly row?: Row | undefined; readonly workload?: Workload | undefined };

export const TICK_US = 10_000;
/** The most that one operation proposes. */
export const PROPOSAL_BYTES_MAX = 300;
const CLIENTS = 4;

export function nodeIds({ voterCount, spareCount }: Plan): NodeId[] {
  return Array.from({ length: voterCount + spareCount }, (_, position) => `n${position + 1}`);
}

export function planOf(seed: number, { row, workload = SWARM_WORKLOAD }: Cell = {}): Plan {
  const random = new Random(seed, 'plan');
  const heartbeatTicks = random.between(1, 3);
  const electionTicks = heartbeatTicks * random.between(4, 8);
  const voterCount = random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5, 7]);
  const spareCount = random.between(0, 2);
  const chaosUs = random.between(2_000_000, 7_000_000);
  return {
    seed,
    voterCount,
    spareCount,
    electionTicks,
    heartbeatTicks,
    leaseMs: random.chance(0.5) ? leaseMsOf(electionTicks, TICK_US / 1000) : 0,
    commitNotify: random.chance(0.75)
      ? { kind: 'push', isGathered: new Random(seed, 'gathering').chance(0.5) }
      : { kind: 'piggyback', timeoutTicks: random.between(2, 6) },
    limits: {
      appendBytesMax: random.pick([1, 60, 300, 65_536]),
      inflightAppendsMax: random.pick([1, 2, 4, 256]),
      uncommittedBytesMax: random.pick([1, 100, 2000, 1_000_000]),
    },
    trailingEntries: random.pick([0, 2, 10, 50]),
    compactsBySize: random.chance(0.7),
    storeMode: random.chance(0.5) ? 'sync' : 'overlay',
    chunkBytes: new Random(seed, 'chunks').pick([30, 150, CHUNK_BYTES, CHUNK_BYTES]),
    workload,
    chaosUs,
    network: { ...planNetwork(random), ...row?.network },
    diskUsMax: random.pick([0, 2_000, 10_000, 40_000]),
    transfers: planTransfers(seed),
    nemesis: planTroubles(random, {
      ...{ seed, row, workload },
      untilUs: chaosUs,
      nodeCount: voterCount + spareCount,
    }),
    operations: planOperations(new Random(seed, 'workload'), workload, {
      untilUs: chaosUs,
      periodUs: random.between(2_000, 40_000),
    }),
  };
}

function planNetwork(random: Random): NetworkPlan {
  const isLossy = random.chance(0.7);
  return {
    mode: random.chance(0.5) ? 'datagram' : 'stream',
    dropProbability: isLossy ? random.pick([0.01, 0.05, 0.2]) : 0,
    duplicateProbability: isLossy ? random.pick([0, 0.05, 0.2]) : 0,
    corruptProbability: isLossy ? random.pick([0, 0, 0.02]) : 0,
    replayProbability: isLossy ? random.pick([0, 0, 0.05]) : 0,
    delayUsMin: random.pick([20, 500, 5_000]),
    delayUsMean: random.pick([100, 1_000, 8_000, 25_000]),
    duplicateDelayUsMax: random.pick([10_000, 1_000_000]),
    bytesPerSecond: random.pick([0, 0, 0, 200_000]),
  };
}

function planTroubles(
  random: Random,
  options: {
    readonly seed: number;
    readonly row: Row | undefined;
    readonly workload: Workload;
    readonly untilUs: number;
    readonly nodeCount: number;
  },
): NemesisAction[] {
  const { seed, row, workload, untilUs, nodeCount } = options;
  const enabled = new Set([...(row?.nemeses ?? drawNemeses(random)), ...workload.nemeses]);
  const losses = row?.losses ?? LOSSES;
  const periodUs = random.between(20_000, 300_000);
  const place = { enabled, losses, untilUs };
  return [
    ...planNemesis(new Random(seed, 'nemesis'), { ...place, periodUs, nodeCount }),
    ...planTransferFaults(seed, place),
  ];
}

/** Any two of them meet in some seed, and each is absent in some. */
function drawNemeses(random: Random): ReadonlySet<Nemesis> {
  const isCalm = random.chance(0.05);
  const share = random.pick([0.2, 0.5, 0.8]);
  return new Set(NEMESES.filter(() => !isCalm && random.chance(share)));
}

function planOperations(
  random: Random,
  { readShare, keysMax }: Workload,
  { untilUs, periodUs }: { readonly untilUs: number; readonly periodUs: number },
): Operation[] {
  const operations: Operation[] = [];
  for (let atUs = 0; atUs < untilUs; atUs += Math.ceil(periodUs * 2 * random.next()) + 1) {
    operations.push({
      atUs,
      client: random.between(1, CLIENTS),
      toLeader: random.chance(0.8),
      pick: random.next(),
      isRead: random.chance(readShare),
      sizes: Array.from({ length: random.between(1, keysMax) }, () => random.pick([8, 16, 100])),
    });
  }
  return operations;
}
