import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { comparePaired, measuredDifference, measuredRatio, signFlipP } from './paired.ts';

const random = () => createRandom(1, 'resample');

test('the exact sign-flip p of n equal signs is 2 / 2^n', () => {
  expect(signFlipP([1, 2, 3, 4, 5, 6], random())).toBe(2 / 64);
  expect(signFlipP([1, -1, 1, -1, 1, -1], random())).toBe(1);
});

test('random flips agree with the exact test', () => {
  // 17 pairs: one too many to enumerate.
  const differences = [3, 1, -1, 2, 4, -2, 1, 5, 2, -1, 3, 1, 2, -3, 4, 1, 0];
  const total = differences.reduce((sum, difference) => sum + difference, 0);
  let extreme = 0;
  for (let pattern = 0; pattern < 2 ** 17; pattern++) {
    const sum = differences.reduce((s, d, i) => s + (((pattern >> i) & 1) === 1 ? -d : d), 0);
    if (Math.abs(sum) >= total) extreme++;
  }
  expect(Math.abs(signFlipP(differences, random()) - extreme / 2 ** 17)).toBeLessThan(0.006);
});

// Table A.4 of Hollander and Wolfe: for n = 10 the 95 % interval cuts off 8 averages at either end.
test('the Hodges-Lehmann interval has the tabulated ranks', () => {
  const differences = Array.from({ length: 10 }, (_, i) => 2 ** i);
  const averages = differences
    .flatMap((left, i) => differences.slice(i).map((right) => (left + right) / 2))
    .toSorted((a, b) => a - b);
  const compared = comparePaired(differences, random());
  expect(compared?.low).toBe(averages[8]);
  expect(compared?.high).toBe(averages.at(-9));
  expect(compared?.estimate).toBe(averages[27]);
});

test('one wild pair does not move the estimate', () => {
  const tame = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02];
  const wild = comparePaired([...tame, 500], random())?.estimate ?? 0;
  expect(Math.abs(wild - 1)).toBeLessThan(0.06);
});

test('five pairs can say nothing', () => {
  expect(measuredDifference([1, 1, 1, 1, 1], 'us', random())).toEqual({
    refused: 'needs 6 pairs, has 5',
  });
});

test('a ratio does not depend on which side is called left, but for its sign', () => {
  const pairs = [1.1, 1.2, 1.15, 1.3, 1.12, 1.18, 1.21].map((right) => ({ left: 1, right }));
  const forward = measuredRatio(pairs, random());
  const backward = measuredRatio(
    pairs.map(({ left, right }) => ({ left: right, right: left })),
    random(),
  );
  if ('refused' in forward || 'refused' in backward) assert.fail('refused');
  expect(forward.value * backward.value).toBeCloseTo(1, 12);
  expect((forward.low ?? 0) * (backward.high ?? 0)).toBeCloseTo(1, 12);
});
