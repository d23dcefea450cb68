/**
 * What is done to a cluster, and when: a list drawn from the seed before the run begins. Each
 * action carries its own draws, so that one can be taken out without changing what the others do;
 * that is what shrinking lives from.
 */

import type { Random } from '../random.ts';
import { PARTITION_KINDS, type PartitionKind } from './partitions.ts';
import type { TransferFault } from './transfer-plan.ts';

/** Resolved when the action is due. `pick` is in `[0, 1)`. */
export type Target = { readonly role: 'leader' | 'any'; readonly pick: number };

/** What of the writes that were not synced is on the disk after a crash. */
export type CrashLoss = 'nothing' | 'suffix' | 'subset' | 'everything';

/** What a crash loses, unless a row of the matrix has it otherwise: one of these. */
export const LOSSES: readonly CrashLoss[] = [
  'nothing',
  'suffix',
  'suffix',
  'subset',
  'subset',
  'everything',
];

export type NemesisAction = { readonly atUs: number } & (
  | {
      readonly kind: 'crash';
      readonly target: Target;
      readonly loss: CrashLoss;
      /** Which part is lost. */
      readonly draw: number;
      /** Disk operations that still succeed: the crash comes in the middle of a write. */
      readonly afterOperations: number;
      readonly downUs: number;
    }
  | { readonly kind: 'partition'; readonly partition: PartitionKind; readonly seed: number }
  | { readonly kind: 'reconnect' }
  | {
      readonly kind: 'clog';
      readonly target: Target;
      readonly direction: 'in' | 'out';
      readonly forUs: number;
    }
  | { readonly kind: 'transfer'; readonly target: Target }
  | { readonly kind: 'campaign'; readonly target: Target }
  | {
      readonly kind: 'configure';
      /** More than one voter leads by way of a joint configuration. */
      readonly changes: readonly {
        readonly target: Target;
        readonly suffrage: 'voter' | 'learner' | 'removed';
      }[];
    }
  | { readonly kind: 'compact'; readonly target: Target }
  | { readonly kind: 'slowDisk'; readonly target: Target; readonly forUs: number }
  | {
      readonly kind: 'diskFault';
      readonly target: Target;
      readonly fault: DiskFault;
      readonly draw: number;
    }
  | {
      readonly kind: 'pause';
      readonly target: Target;
      readonly forUs: number;
      /** Whether the monotonic clock goes on, as with SIGSTOP, or stands, as in a suspended host. */
      readonly clockRuns: boolean;
    }
  | TransferFault
  | { readonly kind: 'drift'; readonly target: Target; readonly ppm: number }
  | { readonly kind: 'clockJump'; readonly target: Target; readonly byUs: number }
);

/** `rot` flips a bit of what was durable long ago: the one fault that ends a node for good. */
export const DISK_FAULTS = ['syncError', 'writeError', 'readError', 'noSpace', 'rot'] as const;
export type DiskFault = (typeof DISK_FAULTS)[number];

export const NEMESES = [
  'crash',
  'partition',
  'flapping',
  'swizzleClog',
  'transfer',
  'campaign',
  'configure',
  'compact',
  'slowDisk',
  'diskFault',
  'pause',
  'drift',
  'clockJump',
] as const;
export type Nemesis = (typeof NEMESES)[number];

export function planNemesis(
  random: Random,
  options: {
    readonly enabled: ReadonlySet<Nemesis>;
    readonly losses: readonly CrashLoss[];
    readonly untilUs: number;
    readonly periodUs: number;
    readonly nodeCount: number;
  },
): NemesisAction[] {
  const { enabled, losses, untilUs, periodUs, nodeCount } = options;
  const kinds = NEMESES.filter((kind) => enabled.has(kind));
  if (kinds.length === 0) return [];
  const actions: NemesisAction[] = [];
  let atUs = periodUs;
  while (atUs < untilUs) {
    actions.push(...draw(random.pick(kinds), { atUs, random, nodeCount, losses }));
    atUs += Math.ceil(periodUs * (0.2 + 1.6 * random.next()));
  }
  return actions.toSorted((left, right) => left.atUs - right.atUs);
}

type Draw = {
  readonly atUs: number;
  readonly random: Random;
  readonly nodeCount: number;
  readonly losses: readonly CrashLoss[];
};

function draw(kind: Nemesis, { atUs, random, nodeCount, losses }: Draw): NemesisAction[] {
  const target = drawTarget(random);
  switch (kind) {
    case 'crash':
      return [
        {
          kind,
          atUs,
          target,
          loss: random.pick(losses),
          draw: random.next(),
          afterOperations: random.between(0, 12),
          downUs: random.between(1, random.pick([1_000, 100_000, 2_000_000])),
        },
      ];
    case 'partition':
      return [
        random.chance(0.2)
          ? { kind: 'reconnect', atUs }
          : {
              kind,
              atUs,
              partition: random.pick(PARTITION_KINDS),
              seed: random.between(0, 2 ** 31),
            },
      ];
    case 'flapping':
      return flapping(atUs, random);
    case 'swizzleClog':
      return swizzleClog({ atUs, random, nodeCount });
    case 'transfer':
    case 'campaign':
    case 'compact':
      return [{ kind, atUs, target }];
    case 'configure':
      return [{ kind, atUs, changes: changesOf(random) }];
    case 'slowDisk':
      return [{ kind, atUs, target, forUs: random.between(10_000, 1_000_000) }];
    case 'diskFault':
      return [{ kind, atUs, target, fault: random.pick(DISK_FAULTS), draw: random.next() }];
    case 'pause':
      return [
        {
          kind,
          atUs,
          target,
          forUs: random.between(10_000, 1_000_000),
          clockRuns: random.chance(0.5),
        },
      ];
    case 'drift':
      return [{ kind, atUs, target, ppm: random.between(-50_000, 50_000) }];
    case 'clockJump':
      return [{ kind, atUs, target, byUs: random.between(-2_000_000, 2_000_000) }];
  }
}

function changesOf(random: Random): (NemesisAction & { kind: 'configure' })['changes'] {
  return Array.from({ length: random.pick([1, 1, 1, 2, 2, 3]) }, () => ({
    target: drawTarget(random),
    suffrage: random.pick(['voter', 'learner', 'removed']),
  }));
}

function drawTarget(random: Random): Target {
  return { role: random.chance(0.4) ? 'leader' : 'any', pick: random.next() };
}

/** The same cut, there and gone again, faster than an election. */
function flapping(atUs: number, random: Random): NemesisAction[] {
  const kind = random.pick(PARTITION_KINDS);
  const seed = random.between(0, 2 ** 31);
  const periodUs = random.between(5_000, 100_000);
  return Array.from({ length: 2 * random.between(3, 8) }, (_, beat): NemesisAction => {
    const beatUs = atUs + beat * periodUs;
    return beat % 2 === 0
      ? { kind: 'partition', atUs: beatUs, partition: kind, seed }
      : { kind: 'reconnect', atUs: beatUs };
  });
}

/** FoundationDB's: clog the nodes one by one, and free them in another order. */
function swizzleClog({ atUs, random, nodeCount }: Omit<Draw, 'losses'>): NemesisAction[] {
  const spanUs = random.between(50_000, 500_000);
  return Array.from({ length: nodeCount }, (_, node): NemesisAction => {
    const startUs = random.between(0, spanUs);
    return {
      kind: 'clog',
      atUs: atUs + startUs,
      target: { role: 'any', pick: (node + 0.5) / nodeCount },
      direction: random.pick(['in', 'out']),
      forUs: spanUs + random.between(0, spanUs) - startUs,
    };
  });
}
