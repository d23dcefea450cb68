/**
 * The matrix of nemeses and workloads: one kind of trouble alone, where a whole swarm would hide its
 * price, met by clients that all want the same.
 */

import type { ReadLevel } from '../history/operation.ts';
import type { CrashLoss, Nemesis } from './nemesis.ts';
import type { NetworkPlan } from './network.ts';

export type Row = {
  readonly nemeses: readonly Nemesis[];
  /** Over what the seed draws. */
  readonly network: Partial<NetworkPlan>;
  /** What crashes lose, if not anything. */
  readonly losses?: readonly CrashLoss[];
};

export type Workload = {
  readonly readShare: number;
  /** Of reads; one that stands twice is drawn twice as often. */
  readonly levels: readonly ReadLevel[];
  /** Of one write. */
  readonly keysMax: number;
  /** Of the writes: those that only hold if nothing has changed since their keys were read. */
  readonly conditionalShare: number;
  /** What is done to the cluster beside the trouble of the row. */
  readonly nemeses: readonly Nemesis[];
};

const CALM = {
  dropProbability: 0,
  duplicateProbability: 0,
  corruptProbability: 0,
  replayProbability: 0,
};

export const ROWS: Readonly<Record<string, Row>> = {
  none: { nemeses: [], network: CALM },
  network: {
    nemeses: [],
    network: {
      mode: 'datagram',
      dropProbability: 0.1,
      duplicateProbability: 0.1,
      replayProbability: 0.05,
    },
  },
  partitions: { nemeses: ['partition', 'flapping', 'swizzleClog'], network: CALM },
  crashes: { nemeses: ['crash'], network: CALM },
  'power-loss': {
    nemeses: ['crash'],
    network: CALM,
    losses: ['suffix', 'subset', 'subset', 'everything'],
  },
  clocks: { nemeses: ['pause', 'drift', 'clockJump'], network: CALM },
  disks: { nemeses: ['slowDisk', 'diskFault', 'crash'], network: CALM },
  corruption: { nemeses: ['diskFault'], network: { ...CALM, corruptProbability: 0.03 } },
  transfers: {
    nemeses: ['crash', 'partition', 'transfer', 'compact', 'diskFault'],
    network: CALM,
  },
  membership: {
    nemeses: ['configure', 'transfer', 'campaign', 'compact', 'crash'],
    network: CALM,
  },
};

/** Anything, as all clients together would. */
export const SWARM_WORKLOAD: Workload = {
  readShare: 0.3,
  levels: ['stale', 'linearizable', 'linearizable', 'bounded', 'session'],
  keysMax: 3,
  conditionalShare: 0.3,
  nemeses: [],
};

const READERS = { readShare: 0.6, keysMax: 2, conditionalShare: 0.1, nemeses: [] };

export const WORKLOADS: Readonly<Record<string, Workload>> = {
  register: {
    readShare: 0.4,
    levels: ['linearizable'],
    keysMax: 1,
    conditionalShare: 0,
    nemeses: [],
  },
  transactions: { ...SWARM_WORKLOAD, conditionalShare: 0.8 },
  session: { ...READERS, levels: ['session'] },
  bounded: { ...READERS, levels: ['bounded'] },
  membership: { ...SWARM_WORKLOAD, nemeses: ['configure', 'transfer', 'compact'] },
};

/** The row of which nothing is known before the seed has drawn it. */
export const SWARM = 'swarm';

/** Seeds of each cell, in the order of `WORKLOADS`: about as many as a pull request can wait for. */
export const SEEDS: Readonly<Record<string, readonly number[]>> = {
  none: [20, 20, 20, 20, 20],
  network: [50, 50, 50, 30, 50],
  partitions: [100, 50, 100, 50, 100],
  crashes: [100, 100, 50, 20, 100],
  'power-loss': [100, 100, 50, 0, 50],
  clocks: [50, 20, 50, 100, 20],
  disks: [30, 30, 20, 20, 20],
  corruption: [30, 30, 0, 0, 20],
  transfers: [50, 30, 20, 0, 50],
  [SWARM]: [200, 200, 200, 100, 200],
};
