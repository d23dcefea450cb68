/**
 * Times that are known only to lie between two observations: a write became visible after the start
 * of the last stale read and before the end of the first fresh one.
 *
 * No midpoint is invented. Every figure is a pair of bounds: what it would be if all times lay at
 * the low ends of their intervals, and if all lay at the high ends.
 */

import assert from 'node:assert/strict';
import { EXCEEDANCES_MIN } from './quantiles.ts';
import { formatCount, type Measured } from './gates.ts';

/** The time lies in (`low`, `high`]; `high` is infinite where it was never observed. */
export type CensoredTime = { readonly low: number; readonly high: number };

export type QuantileBounds = { readonly low: number; readonly high: number };

/** Returns the bounds of the quantile `p`: between the quantiles of the low and the high ends. */
export function quantileBounds(times: readonly CensoredTime[], p: number): QuantileBounds {
  assert(0 < times.length, 'no times');
  assert(0 < p && p < 1, `quantile must lie between 0 and 1: ${p}`);
  const at = (ends: readonly number[]): number =>
    ends.toSorted((left, right) => left - right)[Math.ceil(p * ends.length - 1e-9) - 1] ??
    Number.NaN;
  return { low: at(times.map(({ low }) => low)), high: at(times.map(({ high }) => high)) };
}

/**
 * Returns the quantile as its upper bound with both bounds as interval: what a reader may rely on.
 * Needs a hundred trials beyond the quantile, or, for the median, a hundred in all.
 */
export function measuredBounds(times: readonly CensoredTime[], p: number, unit: string): Measured {
  const needed = p <= 0.5 ? EXCEEDANCES_MIN : Math.round(EXCEEDANCES_MIN / (1 - p));
  if (times.length < needed) {
    return { refused: `needs ${formatCount(needed)} trials, has ${formatCount(times.length)}` };
  }
  const { low, high } = quantileBounds(times, p);
  if (high === Number.POSITIVE_INFINITY) return { refused: `> ${low} ${unit}: never seen` };
  return { value: high, unit, low, high, samples: times.length };
}

/** One step of the two empirical distribution functions that enclose the true one. */
export type EcdfStep = {
  readonly time: number;
  /** Share of times certainly at or before `time`. */
  readonly low: number;
  /** Share of times possibly at or before `time`. */
  readonly high: number;
};

/** Returns the bounds of the distribution function at every time at which one of them steps. */
export function ecdfBounds(times: readonly CensoredTime[]): EcdfStep[] {
  const lows = times.map(({ low }) => low).toSorted((a, b) => a - b);
  const highs = times.map(({ high }) => high).toSorted((a, b) => a - b);
  const steps = [...new Set([...lows, ...highs])].filter(Number.isFinite).toSorted((a, b) => a - b);

  let possible = 0;
  let certain = 0;
  return steps.map((time) => {
    // An interval excludes its low end: a time in (low, high] may lie at `time` only if low < time.
    while ((lows[possible] ?? Number.POSITIVE_INFINITY) < time) possible++;
    while ((highs[certain] ?? Number.POSITIVE_INFINITY) <= time) certain++;
    return { time, low: certain / times.length, high: possible / times.length };
  });
}
