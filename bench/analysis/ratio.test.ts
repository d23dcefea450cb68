import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { measuredRatioOfSums, studentT } from './ratio.ts';

const NAMING = { unit: 'us', units: 'intervals' };

test.each([
  [5, 2.571],
  [7, 2.365],
  [10, 2.228],
  [30, 2.042],
])('Student t with %d degrees is the tabulated %f', (degrees, tabulated) => {
  expect(Math.abs(studentT(degrees) / tabulated - 1)).toBeLessThan(0.002);
});

test('the value is the ratio of the sums, not the mean of the ratios', () => {
  const units = [1, 1, 1, 1, 1, 5].map((denominator) => ({ numerator: 20, denominator }));
  expect(measuredRatioOfSums(units, NAMING)).toMatchObject({ value: 12, unit: 'us', samples: 6 });
});

test('units that have nothing to divide by do not count', () => {
  const units = [100, 100, 100, 100, 100, 0].map((denominator) => ({ numerator: 1, denominator }));
  expect(measuredRatioOfSums(units, NAMING)).toEqual({ refused: 'needs 6 intervals, has 5' });
});

test('six units give an interval that covers the truth about as often as it says', () => {
  const random = createRandom(1, 'value');
  let covered = 0;
  for (let run = 0; run < 1000; run++) {
    const units = Array.from({ length: 6 }, () => {
      const denominator = 80 + 40 * random.next();
      // The sum of twelve uniform numbers is as good as normal.
      const noise = Array.from({ length: 12 }, () => random.next()).reduce((a, b) => a + b, -6);
      return { numerator: 3 * denominator + 30 * noise, denominator };
    });
    const measured = measuredRatioOfSums(units, NAMING);
    if ('refused' in measured) assert.fail(measured.refused);
    if ((measured.low ?? 0) <= 3 && 3 <= (measured.high ?? 0)) covered++;
  }
  expect(covered).toBeGreaterThan(925);
  expect(covered).toBeLessThan(975);
});
