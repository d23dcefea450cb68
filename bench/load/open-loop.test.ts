/** The instrument proves its honesty, in simulated time: every figure here is exact. */

import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { quantiles } from '../analysis/quantiles.ts';
import { createRandom } from '../random.ts';
import type { Request, Sender, Target } from './exchange.ts';
import { openLoop, OUTCOMES, type OpenLoopOptions, type OpenLoopResult } from './open-loop.ts';
import { buildPlan, evenRouting, type Plan, type PlannedWorkload } from './plan.ts';
import { defaultTag, intervalEntries, record } from './recorder.ts';
import type { ScheduleSpec } from './schedule.ts';
import { Histogram } from './histogram.ts';
import { SimulatedClock, simulatedServer } from './simulation.ts';

const MS = 1e6;
const REQUEST: Request = { method: 'GET', path: '/v1/x', headers: [], body: undefined };
const TARGETS: readonly Target[] = [
  { name: 'n1', origin: 'http://127.0.0.1:1', nodeId: 'n1', isActive: false },
];
const WORKLOAD: PlannedWorkload = {
  operations: [{ name: 'read', weight: 1, writes: false }],
  chooseKeys: () => ({ next: () => 0 }),
  chooseValueBytes: () => () => 0,
};
const OK = () => ({ status: 200, servedBy: 'n1' });

function planOf(schedule: ScheduleSpec, durationMs: number): Plan {
  return buildPlan({ seed: 3, schedule, durationMs, workload: WORKLOAD, routing: evenRouting(1) });
}

async function run(
  clock: SimulatedClock,
  plan: Plan,
  sender: Sender,
  overrides: Partial<OpenLoopOptions> = {},
): Promise<OpenLoopResult> {
  const result = openLoop({
    plan,
    targets: TARGETS,
    sender,
    clock,
    requestOf: () => REQUEST,
    verify: () => true,
    inFlightMax: 1_000_000,
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    ...overrides,
  });
  clock.run();
  const ended = await result;
  checkInvariants(plan, ended);
  return ended;
}

/** Each row has one outcome, and the clocks of an answered one add up. */
function checkInvariants(plan: Plan, { samples, counts }: OpenLoopResult): void {
  const accounted = OUTCOMES.reduce((sum, outcome) => sum + counts[outcome], 0);
  expect(accounted).toBe(plan.length);
  for (let i = 0; i < plan.length; i++) {
    if (OUTCOMES[samples.outcome[i] ?? 0] !== 'ok') continue;
    const parts = (samples.lagNs[i] ?? 0) + (samples.waitNs[i] ?? 0) + (samples.serviceNs[i] ?? 0);
    if (Math.abs(parts - (samples.responseNs[i] ?? 0)) > 1e-3) {
      assert.fail(`row ${i}: ${parts} ns of parts, response ${samples.responseNs[i]} ns`);
    }
  }
}

function msAtQuantile(column: Float64Array, p: number): number {
  const histogram = new Histogram();
  for (const value of column) histogram.recordNs(value);
  const valueUs = histogram.valueAtQuantile(p);
  histogram.destroy();
  return valueUs / 1000;
}

// The freeze test: 30 s at 1000/s, 8 sockets, the server stops once for 1.4 s. A user at p99 waits
// 1.4 s - 1 % of 30 s = 1.1 s. Only the 8 requests on the sockets see the stall as service time.
test('a stall shows in response time and not in service time', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 1000 }, 30_000);
  const thawNs = 11_400 * MS;
  const server = simulatedServer({
    clock,
    sockets: 8,
    serviceNs: (atNs) => (10_000 * MS < atNs && atNs < thawNs ? thawNs - atNs : 0.1 * MS),
    answer: OK,
  });
  const { samples, counts, inFlightPeak } = await run(clock, plan, server);

  expect(counts.ok).toBe(plan.length);
  expect(msAtQuantile(samples.responseNs, 0.99)).toBeCloseTo(1100, -2);
  expect(msAtQuantile(samples.serviceNs, 0.99)).toBeLessThan(0.2);
  expect(samples.serviceNs.filter((ns) => ns > 1000 * MS).length).toBe(8);
  expect(msAtQuantile(samples.lagNs, 1)).toBe(0);
  expect(inFlightPeak).toBeGreaterThan(1390);
});

test('a server that always takes 20 ms takes 20 ms at every quantile', async () => {
  const clock = new SimulatedClock(123_456);
  const plan = planOf({ kind: 'poisson', rate: 500 }, 10_000);
  const server = simulatedServer({ clock, sockets: 100, serviceNs: () => 20 * MS, answer: OK });
  const { samples } = await run(clock, plan, server);
  expect(msAtQuantile(samples.responseNs, 1e-9)).toBeCloseTo(20, 1);
  expect(msAtQuantile(samples.responseNs, 1)).toBeCloseTo(20, 1);
});

// One socket, exponential service: M/M/1, whose mean response time is 1 / (mu - lambda).
test.each([[0.5], [0.7], [0.9]])(
  'an M/M/1 server at load %f responds as the theory says',
  async (load) => {
    const clock = new SimulatedClock(0);
    const mu = 1000;
    const plan = planOf({ kind: 'poisson', rate: load * mu }, 50_000 / load);
    const random = createRandom(4, 'value');
    const server = simulatedServer({
      clock,
      sockets: 1,
      serviceNs: () => (-Math.log(1 - random.next()) / mu) * 1e9,
      answer: OK,
    });
    const { samples, inFlightSeconds, startNs, endNs } = await run(clock, plan, server);
    const mean = samples.responseNs.reduce((sum, ns) => sum + ns, 0) / plan.length / 1e9;
    // Three standard deviations; those of a queue's mean grow as 1 / (1 - load).
    const tolerance = 6 / (Math.sqrt(plan.length) * (1 - load));
    expect(Math.abs(mean * (mu - load * mu) - 1)).toBeLessThan(tolerance);

    // Little: the integral of requests in flight is the sum of the times in flight.
    const elapsed = (endNs - startNs) / 1e9;
    expect(inFlightSeconds / elapsed).toBeCloseTo((plan.length / elapsed) * mean, 6);
  },
);

test('a generator that stalls sends all that is due at once and owns the lag', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 1000 }, 1000);
  const server = simulatedServer({ clock, sockets: 1000, serviceNs: () => MS, answer: OK });
  clock.wakeAt(500.5 * MS, () => clock.stall(50 * MS));
  const { samples } = await run(clock, plan, server);

  const lagMs = (index: number) => (samples.lagNs[index] ?? 0) / MS;
  expect(lagMs(499)).toBe(0);
  // Row 500 was due at 501 ms and started at 550.5 ms, with row 549 of 550 ms just behind it.
  expect(lagMs(500)).toBeCloseTo(49.5, 6);
  expect(lagMs(549)).toBeCloseTo(0.5, 6);
  expect(lagMs(550)).toBe(0);
  expect((samples.responseNs[500] ?? 0) / MS).toBeCloseTo(50.5, 6);
  expect((samples.serviceNs[500] ?? 0) / MS).toBe(1);

  const recording = record({
    plan,
    targets: TARGETS,
    samples,
    startMs: 0,
    endMs: 1000,
    tagOf: defaultTag,
  });
  const cell = recording.cells.get('read.n1.local');
  // Lags up to 1 ms are clean, and so is up to a tenth of the response time: 48 rows are neither.
  expect(cell?.clocks.response.count).toBe(999);
  expect(cell?.responseClean.count).toBe(999 - 49);
  expect(cell?.series.isClean.filter((clean) => clean === 0).length).toBe(49);
  recording.destroy();
});

test('a cell of a recording can be asked for its quantiles, and refuses what was dropped', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'poisson', rate: 2000 }, 10_000);
  const server = simulatedServer({ clock, sockets: 1, serviceNs: () => 0.4 * MS, answer: OK });
  const { samples, counts } = await run(clock, plan, server, { inFlightMax: 8 });
  expect(counts.dropped).toBeGreaterThan(0);
  const recording = record({
    plan,
    targets: TARGETS,
    samples,
    startMs: 0,
    endMs: 10_000,
    tagOf: ({ operation }) => operation,
  });
  const cell = recording.cells.get('read');
  assert(cell !== undefined);
  const [p50, p999] = quantiles(cell.series, [0.5, 0.999]);
  assert(p50 !== undefined && 'value' in p50);
  expect(p50.value / cell.clocks.response.valueAtQuantile(0.5)).toBeGreaterThan(0.9);
  expect(p999).toHaveProperty('refused');
  recording.destroy();
});

test('at the in-flight limit requests are dropped and counted, and the plan goes on', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 1000 }, 1000);
  const server = simulatedServer({ clock, sockets: 10, serviceNs: () => 20 * MS, answer: OK });
  const { counts, inFlightPeak } = await run(clock, plan, server, { inFlightMax: 10 });
  expect(inFlightPeak).toBe(10);
  expect(counts.dropped).toBeGreaterThan(450);
  expect(plan.length - counts.ok - counts.dropped).toBe(0);
});

test('a request without an answer is censored at its timeout and frees its place', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 10 }, 1000);
  let asked = 0;
  const server = simulatedServer({
    clock,
    sockets: 100,
    serviceNs: () => MS,
    answer: () => (asked++ === 3 ? undefined : OK()),
  });
  const { counts, samples, endNs } = await run(clock, plan, server, { timeoutMs: 5000 });
  expect(counts.timedOut).toBe(1);
  expect(counts.ok).toBe(plan.length - 1);
  expect(samples.responseNs[3]).toBe(5000 * MS);
  expect(samples.serviceNs[3]).toBeNaN();
  expect(endNs).toBe(400 * MS + 5000 * MS);

  const recording = record({
    plan,
    targets: TARGETS,
    samples,
    startMs: 0,
    endMs: 1000,
    tagOf: () => 'all',
  });
  const series = recording.cells.get('all')?.series;
  expect(series?.isCensored).toEqual(Uint8Array.from({ length: 9 }, (_, i) => (i === 3 ? 1 : 0)));
  recording.destroy();
});

test('failures are counted by class and kept out of the response times', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 100 }, 1001);
  let asked = 0;
  const server = simulatedServer({
    clock,
    sockets: 10,
    serviceNs: () => MS,
    answer: () => {
      asked += 1;
      if (asked % 4 === 0) return { status: 503, servedBy: 'n2' };
      return asked % 10 === 1 ? { status: 200, servedBy: 'n2' } : OK();
    },
  });
  const { counts, samples } = await run(clock, plan, server, {
    verify: (index) => index !== 1,
  });
  expect(counts).toMatchObject({ failed: 25, invalid: 1, ok: 74 });
  expect(samples.failureClasses).toEqual(['http-503']);

  const recording = record({
    plan,
    targets: TARGETS,
    samples,
    startMs: 0,
    endMs: 2000,
    tagOf: defaultTag,
  });
  expect([...recording.cells.keys()].toSorted()).toEqual(['read.n1.forwarded', 'read.n1.local']);
  const cells = [...recording.cells.values()];
  const sum = (pick: (cell: (typeof cells)[number]) => number) =>
    cells.reduce((total, cell) => total + pick(cell), 0);
  expect(sum((cell) => cell.clocks.response.count)).toBe(75);
  expect(sum((cell) => cell.failures.get('http-503')?.count ?? 0)).toBe(25);
  recording.destroy();
});

test('an abort ends the run at once: what is in flight is abandoned, the rest unstarted', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 10 }, 10_000);
  const server = simulatedServer({ clock, sockets: 100, serviceNs: () => 1000 * MS, answer: OK });
  const controller = new AbortController();
  clock.wakeAt(2050 * MS, () => controller.abort());
  const { counts, endNs } = await run(clock, plan, server, { signal: controller.signal });
  expect(endNs).toBe(2050 * MS);
  expect(counts).toMatchObject({ ok: 10, abandoned: 10, unstarted: plan.length - 20 });
});

test('an aborted signal starts nothing', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 10 }, 1000);
  const server = simulatedServer({ clock, sockets: 1, serviceNs: () => MS, answer: OK });
  const { counts } = await run(clock, plan, server, { signal: AbortSignal.abort() });
  expect(counts.unstarted).toBe(plan.length);
  expect(server.sentCount).toBe(0);
});

test.each<[string, Partial<OpenLoopOptions>]>([
  [
    'requestOf',
    {
      requestOf: () => {
        throw new Error('broken workload');
      },
    },
  ],
  [
    'verify',
    {
      verify: () => {
        throw new Error('broken workload');
      },
    },
  ],
])('a bug in %s ends the run with its error', async (_name, overrides) => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'constant', rate: 10 }, 1000);
  const server = simulatedServer({ clock, sockets: 1, serviceNs: () => MS, answer: OK });
  await expect(run(clock, plan, server, overrides)).rejects.toThrow('broken workload');
});

test('interval histograms hold each answered request once, in the second of its completion', async () => {
  const clock = new SimulatedClock(0);
  const plan = planOf({ kind: 'poisson', rate: 100 }, 3000);
  const server = simulatedServer({ clock, sockets: 50, serviceNs: () => 5 * MS, answer: OK });
  const { samples } = await run(clock, plan, server);
  const entries = intervalEntries({
    plan,
    targets: TARGETS,
    samples,
    startTimeMs: 5000,
    clocks: ['response'],
    tagOf: defaultTag,
  });
  expect(entries.map(({ tag, startTimeMs }) => [tag, startTimeMs]).slice(0, 3)).toEqual([
    ['read.n1.local.response', 5000],
    ['read.n1.local.response', 6000],
    ['read.n1.local.response', 7000],
  ]);
  const counts = entries.map((entry) => {
    const histogram = Histogram.decode(entry.histogram);
    const { count } = histogram;
    histogram.destroy();
    return count;
  });
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(plan.length);
});
