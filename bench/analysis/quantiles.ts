/**
 * Quantiles with intervals that assume nothing about the distribution, and the refusal to name one
 * that the samples cannot support.
 *
 * - The interval comes from order statistics: the number of samples below the true p-quantile is
 *   binomial, so the ranks n p -+ 1.96 sqrt(n p (1 - p)) enclose it in 95 % of all runs.
 * - Samples of one run are autocorrelated (a slow second is slow for everybody). n is therefore
 *   replaced by the effective sample size, estimated by batch means of the indicator "above the
 *   quantile", and the interval widens accordingly.
 * - A quantile needs 100 effective samples beyond it: 10 000 for p99.
 * - Timed-out requests are known only to be longer than a bound: a quantile among them is refused
 *   as "> bound", and so is one whose interval reaches them. A difference whose subtrahend timed out
 *   is known only to be shorter: "< bound". A quantile that dropped requests could have moved is
 *   refused too.
 * - A quantile is trusted while at least 90 % of the samples above it owe little to the
 *   generator's own lateness; from the first that is not, all higher ones are refused. For
 *   differences the samples below it must be as clean.
 */

import assert from 'node:assert/strict';
import { formatCount, type Measured, type Refused } from './gates.ts';

const Z_95 = 1.959964;

/** Effective samples beyond a quantile without which it is not named. */
export const EXCEEDANCES_MIN = 100;

/** With fewer, the upper bound of the interval would lie beyond the largest sample. */
const EXCEEDANCES_LEAST = 4;

/** Batches for batch means: enough to estimate a variance, few enough to be long. */
const BATCH_COUNT = 40;

/** Share of clean samples above a quantile below which it is refused. */
const CLEAN_TAIL_SHARE_MIN = 0.9;

/** Columns of equal length, in the order in which the requests were meant to start. */
export type QuantileSeries = {
  readonly values: ArrayLike<number>;
  readonly unit: string;
  /** 1 where the value is only a lower bound. */
  readonly isCensored?: ArrayLike<number>;
  /** 1 where the value is only an upper bound: a difference whose subtrahend is a lower bound. */
  readonly isUpperBound?: ArrayLike<number>;
  /** 0 where the measuring instrument itself disturbed the value. */
  readonly isClean?: ArrayLike<number>;
  /** Requests that were due and never started: they belong above every value. */
  readonly droppedCount?: number;
};

export type QuantileOptions = {
  /**
   * Where samples are dear (isolated writes, one a second) fewer effective samples beyond a quantile
   * may do; the interval then says how little is known. `EXCEEDANCES_MIN` unless given.
   */
  readonly exceedancesMin?: number;
  /**
   * Lateness makes a duration longer, but a difference longer or shorter: of differences `both`
   * tails must be clean. `upper` unless given.
   */
  readonly cleanTails?: 'upper' | 'both';
};

/** Returns the quantiles `ps` (ascending, each in (0, 1)) of the series, in the same order. */
export function quantiles(
  series: QuantileSeries,
  ps: readonly number[],
  options: QuantileOptions = {},
): Measured[] {
  const { exceedancesMin = EXCEEDANCES_MIN, cleanTails = 'upper' } = options;
  assert(EXCEEDANCES_LEAST <= exceedancesMin, `too few exceedances: ${exceedancesMin}`);
  const sorted = sortSeries(series);
  let untrusted: Refused | undefined;
  return ps.map((p, index) => {
    assert(0 < p && p < 1, `quantile must lie between 0 and 1: ${p}`);
    assert(index === 0 || (ps[index - 1] ?? 0) < p, 'quantiles must ascend');
    untrusted ??= tailRefusal(sorted, p);
    const refusal = untrusted ?? (cleanTails === 'both' ? lowerTailRefusal(sorted, p) : undefined);
    return refusal ?? quantileOf({ series, sorted, p, exceedancesMin });
  });
}

/** Returns one quantile of the series; see `quantiles`. */
export function quantile(
  series: QuantileSeries,
  p: number,
  options: QuantileOptions = {},
): Measured {
  const [measured] = quantiles(series, [p], options);
  assert(measured !== undefined);
  return measured;
}

type SortedSeries = {
  readonly values: Float64Array;
  /** cleanAbove[i]: clean samples among values[i..]. */
  readonly cleanAbove: Uint32Array;
  /** The lowest censored value; infinite where there is none. */
  readonly censoredFrom: number;
  /** The highest value that is an upper bound; minus infinite where there is none. */
  readonly censoredTo: number;
  readonly droppedCount: number;
};

function sortSeries(series: QuantileSeries): SortedSeries {
  const { values, isCensored, isUpperBound, isClean } = series;
  const order = Uint32Array.from({ length: values.length }, (_, index) => index);
  order.sort((left, right) => (values[left] ?? 0) - (values[right] ?? 0));

  const sorted = new Float64Array(values.length);
  const cleanAbove = new Uint32Array(values.length + 1);
  let censoredFrom = Number.POSITIVE_INFINITY;
  let censoredTo = Number.NEGATIVE_INFINITY;
  for (let rank = values.length - 1; rank >= 0; rank--) {
    const index = order[rank] ?? 0;
    sorted[rank] = values[index] ?? 0;
    cleanAbove[rank] = (cleanAbove[rank + 1] ?? 0) + ((isClean?.[index] ?? 1) === 0 ? 0 : 1);
    if (isCensored?.[index] === 1) censoredFrom = Math.min(censoredFrom, values[index] ?? 0);
    if (isUpperBound?.[index] === 1) censoredTo = Math.max(censoredTo, values[index] ?? 0);
  }
  const droppedCount = series.droppedCount ?? 0;
  return { values: sorted, cleanAbove, censoredFrom, censoredTo, droppedCount };
}

function quantileOf(asked: {
  series: QuantileSeries;
  sorted: SortedSeries;
  p: number;
  exceedancesMin: number;
}): Measured {
  const { series, sorted, p, exceedancesMin } = asked;
  const { values, droppedCount } = sorted;
  const total = values.length + droppedCount;
  if (values.length === 0) return { refused: 'no samples' };
  // Dropped requests count as slower than all others: a quantile among them has no value.
  if (droppedCount > 0 && p >= 1 - droppedCount / total) {
    return { refused: `${formatCount(droppedCount)} requests were dropped` };
  }

  const value = valueAt(sorted, Math.ceil(p * total - 1e-9));
  const beyond = censoredRefusal(sorted, value, value, series.unit);
  if (beyond !== undefined) return beyond;

  const effective = effectiveSampleSize(indicator(series.values, value), series.values.length);
  const needed = Math.round(exceedancesMin / (1 - p));
  if (effective < needed) {
    return {
      refused: `needs ${formatCount(needed)} effective samples, has ${formatCount(effective)}`,
    };
  }

  const spread = Z_95 * Math.sqrt((p * (1 - p)) / effective);
  const low = valueAt(sorted, Math.floor(Math.max(0, p - spread) * total));
  const highRank = Math.ceil(Math.min(1, p + spread) * total);
  if (droppedCount > 0 && values.length < highRank) {
    return { refused: `${formatCount(droppedCount)} requests were dropped` };
  }
  const high = valueAt(sorted, highRank);
  return (
    censoredRefusal(sorted, low, high, series.unit) ?? {
      value,
      unit: series.unit,
      low,
      high,
      samples: Math.floor(effective),
    }
  );
}

/** Where a bound stands at or before an end, that end is somewhere beyond it. */
function censoredRefusal(
  { censoredFrom, censoredTo }: SortedSeries,
  low: number,
  high: number,
  unit: string,
): Refused | undefined {
  if (censoredFrom <= high) return { refused: `> ${formatBound(censoredFrom, unit)}` };
  if (low <= censoredTo) return { refused: `< ${formatBound(censoredTo, unit)}` };
  return undefined;
}

function tailRefusal(sorted: SortedSeries, p: number): Refused | undefined {
  const rank = Math.floor(p * sorted.values.length);
  const above = sorted.values.length - rank;
  if (above === 0) return undefined;
  const cleanShare = (sorted.cleanAbove[rank] ?? 0) / above;
  if (cleanShare >= CLEAN_TAIL_SHARE_MIN) return undefined;
  const percent = Math.round((1 - cleanShare) * 100);
  return { refused: `${percent} % of the tail above p${label(p)} is generator lag` };
}

function lowerTailRefusal(sorted: SortedSeries, p: number): Refused | undefined {
  const { values, cleanAbove } = sorted;
  const rank = Math.ceil(p * values.length);
  if (rank === 0) return undefined;
  const cleanShare = ((cleanAbove[0] ?? 0) - (cleanAbove[rank] ?? 0)) / rank;
  if (cleanShare >= CLEAN_TAIL_SHARE_MIN) return undefined;
  const percent = Math.round((1 - cleanShare) * 100);
  return { refused: `${percent} % of the tail below p${label(p)} is generator lag` };
}

/** The `rank`-th smallest value, counting from 1, clamped to the samples there are. */
function valueAt(sorted: SortedSeries, rank: number): number {
  const index = Math.min(Math.max(rank, 1), sorted.values.length) - 1;
  return sorted.values[index] ?? 0;
}

function indicator(values: ArrayLike<number>, bound: number): (index: number) => number {
  return (index) => ((values[index] ?? 0) > bound ? 1 : 0);
}

/**
 * Returns how many independent samples a series of `length` autocorrelated ones is worth, by batch
 * means: n s^2 / (B s_B^2), at most n.
 */
export function effectiveSampleSize(
  valueAtIndex: (index: number) => number,
  length: number,
): number {
  const batchLength = Math.floor(length / BATCH_COUNT);
  // Too short to tell: the samples needed are far more than this, so nothing hangs on it.
  if (batchLength < 2) return length;

  const used = batchLength * BATCH_COUNT;
  let sum = 0;
  let squares = 0;
  const batchMeans: number[] = [];
  for (let start = 0; start < used; start += batchLength) {
    let batchSum = 0;
    for (let index = start; index < start + batchLength; index++) {
      const value = valueAtIndex(index);
      batchSum += value;
      squares += value * value;
    }
    sum += batchSum;
    batchMeans.push(batchSum / batchLength);
  }
  const mean = sum / used;
  const variance = Math.max(0, squares / used - mean * mean);
  const batchVariance =
    batchMeans.reduce((total, batchMean) => total + (batchMean - mean) ** 2, 0) / (BATCH_COUNT - 1);
  if (batchVariance === 0 || variance === 0) return length;
  return Math.min(length, (length * variance) / (batchLength * batchVariance));
}

function formatBound(bound: number, unit: string): string {
  if (unit !== 'us') return `${bound} ${unit}`;
  return Math.abs(bound) >= 1e6
    ? `${Number((bound / 1e6).toPrecision(3))} s`
    : `${Number((bound / 1e3).toPrecision(3))} ms`;
}

function label(p: number): string {
  return Number((p * 100).toFixed(6)).toString();
}
