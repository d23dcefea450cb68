/**
 * The ratio of two sums over a handful of intervals (CPU time per completed request), with the
 * interval of the ratio estimator (Cochran, Sampling Techniques, 6.4) and Student's t. A bootstrap
 * of so few units draws the same ones over and over, and is far too sure of itself.
 */

import type { Measured } from './gates.ts';

/** With fewer, Student's t makes any interval so wide that the figure says nothing. */
const UNITS_MIN = 6;

export type RatioUnit = { readonly numerator: number; readonly denominator: number };

/** `units` are what there are too few of, where it comes to that. */
export function measuredRatioOfSums(
  units: readonly RatioUnit[],
  naming: { readonly unit: string; readonly units: string },
): Measured {
  const count = units.filter(({ denominator }) => denominator > 0).length;
  if (count < UNITS_MIN) {
    return { refused: `needs ${UNITS_MIN} ${naming.units}, has ${count}` };
  }
  const denominator = sum(units.map((each) => each.denominator));
  const value = sum(units.map(({ numerator }) => numerator)) / denominator;
  const squares = units.map((each) => (each.numerator - value * each.denominator) ** 2);
  const error = Math.sqrt((sum(squares) * units.length) / (units.length - 1)) / denominator;
  const half = studentT(units.length - 1) * error;
  return {
    value,
    unit: naming.unit,
    low: value - half,
    high: value + half,
    samples: units.length,
  };
}

/** The 97.5 % point of Student's t (Abramowitz and Stegun, 26.7.5), within 0.2 % from 5 degrees. */
export function studentT(degrees: number): number {
  const z = 1.959964;
  return (
    z +
    (z ** 3 + z) / (4 * degrees) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
