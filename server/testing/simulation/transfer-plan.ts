/**
 * How the nodes of the node world are connected, how whole states travel between them, and what
 * happens to that in the midst of it. Drawn from streams of its own: what else a seed draws stays.
 */

import type { LaneLimits } from '../../replica/peer-lanes.ts';
import { Random } from '../random.ts';
import type { CrashLoss, DiskFault, Nemesis, NemesisAction } from './nemesis.ts';
import type { StreamPlan } from './streams.ts';

/** Where in a transfer something may happen, in the order in which it gets there. */
export const TRANSFER_POINTS = [
  'snapshot is being built',
  'snapshot is built',
  'transfer is offered',
  'chunk is read',
  'part is opened',
  'chunk arrives',
  'chunk has arrived',
  'part is synced',
  'file is whole',
  'file is named',
  'name is durable',
  'installation begins',
  'store is replaced',
  'log is reset',
  'transfer is acknowledged',
] as const;
export type TransferPoint = (typeof TRANSFER_POINTS)[number];

export const TRANSFER_TROUBLES = ['crash', 'reset', 'depose', 'compact', 'diskFault'] as const;
export type TransferTrouble = (typeof TRANSFER_TROUBLES)[number];

export type TransferFault = {
  readonly kind: 'transferFault';
  readonly atUs: number;
  readonly point: TransferPoint;
  /** So many times the point is passed before. */
  readonly skips: number;
  readonly trouble: TransferTrouble;
  readonly loss: CrashLoss;
  readonly fault: DiskFault;
  readonly draw: number;
  readonly downUs: number;
};

export type TransferPlan = {
  /** Whether messages travel on peer lanes over byte streams, or as packets. */
  readonly carrier: 'lanes' | 'packets';
  readonly streams: StreamPlan;
  readonly lanes: LaneLimits;
  readonly chunkBytes: number;
  /** Sent and not acknowledged. */
  readonly windowBytes: number;
  /** Zero is no limit. */
  readonly bytesPerSecond: number;
  /** After so many a file that grows is synced. */
  readonly syncBytes: number;
  /** Whether each write waits for the device, as on a disk that cannot keep up. */
  readonly slowWrites: boolean;
  /** Of the log, kept for a follower that gets a snapshot. */
  readonly holdBytes: number;
};

const LANES_SHARE = 0.3;
/** Most of them wait for something that does not come. */
const FAULTS_MAX = 30;

export function planTransfers(seed: number): TransferPlan {
  const random = new Random(seed, 'transfers');
  return {
    carrier: random.chance(LANES_SHARE) ? 'lanes' : 'packets',
    streams: {
      windowBytes: random.pick([100, 1_000, 65_536]),
      cutProbability: random.pick([0, 0.1, 0.4]),
    },
    lanes: {
      controlAppendBytesMax: random.pick([60, 300, 65_536]),
      controlBacklogBytesMax: random.pick([200, 1_000, 262_144]),
      controlBytesMax: random.pick([300, 3_000, 1_048_576]),
      bulkBytesMax: random.pick([500, 5_000, 16_777_216]),
    },
    chunkBytes: random.pick([40, 200, 1_000]),
    windowBytes: random.pick([1, 300, 65_536]),
    bytesPerSecond: random.pick([0, 0, 10_000]),
    syncBytes: random.pick([100, 1_000, 65_536]),
    slowWrites: random.chance(0.3),
    holdBytes: random.pick([0, 500, 1_000_000]),
  };
}

/** Only beside what happens to disks and processes anyway: a seed without that stays calm. */
export function planTransferFaults(
  seed: number,
  options: {
    readonly enabled: ReadonlySet<Nemesis>;
    readonly losses: readonly CrashLoss[];
    readonly untilUs: number;
  },
): NemesisAction[] {
  const { enabled, losses, untilUs } = options;
  const random = new Random(seed, 'transfer faults');
  const troubles = TRANSFER_TROUBLES.filter((trouble) => {
    if (trouble === 'reset') return enabled.has('partition');
    return enabled.has(trouble === 'depose' ? 'transfer' : trouble);
  });
  if (troubles.length === 0) return [];
  return Array.from({ length: random.between(0, FAULTS_MAX) }, () => ({
    kind: 'transferFault',
    atUs: random.between(0, untilUs - 1),
    point: random.pick(TRANSFER_POINTS),
    skips: random.pick([0, 0, 1, 5]),
    trouble: random.pick(troubles),
    loss: random.pick(losses),
    fault: random.pick(['noSpace', 'noSpace', 'syncError', 'writeError', 'readError']),
    draw: random.next(),
    downUs: random.between(1, random.pick([1_000, 100_000, 2_000_000])),
  }));
}
