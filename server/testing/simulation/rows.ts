/** Rows of the nemesis matrix: one kind of trouble alone, where a whole swarm would hide its price. */

import type { Nemesis } from './nemesis.ts';
import type { NetworkPlan } from './network.ts';

export type Row = {
  readonly nemeses: readonly Nemesis[];
  /** Over what the seed draws. */
  readonly network: Partial<NetworkPlan>;
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
  clocks: { nemeses: ['pause', 'drift', 'clockJump'], network: CALM },
  disks: { nemeses: ['slowDisk', 'diskFault', 'crash'], network: CALM },
  corruption: { nemeses: ['diskFault'], network: { ...CALM, corruptProbability: 0.03 } },
  membership: {
    nemeses: ['configure', 'transfer', 'campaign', 'compact', 'crash'],
    network: CALM,
  },
};
