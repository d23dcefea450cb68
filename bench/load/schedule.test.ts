import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { createSchedule, meanRate, type ScheduleSpec } from './schedule.ts';

const SPECS: readonly (readonly [string, ScheduleSpec])[] = [
  ['constant', { kind: 'constant', rate: 3000 }],
  ['constant at the limit of a ns', { kind: 'constant', rate: 1e9 }],
  ['poisson', { kind: 'poisson', rate: 2000 }],
  ['poisson so dense that gaps round to nothing', { kind: 'poisson', rate: 9e8 }],
  ['ramp up', { kind: 'ramp', startRate: 0, endRate: 500, durationMs: 1000, arrival: 'even' }],
  ['ramp down', { kind: 'ramp', startRate: 500, endRate: 1, durationMs: 1000, arrival: 'poisson' }],
  [
    'step',
    {
      kind: 'step',
      steps: [
        { rate: 100, durationMs: 1000 },
        { rate: 0, durationMs: 500 },
        { rate: 300, durationMs: 1000 },
      ],
      arrival: 'even',
    },
  ],
  [
    'burst',
    { kind: 'burst', rate: 0, burstRate: 1000, burstMs: 10, periodMs: 100, arrival: 'poisson' },
  ],
];

function startsOf(spec: ScheduleSpec, count: number): number[] {
  const schedule = createSchedule(spec, createRandom(11, 'arrival'));
  return Array.from({ length: count }, () => schedule.nextNs());
}

describe.each(SPECS)('%s', (_name, spec) => {
  test('starts strictly increase in whole nanoseconds', () => {
    const starts = startsOf(spec, 20_000);
    const wrong = starts.filter(
      (start, i) => start <= (starts[i - 1] ?? -1) || !Number.isInteger(start),
    );
    expect(wrong).toEqual([]);
  });

  test('a seed gives the same starts again', () => {
    expect(startsOf(spec, 100)).toEqual(startsOf(spec, 100));
  });
});

test('a constant rate does not drift: the n-th start is n / rate, rounded once', () => {
  const starts = startsOf({ kind: 'constant', rate: 3 }, 1_000_000);
  expect(starts[999_999]).toBe(Math.ceil((1_000_000 * 1e9) / 3));
});

test('Poisson gaps pass a Kolmogorov-Smirnov test against the exponential', () => {
  const rate = 1000;
  const starts = startsOf({ kind: 'poisson', rate }, 10_000);
  const gaps = starts.map((start, i) => start - (starts[i - 1] ?? 0)).toSorted((a, b) => a - b);
  let distance = 0;
  for (const [i, gap] of gaps.entries()) {
    const expected = 1 - Math.exp((-gap * rate) / 1e9);
    distance = Math.max(distance, Math.abs(expected - i / 1e4), Math.abs(expected - (i + 1) / 1e4));
  }
  // 1 % critical value: 1.628 / sqrt(n).
  expect(distance).toBeLessThan(1.628 / 100);
});

test('Poisson counts per 100 ms have the variance of their mean', () => {
  const counts = Array.from({ length: 1000 }, () => 0);
  for (const start of startsOf({ kind: 'poisson', rate: 200 }, 20_500)) {
    const bin = Math.floor(start / 1e8);
    if (bin < counts.length) counts[bin] = (counts[bin] ?? 0) + 1;
  }
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  const dispersion = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / mean;
  // Chi-square with 999 degrees of freedom: 0.1 % beyond either bound.
  expect(dispersion).toBeGreaterThan(867);
  expect(dispersion).toBeLessThan(1142);
});

test.each<[string, ScheduleSpec, number, number]>([
  // Half of a ramp from zero brings a quarter of its arrivals.
  [
    'ramp',
    { kind: 'ramp', startRate: 0, endRate: 800, durationMs: 1000, arrival: 'even' },
    500,
    100,
  ],
  [
    'ramp, whole',
    { kind: 'ramp', startRate: 200, endRate: 600, durationMs: 1000, arrival: 'even' },
    1000,
    400,
  ],
  [
    'after the ramp',
    { kind: 'ramp', startRate: 0, endRate: 800, durationMs: 1000, arrival: 'even' },
    2000,
    1200,
  ],
  [
    'burst, two periods',
    { kind: 'burst', rate: 100, burstRate: 1000, burstMs: 20, periodMs: 100, arrival: 'even' },
    200,
    56,
  ],
])('%s has the arrivals of its area', (_name, spec, untilMs, expected) => {
  const count = startsOf(spec, 3000).filter((start) => start <= untilMs * 1e6).length;
  expect(Math.abs(count - expected)).toBeLessThanOrEqual(1);
  expect((meanRate(spec, untilMs) * untilMs) / 1000).toBeCloseTo(expected, 6);
});

test('a step of rate zero has no arrivals', () => {
  const [, spec] = SPECS.find(([name]) => name === 'step') ?? [];
  if (spec === undefined) assert.fail('no step schedule');
  const starts = startsOf(spec, 200);
  expect(starts.filter((start) => 1e9 < start && start < 1.5e9)).toEqual([]);
  expect(starts[100]).toBe(Math.ceil(1.5e9 + 1e9 / 300));
});
