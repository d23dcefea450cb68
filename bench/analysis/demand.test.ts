import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { fitDemands, meanDemandUs, type DemandSlice } from './demand.ts';
import { forcedFlow, isConnectionBound, littlesLaw, utilizationLaw } from './laws.ts';
import { conditionNumber, nonNegativeLeastSquares } from './least-squares.ts';
import { relativeDrift, theilSenSlope, truncationPoint, warmupStatus } from './steady.ts';

/** Slices of a node that needs 35 us per read and 90 us per write, and idles at 2 % of a core. */
function slicesOf(count: number, writeShareOf: (index: number) => number): DemandSlice[] {
  const random = createRandom(3, 'value');
  return Array.from({ length: count }, (_, index) => {
    const writes = Math.round(1000 * writeShareOf(index));
    const cpu = 0.02 * 0.5 + (1000 - writes) * 35e-6 + writes * 90e-6;
    const noise = 1 + 0.04 * (random.next() - 0.5);
    return { elapsedSeconds: 0.5, cpuSeconds: cpu * noise, counts: [1000 - writes, writes] };
  });
}

describe('fitDemands()', () => {
  test('recovers the demand of each class from slices of different mixes', () => {
    const slices = slicesOf(60, (index) => (index % 6) / 5).map((slice, index) =>
      // The load must vary too, or idle CPU cannot be told from work.
      index % 2 === 0
        ? slice
        : {
            elapsedSeconds: slice.elapsedSeconds,
            counts: slice.counts.map((count) => count / 2),
            cpuSeconds: 0.01 + (slice.cpuSeconds - 0.01) / 2,
          },
    );
    const fit = fitDemands(slices, createRandom(1, 'resample'));
    for (const [index, truth] of [35, 90].entries()) {
      const demand = fit.demandsUs[index];
      if (demand === undefined || 'refused' in demand) assert.fail('refused');
      expect(Math.abs(demand.value / truth - 1)).toBeLessThan(0.05);
      expect(demand.low).toBeLessThan(truth * 1.02);
      expect(demand.high).toBeGreaterThan(truth * 0.98);
    }
    expect(fit.rSquared).toBeGreaterThan(0.98);
    expect(fit.conditionNumber).toBeLessThan(30);
  });

  test('refuses to tell classes apart whose mix never changed', () => {
    const fit = fitDemands(
      slicesOf(60, () => 0.1),
      createRandom(1, 'resample'),
    );
    expect(fit.demandsUs[0]).toMatchObject({
      refused: expect.stringContaining('condition number') as string,
    });
  });

  test('refuses with fewer than ten slices per unknown', () => {
    const fit = fitDemands(
      slicesOf(29, (index) => (index % 6) / 5),
      createRandom(1, 'resample'),
    );
    expect(fit.demandsUs[1]).toEqual({ refused: 'needs 30 slices, has 29' });
  });
});

test('meanDemandUs() subtracts idle CPU', () => {
  const demand = meanDemandUs({
    slices: slicesOf(20, () => 0),
    idleCpuShare: 0.02,
    random: createRandom(1, 'resample'),
  });
  if ('refused' in demand) assert.fail(demand.refused);
  expect(demand.value).toBeGreaterThan(34);
  expect(demand.value).toBeLessThan(36);
  expect((demand.high ?? 0) - (demand.low ?? 0)).toBeLessThan(2);
});

test('least squares never returns a negative coefficient', () => {
  // Unconstrained, y = 2 a - b fits exactly.
  const rows = [
    [1, 0],
    [1, 1],
    [2, 1],
    [3, 1],
  ];
  const solution = nonNegativeLeastSquares(rows, [2, 1, 3, 5]);
  expect(solution[1]).toBe(0);
  expect(solution[0]).toBeCloseTo((2 + 1 + 6 + 15) / 15, 12);
  expect(
    conditionNumber([
      [1, 0],
      [0, 5],
    ]),
  ).toBeCloseTo(1, 12);
  expect(
    conditionNumber([
      [1, 2],
      [2, 4],
    ]),
  ).toBe(Number.POSITIVE_INFINITY);
});

// bench.md 3.1: measured under quotas, and the article's PKI table (fifteen workers).
test('the laws hold on figures that are known', () => {
  expect(
    utilizationLaw({ utilization: 0.3, throughputPerSecond: 7491, demandSeconds: 0.3 / 7463 })
      .mismatch,
  ).toBeLessThan(0.01);
  const pki = { throughputPerSecond: 1.33, responseSeconds: 11.669 };
  expect(littlesLaw({ ...pki, inFlightMean: 15 }).mismatch).toBeLessThan(0.05);
  expect(isConnectionBound({ ...pki, connections: 15 })).toBe(true);
  expect(isConnectionBound({ ...pki, connections: 30 })).toBe(false);
  expect(
    forcedFlow({ nodeThroughputPerSecond: 50, visitsPerRequest: 0.1, throughputPerSecond: 400 }),
  ).toEqual({ expected: 40, measured: 50, mismatch: 0.25 });
});

test.each([
  [
    'few requests',
    [
      { requestCount: 4999, cpuSeconds: 1 },
      { requestCount: 4999, cpuSeconds: 1 },
    ],
    false,
  ],
  [
    'demand still falling',
    [
      { requestCount: 9000, cpuSeconds: 0.8 },
      { requestCount: 9000, cpuSeconds: 0.5 },
    ],
    false,
  ],
  [
    'steady',
    [
      { requestCount: 6000, cpuSeconds: 0.3 },
      { requestCount: 6000, cpuSeconds: 0.29 },
    ],
    true,
  ],
  ['one window', [{ requestCount: 60_000, cpuSeconds: 3 }], false],
])('warm-up with %s', (_name, windows, isWarm) => {
  expect(warmupStatus(windows).isWarm).toBe(isWarm);
});

test('MSER-5 cuts off the transient and nothing else', () => {
  const random = createRandom(4, 'value');
  const noise = () => random.next() - 0.5;
  const transient = Array.from({ length: 100 }, (_, i) => 50 + noise() + (i < 20 ? 40 - 2 * i : 0));
  const cut = truncationPoint(transient) ?? Number.NaN;
  expect(cut).toBeGreaterThanOrEqual(15);
  expect(cut).toBeLessThanOrEqual(25);
  // Seventy of a hundred values are transient: more than half would have to go.
  const slow = Array.from({ length: 100 }, (_, i) => 50 + noise() + (i < 70 ? 140 - 2 * i : 0));
  expect(truncationPoint(slow)).toBeUndefined();
  expect(truncationPoint([1, 2, 3])).toBeUndefined();
});

test('drift is relative to the median and blind to single outliers', () => {
  const flat = Array.from({ length: 21 }, (_, i) => (i === 7 ? 1e6 : 100));
  expect(theilSenSlope(flat)).toBe(0);
  expect(relativeDrift(flat)).toBe(0);
  const rising = Array.from({ length: 21 }, (_, i) => 90 + i);
  expect(relativeDrift(rising)).toBeCloseTo(0.2, 12);
});
