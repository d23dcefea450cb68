/**
 * The slope of a series that jumps about: the median of the slopes between all pairs of points
 * (Theil and Sen), with Sen's interval, which rests on the distribution of Kendall's statistic. A
 * few outliers move neither; points must be far enough apart to be independent.
 */

import assert from 'node:assert/strict';

export type Point = { readonly x: number; readonly y: number };

export type Slope = {
  readonly estimate: number;
  /** 95 %. */
  readonly low: number;
  readonly high: number;
};

const Z_95 = 1.96;
export const POINTS_MIN = 6;

/** Points with different `x`, at least `POINTS_MIN`. */
export function slopeOf(points: readonly Point[]): Slope {
  assert(points.length >= POINTS_MIN, 'too few points for a slope');
  const slopes: number[] = [];
  for (const [i, left] of points.entries()) {
    for (const right of points.slice(i + 1)) slopes.push((right.y - left.y) / (right.x - left.x));
  }
  slopes.sort((a, b) => a - b);
  const n = points.length;
  const spread = Z_95 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const at = (rank: number): number => {
    return slopes[Math.min(slopes.length - 1, Math.max(0, Math.round(rank)))] ?? NaN;
  };
  const middle = slopes.length - 1;
  return {
    estimate: (at(Math.floor(middle / 2)) + at(Math.ceil(middle / 2))) / 2,
    low: at((slopes.length - spread) / 2 - 1),
    high: at((slopes.length + spread) / 2),
  };
}
