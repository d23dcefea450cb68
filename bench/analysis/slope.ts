/**
 * The slope of a series that jumps about: the median of the slopes between all pairs of points
 * (Theil and Sen), with Sen's interval, which rests on the distribution of Kendall's statistic. A
 * few outliers move neither. Where neighbours resemble each other the points say less than so many
 * independent ones, and the interval is as much wider as that is for a series of the first order.
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
/** Beyond, there is no telling a slope from a series that wanders. */
const LIKENESS_MAX = 0.8;

/** Points with different `x`, at least `POINTS_MIN`. */
export function slopeOf(points: readonly Point[]): Slope {
  assert(points.length >= POINTS_MIN, 'too few points for a slope');
  const slopes: number[] = [];
  for (const [i, left] of points.entries()) {
    for (const right of points.slice(i + 1)) slopes.push((right.y - left.y) / (right.x - left.x));
  }
  slopes.sort((a, b) => a - b);
  const n = points.length;
  const at = (rank: number): number => {
    return slopes[Math.min(slopes.length - 1, Math.max(0, Math.round(rank)))] ?? NaN;
  };
  const middle = slopes.length - 1;
  const estimate = (at(Math.floor(middle / 2)) + at(Math.ceil(middle / 2))) / 2;
  const likeness = likenessOfNeighbours(points.map(({ x, y }) => y - estimate * x));
  const inflation = Math.sqrt((1 + likeness) / (1 - likeness));
  const spread = Z_95 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18) * inflation;
  return {
    estimate,
    low: at((slopes.length - spread) / 2 - 1),
    high: at((slopes.length + spread) / 2),
  };
}

/** The autocorrelation of residuals at one step, as far as it widens. */
function likenessOfNeighbours(residuals: readonly number[]): number {
  const n = residuals.length;
  const mean = residuals.reduce((sum, each) => sum + each, 0) / n;
  let [products, squares] = [0, 0];
  for (const [i, each] of residuals.entries()) {
    squares += (each - mean) ** 2;
    const next = residuals[i + 1];
    if (next !== undefined) products += (each - mean) * (next - mean);
  }
  if (squares === 0) return 0;
  return Math.min(LIKENESS_MAX, Math.max(0, products / squares));
}
