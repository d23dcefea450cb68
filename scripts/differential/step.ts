/** What a seed does to both sides: how the cluster is made up, and a list of steps. */

import { Random } from '../../server/testing/random.ts';

/** How often each kind comes, of the sum of all. */
const WEIGHTS = {
  deliver: 30,
  settle: 14,
  tick: 20,
  propose: 14,
  campaign: 3,
  read: 5,
  configure: 5,
  compact: 5,
  restart: 2,
  transfer: 3,
  drop: 4,
  duplicate: 4,
  unreachable: 1,
  cut: 6,
  silence: 5,
} as const;

export type StepKind = keyof typeof WEIGHTS;

/** `seed` is all that a step draws from: one that is taken away changes no other. */
export type Step = { readonly kind: StepKind; readonly seed: number };

export type Scenario = {
  readonly seed: number;
  /** The first servers are voters, the next ones learners, the last ones no members. */
  readonly voterCount: number;
  readonly learnerCount: number;
  readonly spareCount: number;
  readonly electionTicks: number;
  readonly timeoutTicks: number;
  readonly heartbeatTicks: number;
  readonly appendBytesMax: number;
  readonly inflightAppendsMax: number;
  /** Whose messages travel; the other side is given the same ones in its own words. */
  readonly carried: 'ours' | 'etcd';
  /** Within a link, or messages overtake each other as they like. */
  readonly isOrdered: boolean;
  readonly steps: readonly Step[];
};

export function founders({ voterCount, learnerCount }: Scenario): {
  readonly voters: readonly number[];
  readonly learners: readonly number[];
} {
  return {
    voters: numbersFrom(1, voterCount),
    learners: numbersFrom(voterCount + 1, learnerCount),
  };
}

function numbersFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, offset) => first + offset);
}

export function scenarioOf(seed: number, stepCount: number): Scenario {
  const random = new Random(seed, 'differential');
  const electionTicks = random.between(3, 8);
  const kinds = Object.keys(WEIGHTS) as StepKind[];
  const bag = kinds.flatMap((kind) => new Array<StepKind>(WEIGHTS[kind]).fill(kind));
  return {
    seed,
    voterCount: random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5]),
    learnerCount: 0,
    spareCount: random.between(0, 2),
    electionTicks,
    timeoutTicks: random.between(electionTicks, 2 * electionTicks - 1),
    heartbeatTicks: random.between(1, 2),
    appendBytesMax: random.pick([1, 60, 100_000]),
    inflightAppendsMax: random.pick([1, 3, 64]),
    carried: random.pick(['ours', 'etcd']),
    isOrdered: random.chance(0.5),
    steps: Array.from({ length: stepCount }, () => ({
      kind: random.pick(bag),
      seed: random.between(0, 2 ** 32 - 1),
    })),
  };
}
