/**
 * Where warm-up ends and whether what follows stands still.
 *
 * A process is warm when it has served enough requests *and* its demand has stopped falling: time
 * alone says nothing at a low rate, and each route of each node warms up by itself.
 */

import assert from 'node:assert/strict';
import { median } from './paired.ts';

/** V8 has compiled what it will compile (measured: demand falls from 87 to 47 us in about this). */
export const WARM_REQUESTS_MIN = 10_000;

/** Demand of the last two windows may differ by this much. */
export const WARM_DEMAND_CHANGE_MAX = 0.05;

const MSER_BATCH = 5;

/** Below this many candidates there is nothing to choose from. */
const MSER_CUTS_MIN = 2;

export type WarmupWindow = {
  readonly requestCount: number;
  readonly cpuSeconds: number;
};

export type WarmupStatus = {
  readonly isWarm: boolean;
  readonly requestCount: number;
  /** Relative change of demand between the last two windows; infinite with fewer than two. */
  readonly demandChange: number;
};

/** Judges one node and route by all its windows since the process started. */
export function warmupStatus(windows: readonly WarmupWindow[]): WarmupStatus {
  const requestCount = windows.reduce((total, window) => total + window.requestCount, 0);
  const [before, last] = windows.slice(-2).map(demand);
  const demandChange =
    before === undefined || last === undefined
      ? Number.POSITIVE_INFINITY
      : Math.abs(last - before) / before;
  return {
    isWarm: requestCount >= WARM_REQUESTS_MIN && demandChange <= WARM_DEMAND_CHANGE_MAX,
    requestCount,
    demandChange,
  };
}

function demand(window: WarmupWindow): number {
  return window.cpuSeconds / window.requestCount;
}

/**
 * MSER-5 (White 1997): returns how many leading values to cut off so that the standard error of the
 * mean of the rest is smallest; undefined where half of them would not be enough.
 */
export function truncationPoint(values: readonly number[]): number | undefined {
  const batches: number[] = [];
  for (let start = 0; start + MSER_BATCH <= values.length; start += MSER_BATCH) {
    batches.push(mean(values.slice(start, start + MSER_BATCH)));
  }
  const lastCut = Math.floor(batches.length / 2);
  if (lastCut < MSER_CUTS_MIN) return undefined;

  let best = 0;
  let bestScore = Number.POSITIVE_INFINITY;
  // Over the few batches near the end a small error is an accident: the search stops halfway.
  for (let cut = 0; cut <= lastCut; cut++) {
    const rest = batches.slice(cut);
    const center = mean(rest);
    const score =
      rest.reduce((total, value) => total + (value - center) ** 2, 0) / rest.length ** 2;
    if (score < bestScore) [best, bestScore] = [cut, score];
  }
  return best === lastCut ? undefined : best * MSER_BATCH;
}

/** The median slope between all pairs of points, in value per step. */
export function theilSenSlope(values: readonly number[]): number {
  assert(2 <= values.length, 'a slope needs two points');
  const slopes: number[] = [];
  for (let left = 0; left < values.length; left++) {
    for (let right = left + 1; right < values.length; right++) {
      slopes.push(((values[right] ?? 0) - (values[left] ?? 0)) / (right - left));
    }
  }
  return median(slopes.toSorted((a, b) => a - b));
}

/**
 * Returns how far a series drifts from its beginning to its end, relative to its median: the larger
 * of the fitted slope's drift and the difference of its halves. Compare with the gate `not-steady`.
 */
export function relativeDrift(values: readonly number[]): number {
  const center = median(values.toSorted((a, b) => a - b));
  if (center === 0) return 0;
  const sloped = Math.abs(theilSenSlope(values)) * (values.length - 1);
  const half = Math.floor(values.length / 2);
  const halves = Math.abs(
    median(values.slice(0, half).toSorted((a, b) => a - b)) -
      median(values.slice(-half).toSorted((a, b) => a - b)),
  );
  return Math.max(sloped, halves) / Math.abs(center);
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}
