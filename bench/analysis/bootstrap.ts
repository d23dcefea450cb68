/** Intervals for statistics that have no formula: resample, recompute, take the middle 95 %. */

import assert from 'node:assert/strict';
import type { Random } from '../random.ts';

const RESAMPLES = 1000;
const TAIL = 0.025;

export type Interval = { readonly low: number; readonly high: number };

/**
 * Percentile bootstrap of `statistic`. Neighbors in time resemble each other: blocks of
 * `blockLength` consecutive units are drawn together (1 for independent units, such as restarts).
 */
export function bootstrapInterval<T>(options: {
  units: readonly T[];
  statistic: (units: readonly T[]) => number;
  blockLength: number;
  random: Random;
}): Interval {
  const estimates = bootstrapEstimates({
    ...options,
    statistics: (units) => [options.statistic(units)],
  });
  return intervalOf(estimates.map(([estimate]) => estimate ?? Number.NaN));
}

/** As `bootstrapInterval`, for several statistics of the same resamples. */
export function bootstrapIntervals<T>(options: {
  units: readonly T[];
  statistics: (units: readonly T[]) => readonly number[];
  blockLength: number;
  random: Random;
}): Interval[] {
  const estimates = bootstrapEstimates(options);
  return (estimates[0] ?? []).map((_, column) =>
    intervalOf(estimates.map((row) => row[column] ?? Number.NaN)),
  );
}

function bootstrapEstimates<T>(options: {
  units: readonly T[];
  statistics: (units: readonly T[]) => readonly number[];
  blockLength: number;
  random: Random;
}): (readonly number[])[] {
  const { units, statistics, blockLength, random } = options;
  assert(0 < units.length, 'nothing to resample');
  assert(0 < blockLength, `block must hold a unit: ${blockLength}`);
  return Array.from({ length: RESAMPLES }, () => {
    const resample: T[] = [];
    while (resample.length < units.length) {
      const start = random.below(units.length);
      // Blocks wrap around: each unit is drawn as often as any other.
      for (let offset = 0; offset < blockLength && resample.length < units.length; offset++) {
        const unit = units[(start + offset) % units.length];
        if (unit !== undefined) resample.push(unit);
      }
    }
    return statistics(resample);
  });
}

function intervalOf(estimates: readonly number[]): Interval {
  const sorted = estimates.filter((estimate) => !Number.isNaN(estimate)).toSorted((a, b) => a - b);
  const at = (p: number): number => sorted[Math.round(p * (sorted.length - 1))] ?? Number.NaN;
  return { low: at(TAIL), high: at(1 - TAIL) };
}
