import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { effectiveSampleSize, quantile, quantiles, type QuantileSeries } from './quantiles.ts';

function exponential(count: number, seed: number): number[] {
  const random = createRandom(seed, 'value');
  return Array.from({ length: count }, () => -1000 * Math.log(1 - random.next()));
}

test('the value is the exact order statistic', () => {
  const values = Array.from({ length: 1000 }, (_, i) => ((i * 7919) % 1000) + 1);
  expect(quantile({ values, unit: 'us' }, 0.9, { exceedancesMin: 50 })).toMatchObject({
    value: 900,
    unit: 'us',
  });
});

test('the interval covers the true quantile about as often as it says', () => {
  const truth = -1000 * Math.log(0.1);
  let covered = 0;
  for (let seed = 0; seed < 200; seed++) {
    const p90 = quantile({ values: exponential(3000, seed), unit: 'us' }, 0.9);
    if ('refused' in p90) assert.fail(p90.refused);
    if ((p90.low ?? 0) <= truth && truth <= (p90.high ?? 0)) covered++;
  }
  expect(covered).toBeGreaterThan(180);
  expect(covered).toBeLessThan(200);
});

test('samples that come in runs count for less, and widen the interval', () => {
  const independent = exponential(20_000, 1);
  const runs = Array.from({ length: 20_000 }, (_, i) => independent[Math.floor(i / 100)] ?? 0);
  const effective = (values: readonly number[]) =>
    effectiveSampleSize((index) => values[index] ?? 0, values.length);
  expect(effective(independent)).toBeGreaterThan(8000);
  expect(effective(runs)).toBeLessThan(400);
  expect(quantile({ values: runs, unit: 'us' }, 0.99)).toMatchObject({
    refused: expect.stringMatching(/^needs 10 000 effective samples, has \d/) as string,
  });
});

const STEADY = exponential(12_000, 5).map((value) => Math.min(value, 9000));

test.each<[string, QuantileSeries, number, string]>([
  ['nothing measured', { values: [], unit: 'us' }, 0.5, 'no samples'],
  [
    'too few samples',
    { values: STEADY.slice(0, 1500), unit: 'us' },
    0.99,
    'needs 10 000 effective samples, has ',
  ],
  [
    'a timeout within the quantile',
    {
      values: STEADY.map((value, i) => (i % 50 === 0 ? 5e6 : value)),
      isCensored: STEADY.map((_, i) => (i % 50 === 0 ? 1 : 0)),
      unit: 'us',
    },
    0.99,
    '> 5 s',
  ],
  ['drops', { values: STEADY, droppedCount: 300, unit: 'us' }, 0.99, '300 requests were dropped'],
  [
    'drops within its interval',
    { values: STEADY, droppedCount: 1300, unit: 'us' },
    0.9,
    '1 300 requests were dropped',
  ],
  [
    'a late generator',
    { values: STEADY, isClean: STEADY.map((value) => (value > 4000 ? 0 : 1)), unit: 'us' },
    0.99,
    '100 % of the tail above p99 is generator lag',
  ],
])('p is refused for %s', (_name, series, p, refused) => {
  const measured = quantile(series, p);
  expect('refused' in measured ? measured.refused : measured).toContain(refused);
});

test('what spoils the tail leaves the median', () => {
  const spoiled: QuantileSeries = {
    values: STEADY.map((value, i) => (i % 50 === 0 ? 5e6 : value)),
    isCensored: STEADY.map((_, i) => (i % 50 === 0 ? 1 : 0)),
    isClean: STEADY.map((_, i) => (i % 40 === 1 ? 0 : 1)),
    droppedCount: 100,
    unit: 'us',
  };
  expect(quantile(spoiled, 0.5)).toHaveProperty('value');
});

test('from the first refused for generator lag all higher ones are refused alike', () => {
  // Unclean between p93 and p98 only: p99 itself looks clean, and is not to be believed.
  const sorted = STEADY.toSorted((a, b) => a - b);
  const [low = 0, high = 0] = [sorted[11_200], sorted[11_700]];
  const isClean = STEADY.map((value) => (low < value && value < high ? 0 : 1));
  const [p50, p90, p99] = quantiles({ values: STEADY, isClean, unit: 'us' }, [0.5, 0.9, 0.99]);
  expect(p50).toHaveProperty('value');
  expect(p90).toMatchObject({ refused: expect.stringContaining('above p90') as string });
  expect(p99).toEqual(p90);
});

/** 999 distinct values around zero in no order: the median is 0. */
const DIFFERENCES = Array.from({ length: 999 }, (_, i) => ((i * 7919) % 999) - 499);
const flags = (isSet: (value: number) => boolean) => DIFFERENCES.map((d) => (isSet(d) ? 1 : 0));

test('bounds far from a median leave it', () => {
  const series: QuantileSeries = {
    values: DIFFERENCES,
    unit: 'us',
    isCensored: flags((value) => value === 499),
    isUpperBound: flags((value) => value === -499),
  };
  expect(quantile(series, 0.5)).toMatchObject({ value: 0 });
});

test.each<[string, Partial<QuantileSeries>, string]>([
  ['a lower bound below it', { isCensored: flags((value) => value === -400) }, '> -0.4 ms'],
  ['an upper bound above it', { isUpperBound: flags((value) => value === 400) }, '< 0.4 ms'],
  ['a lower bound in its interval', { isCensored: flags((value) => value === 8) }, '> 0.008 ms'],
  [
    'an upper bound in its interval',
    { isUpperBound: flags((value) => value === -8) },
    '< -0.008 ms',
  ],
])('a median is refused for %s', (_name, columns, refused) => {
  expect(quantile({ values: DIFFERENCES, unit: 'us', ...columns }, 0.5)).toEqual({ refused });
});

test('of differences the lower tail must be clean too', () => {
  const isClean = flags((value) => -400 < value);
  const series: QuantileSeries = { values: DIFFERENCES, unit: 'us', isClean };
  expect(quantile(series, 0.5)).toHaveProperty('value');
  expect(quantile(series, 0.5, { cleanTails: 'both' })).toEqual({
    refused: '20 % of the tail below p50 is generator lag',
  });
});
