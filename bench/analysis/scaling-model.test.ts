import { expect, test } from 'vitest';
import { ecdfBounds, measuredBounds, quantileBounds } from './interval-censored.ts';
import { scalingModel, type ScalingDemands } from './scaling-model.ts';

const DEMANDS: ScalingDemands = {
  read: 35,
  write: 90,
  replicate: 15,
  takeForwarded: 25,
  forward: 30,
  apply: 25,
};

// The table that the model's derivation gives for these demands.
test.each([
  [0.001, [2.97, 4.89, 6.75], 48],
  [0.01, [2.75, 4.12, 5.1], 15],
  [0.05, [2.11, 2.49, 2.55], 6.5],
  [0.1, [1.68, 1.74, 1.64], 4.4],
  [0.2, [1.25, 1.16, 1.04], 2.77],
  [0.5, [0.84, 0.71, 0.61], 0.816],
])('at write share %f three, five, and seven nodes carry %j', (writeShare, speedups, peak) => {
  const model = scalingModel(DEMANDS, writeShare);
  for (const [index, nodeCount] of [3, 5, 7].entries()) {
    expect(model.speedup(nodeCount)).toBeCloseTo(speedups[index] ?? 0, 1);
  }
  expect(Math.abs(model.peakNodes / peak - 1)).toBeLessThan(0.02);
  expect(model.speedup(1)).toBe(1);
});

test('without writes capacity is proportional to nodes and has no peak', () => {
  const model = scalingModel(DEMANDS, 0);
  expect(model.speedup(5)).toBe(5);
  expect(model.peakNodes).toBe(Number.POSITIVE_INFINITY);
  expect(model.capacityPerSecond(5, 0.07)).toBeCloseTo((5 * 0.07) / 35e-6, 6);
});

test('plain standbys cost throughput', () => {
  const model = scalingModel(DEMANDS, 0.01);
  expect(model.baselineSpeedup(1)).toBe(1);
  expect(model.baselineSpeedup(5)).toBeLessThan(model.baselineSpeedup(3));
  expect(model.baselineSpeedup(3)).toBeLessThan(1);
});

test('standbys bind where applying is dear', () => {
  const model = scalingModel({ ...DEMANDS, replicate: 0, apply: 5000 }, 0.1);
  const alone = 0.9 * 35 + 0.1 * 90;
  expect(model.speedup(5)).toBeCloseTo((5 * alone) / (0.9 * 35 + 0.1 * 30 + 0.1 * 5 * 5000), 12);
});

const TIMES = Array.from({ length: 100 }, (_, i) => ({ low: i, high: i + 2 }));

test('quantiles of censored times are the quantiles of both ends', () => {
  expect(quantileBounds(TIMES, 0.5)).toEqual({ low: 49, high: 51 });
  expect(measuredBounds(TIMES, 0.5, 'ms')).toEqual({
    value: 51,
    unit: 'ms',
    low: 49,
    high: 51,
    samples: 100,
  });
  expect(measuredBounds(TIMES, 0.99, 'ms')).toEqual({
    refused: 'needs 10 000 trials, has 100',
  });
});

test('a value that never became visible refuses the quantile it lies in', () => {
  const never = TIMES.map((time, i) => (i > 40 ? { low: 500, high: Infinity } : time));
  expect(measuredBounds(never, 0.5, 'ms')).toEqual({ refused: '> 500 ms: never seen' });
});

test('the two distribution functions enclose every exact one', () => {
  const steps = ecdfBounds([
    { low: 0, high: 2 },
    { low: 1, high: 3 },
    { low: 1, high: Infinity },
  ]);
  const third = 1 / 3;
  expect(steps).toEqual([
    { time: 0, low: 0, high: 0 },
    { time: 1, low: 0, high: third },
    { time: 2, low: third, high: 1 },
    { time: 3, low: 2 * third, high: 1 },
  ]);
});
