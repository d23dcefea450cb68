/**
 * The comparison of two modes measured in pairs: same plan, interleaved, one difference per pair.
 *
 * The estimate is Hodges and Lehmann's (the median of all pairwise means), which a single bad pair
 * cannot move; the test flips the signs of the differences, exactly for up to 16 pairs. The
 * interval holds the shifts that the same test would not reject.
 */

import assert from 'node:assert/strict';
import type { Random } from '../random.ts';
import type { Measured } from './gates.ts';

/** 2^16 sign patterns are still enumerated. */
const EXACT_PAIRS_MAX = 16;

const RANDOM_FLIPS = 10_000;

/** With five pairs the smallest two-sided p is 2 / 32 > 0.05: nothing could be said. */
const PAIRS_MIN = 6;

const Z_95 = 1.959964;

export type PairedComparison = {
  readonly pairCount: number;
  /** Hodges-Lehmann estimate of the difference, with the bounds of its 95 % interval. */
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
  /** Two-sided, of the sign-flip permutation test. */
  readonly pValue: number;
};

/** Returns undefined where there are fewer than six pairs. */
export function comparePaired(
  differences: readonly number[],
  random: Random,
): PairedComparison | undefined {
  const pairCount = differences.length;
  if (pairCount < PAIRS_MIN) return undefined;

  const averages = walshAverages(differences);
  // Ranks of the Walsh averages that bound the signed-rank interval (Hollander and Wolfe, 3.3).
  const skip = signedRankCritical(pairCount);
  return {
    pairCount,
    estimate: median(averages),
    low: averages[skip] ?? Number.NaN,
    high: averages[averages.length - 1 - skip] ?? Number.NaN,
    pValue: signFlipP(differences, random),
  };
}

/** The difference as a figure for a report. */
export function measuredDifference(
  differences: readonly number[],
  unit: string,
  random: Random,
): Measured {
  const compared = comparePaired(differences, random);
  if (compared === undefined)
    return { refused: `needs ${PAIRS_MIN} pairs, has ${differences.length}` };
  const { estimate: value, low, high, pairCount: samples } = compared;
  return { value, unit, low, high, samples };
}

/** The ratio `right` / `left`, compared on the logarithmic scale: 0.9 and 1 / 0.9 weigh the same. */
export function measuredRatio(
  pairs: readonly { readonly left: number; readonly right: number }[],
  random: Random,
): Measured {
  const differences = pairs.map(({ left, right }) => {
    assert(0 < left && 0 < right, 'a ratio needs positive figures');
    return Math.log(right / left);
  });
  const measured = measuredDifference(differences, 'ratio', random);
  if ('refused' in measured) return measured;
  const { value, low, high, samples } = measured;
  return {
    value: Math.exp(value),
    unit: 'ratio',
    ...(low === undefined ? {} : { low: Math.exp(low) }),
    ...(high === undefined ? {} : { high: Math.exp(high) }),
    ...(samples === undefined ? {} : { samples }),
  };
}

/** Returns the p-value of the hypothesis that the differences are symmetric around zero. */
export function signFlipP(differences: readonly number[], random: Random): number {
  const observed = Math.abs(sum(differences));
  // A sum of the same numbers in another order may differ in its last bits.
  const threshold = observed * (1 - 1e-12);
  if (differences.length <= EXACT_PAIRS_MAX) {
    const patterns = 2 ** differences.length;
    let extreme = 0;
    for (let pattern = 0; pattern < patterns; pattern++) {
      if (Math.abs(flippedSum(differences, (index) => (pattern >> index) & 1)) >= threshold)
        extreme++;
    }
    return extreme / patterns;
  }
  let extreme = 1;
  for (let flip = 0; flip < RANDOM_FLIPS; flip++) {
    if (Math.abs(flippedSum(differences, () => random.below(2))) >= threshold) extreme++;
  }
  return extreme / (RANDOM_FLIPS + 1);
}

function flippedSum(differences: readonly number[], bit: (index: number) => number): number {
  let total = 0;
  for (let index = 0; index < differences.length; index++) {
    const difference = differences[index] ?? 0;
    total += bit(index) === 1 ? -difference : difference;
  }
  return total;
}

function walshAverages(differences: readonly number[]): number[] {
  const averages: number[] = [];
  for (const [index, left] of differences.entries()) {
    for (const right of differences.slice(index)) averages.push((left + right) / 2);
  }
  return averages.toSorted((left, right) => left - right);
}

/**
 * Returns the largest t that the signed-rank statistic does not exceed with a probability of at most
 * 2.5 %: so many averages are cut off at either end. Exact up to 60 pairs.
 */
function signedRankCritical(pairCount: number): number {
  if (pairCount > 60) {
    const mean = (pairCount * (pairCount + 1)) / 4;
    const deviation = Math.sqrt((pairCount * (pairCount + 1) * (2 * pairCount + 1)) / 24);
    return Math.max(0, Math.floor(mean - 0.5 - Z_95 * deviation));
  }
  const rankSum = (pairCount * (pairCount + 1)) / 2;
  let ways = new Float64Array(rankSum + 1);
  ways[0] = 1;
  for (let rank = 1; rank <= pairCount; rank++) {
    const next = Float64Array.from(ways);
    for (let total = rank; total <= rankSum; total++) {
      next[total] = (ways[total] ?? 0) + (ways[total - rank] ?? 0);
    }
    ways = next;
  }
  let cumulated = 0;
  for (let total = 0; total <= rankSum; total++) {
    cumulated += (ways[total] ?? 0) / 2 ** pairCount;
    if (cumulated > 0.025) return total - 1;
  }
  assert.fail('probabilities do not sum to one');
}

/** Returns the median of numbers in ascending order. */
export function median(sorted: readonly number[]): number {
  assert(0 < sorted.length, 'no median of nothing');
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
