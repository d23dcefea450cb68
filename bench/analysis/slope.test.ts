import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { POINTS_MIN, slopeOf } from './slope.ts';
import type { Point } from './slope.ts';

function line(count: number, slope: number, noise: (x: number) => number = () => 0): Point[] {
  return Array.from({ length: count }, (_, x) => ({ x, y: 3 + slope * x + noise(x) }));
}

test('a line has its slope, without an interval to speak of', () => {
  const { estimate, low, high } = slopeOf(line(20, 0.25));
  for (const value of [estimate, low, high]) expect(value).toBeCloseTo(0.25);
});

test('outliers do not move it', () => {
  const { estimate } = slopeOf(line(30, 0.5, (x) => (x % 10 === 7 ? 1_000 : 0)));
  expect(estimate).toBeCloseTo(0.5);
});

test('the interval holds the true slope 95 times of 100, as it says', () => {
  const random = fc.sample(fc.integer({ min: -1000, max: 1000 }), { numRuns: 20_000, seed: 7 });
  let next = 0;
  let hits = 0;
  const rounds = 500;
  for (let round = 0; round < rounds; round += 1) {
    const { low, high } = slopeOf(line(30, 0.1, () => (random[next++] ?? 0) / 500));
    if (low <= 0.1 && 0.1 <= high) hits += 1;
  }
  expect(hits / rounds).toBeGreaterThan(0.92);
  expect(hits / rounds).toBeLessThan(0.99);
});

test('where neighbours resemble each other it is wider, and holds the slope nearly as often', () => {
  const random = fc.sample(fc.integer({ min: -1000, max: 1000 }), { numRuns: 20_000, seed: 9 });
  let next = 0;
  let hits = 0;
  const rounds = 500;
  for (let round = 0; round < rounds; round += 1) {
    let before = 0;
    const noise = (): number => (before = 0.5 * before + (random[next++] ?? 0) / 500);
    const { low, high } = slopeOf(line(30, 0.1, noise));
    if (low <= 0.1 && 0.1 <= high) hits += 1;
  }
  // With independent points assumed it would be 0.77.
  expect(hits / rounds).toBeGreaterThan(0.86);
});

test('too few points are no slope', () => {
  expect(() => slopeOf(line(POINTS_MIN - 1, 1))).toThrow('too few points');
});
