import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';

import { OUTCOMES, type Outcome } from '../load/open-loop.ts';
import type { ForwardingPathId } from '../run.ts';
import type { Interval } from './drive.ts';
import {
  forwardingFigures,
  judgeForwarding,
  PATHS,
  WARMUP_BLOCKS,
  type ForwardingRun,
  type PathSlices,
} from './forwarding-figures.ts';

const MS = 1e6;
const BLOCKS = 300;
const LENGTH = lengthOf(BLOCKS);
/** Between two rows of the plan. */
const STEP_NS = 5 * MS;
const START_NS = 1e12;
const NODES = [
  { id: 'active', position: 2 },
  { id: 'standby', position: 0 },
] as const;

/** Response times in microseconds: block b is answered (b mod 7) later than this. */
const RESPONSE_US: { readonly [id in ForwardingPathId]: number } = {
  'read-active': 200,
  'read-standby': 210,
  'write-active': 1_000,
  'write-forwarded': 1_700,
};

type Row = {
  outcome: Outcome;
  responseUs: number;
  lagUs: number;
  servedBy: string | undefined;
  writtenAfterUs: number;
};

/** A run in which all is well, after `spoil` has changed the rows it wants to. */
function runOf(
  spoil: (row: Row, at: { id: ForwardingPathId; block: number }) => void = () => {},
  slices: (id: ForwardingPathId) => Partial<PathSlices> = () => ({}),
  blocks = BLOCKS,
): ForwardingRun {
  const length = lengthOf(blocks);
  const column = () => new Float64Array(length).fill(Number.NaN);
  const samples = {
    length,
    outcome: new Uint8Array(length),
    route: new Uint8Array(length),
    failure: new Uint8Array(length),
    lagNs: column(),
    waitNs: column(),
    serviceNs: column(),
    responseNs: column(),
    completionNs: column(),
    failureClasses: ['http-503'],
  };
  const servedBy: (string | undefined)[] = [];
  const writtenNs = column();
  const operation = new Uint8Array(length);
  const intendedStartNs = Float64Array.from({ length }, (_, index) => index * STEP_NS);
  for (let index = 0; index < length; index++) {
    const block = Math.floor(index / PATHS.length) - WARMUP_BLOCKS;
    // Another order in each block.
    const path = (index + block + WARMUP_BLOCKS) % PATHS.length;
    const spec = PATHS[path];
    assert(spec !== undefined);
    const row: Row = {
      outcome: 'ok',
      responseUs: RESPONSE_US[spec.id] + (index % 7),
      lagUs: 0,
      servedBy: spec.id === 'read-standby' ? 'standby' : 'active',
      writtenAfterUs: 10,
    };
    spoil(row, { id: spec.id, block });
    operation[index] = path;
    samples.outcome[index] = OUTCOMES.indexOf(row.outcome);
    servedBy[index] = row.servedBy;
    if (row.outcome === 'dropped' || row.outcome === 'unstarted') continue;
    const startNs = intendedStartNs[index] ?? 0;
    samples.lagNs[index] = row.lagUs * 1e3;
    samples.responseNs[index] = row.responseUs * 1e3;
    samples.completionNs[index] = startNs + row.responseUs * 1e3;
    writtenNs[index] = START_NS + startNs + row.writtenAfterUs * 1e3;
    if (row.outcome === 'timedOut') continue;
    samples.serviceNs[index] = (row.responseUs - row.writtenAfterUs) * 1e3;
  }
  const counts = Object.fromEntries(
    OUTCOMES.map((outcome, code) => [
      outcome,
      samples.outcome.filter((each) => each === code).length,
    ]),
  ) as Record<Outcome, number>;
  return {
    plan: {
      length,
      seed: 1,
      schedule: { kind: 'poisson', rate: 200 },
      durationMs: (length * STEP_NS) / MS,
      operationNames: PATHS.map(({ id }) => id),
      intendedStartNs,
      operation,
      target: operation.map((path) => PATHS[path]?.target ?? 0),
      key: new Uint32Array(length),
      valueBytes: new Uint32Array(length),
    },
    result: { samples, counts, startNs: START_NS },
    observed: { servedBy, writtenNs },
    slices: PATHS.map(({ id }) => ({
      intervals: intervalsOf(8),
      unanswered: 0,
      wrongAnswers: 0,
      misrouted: 0,
      ...slices(id),
    })),
    nodes: NODES,
  };
}

function lengthOf(blocks: number): number {
  return (WARMUP_BLOCKS + blocks) * PATHS.length;
}

/** Per request the active node (the third) uses 300 us and the standby (the first) 100 us. */
function intervalsOf(count: number, failed = 0): Interval[] {
  const node = (cpuUs: number) => ({
    cpuNs: cpuUs * 1e3 * 100,
    threadNs: cpuUs * 1e3 * 100,
    completed: 0,
    periods: 0,
    throttled: 0,
  });
  return Array.from({ length: count }, () => ({
    elapsedNs: 200 * MS,
    completed: 100,
    failed,
    perNode: [node(100), node(7), node(300)],
  }));
}

const failedGates = (run: ForwardingRun) =>
  judgeForwarding(run)
    .filter(({ pass }) => !pass)
    .map(({ scope, id }) => `${scope} ${id}`);

function figuresOf(run: ForwardingRun) {
  const { paths, differences } = forwardingFigures(run);
  const path = (id: ForwardingPathId) => {
    const found = paths.find((each) => each.id === id);
    assert(found !== undefined);
    return found;
  };
  const [writes, reads] = differences;
  assert(writes !== undefined && reads !== undefined);
  return { path, writes, reads };
}

describe('a run in which all is well', () => {
  test('passes every gate', () => {
    expect(failedGates(runOf())).toEqual([]);
  });

  test('has no gate whose value follows from its own input', () => {
    const ids = judgeForwarding(runOf()).map(({ id }) => id);
    expect([...new Set(ids)].toSorted()).toEqual([
      'accounting',
      'dropped',
      'errors',
      'invalid-answers',
      'misrouted',
      'rate-sustained',
    ]);
  });

  test('has CPU figures of the two nodes that are asked, and no others', () => {
    const { path, writes } = figuresOf(runOf());
    expect(path('read-active').activeCpuUs).toMatchObject({ value: 300, samples: 8 });
    expect(path('read-active').standbyCpuUs).toMatchObject({ value: 100 });
    expect(writes.activeCpuUs).toMatchObject({ value: 0, unit: 'us' });
  });

  test('has the median of the paired differences, not their Hodges-Lehmann estimate', () => {
    // One write in three takes 3 ms longer: the median pairwise mean moves, the median does not.
    const run = runOf((row, { id, block }) => {
      if (id === 'write-forwarded') row.responseUs = 1_700 + (block % 3 === 0 ? 3_000 : 0);
      if (id === 'write-active') row.responseUs = 1_000 + (block % 5);
    });
    const { writes } = figuresOf(run);
    expect(writes.pairs).toBe(BLOCKS);
    expect(writes.responseP50Us).toMatchObject({ value: 699, unit: 'us' });
    assert(!('refused' in writes.responseP50Us));
    expect(writes.responseP50Us.low).toBeLessThanOrEqual(699);
    expect(writes.responseP50Us.high).toBeLessThan(710);
  });
});

describe('failed requests', () => {
  // Fewer than 1 % of all requests: the offered rate was carried.
  const spoiled = runOf((row, { id, block }) => {
    if (id === 'write-forwarded' && 0 <= block && block % 20 === 0) row.outcome = 'failed';
  });
  const reason = '5 % of the requests failed, limit 0.1 %';

  test('refuse all figures of their path', () => {
    const { response, service, activeCpuUs, standbyCpuUs } =
      figuresOf(spoiled).path('write-forwarded');
    for (const figure of [response.p50, response.p90, response.p99, service.p50]) {
      expect(figure).toEqual({ refused: reason });
    }
    expect([activeCpuUs, standbyCpuUs]).toEqual([{ refused: reason }, { refused: reason }]);
  });

  test('refuse each difference that contains their path', () => {
    const { writes } = figuresOf(spoiled);
    const refused = { refused: `write-forwarded: ${reason}` };
    expect(writes).toMatchObject({
      responseP50Us: refused,
      responseP99Us: refused,
      activeCpuUs: refused,
      standbyCpuUs: refused,
    });
  });

  test('leave the other paths and their difference', () => {
    const { path, reads } = figuresOf(spoiled);
    expect(path('read-standby').response.p50).toHaveProperty('value');
    expect(reads.responseP50Us).toHaveProperty('value');
    expect(reads.activeCpuUs).toHaveProperty('value');
  });

  test.each<[string, Partial<PathSlices>]>([
    ['answers', { intervals: intervalsOf(8, 5) }],
    ['requests without an answer', { unanswered: 40 }],
  ])('of the slices (%s) refuse the path as well', (_name, slices) => {
    const run = runOf(undefined, (id) => (id === 'read-standby' ? slices : {}));
    expect(failedGates(run)).toEqual(['forwarding/read-standby errors']);
    expect(figuresOf(run).path('read-standby').standbyCpuUs).toMatchObject({
      refused: expect.stringContaining('of the requests failed') as string,
    });
    expect(figuresOf(run).reads.standbyCpuUs).toMatchObject({
      refused: expect.stringContaining('read-standby: ') as string,
    });
  });

  test('of the warm-up blocks are not judged as such', () => {
    const run = runOf((row, { block }) => {
      if (block === -1) row.outcome = 'failed';
    });
    expect(failedGates(run)).toEqual([]);
  });
});

describe('timeouts', () => {
  test('are one of the ways to fail', () => {
    const run = runOf((row, { id, block }) => {
      if (id !== 'write-forwarded' || block !== 7) return;
      row.outcome = 'timedOut';
      row.responseUs = 5e6;
    });
    expect(failedGates(run)).toEqual(['forwarding/write-forwarded errors']);
  });

  test('stay in the counts, the maximum and the pairs as bounds', () => {
    const run = runOf((row, { id, block }) => {
      if (id !== 'write-forwarded' || block !== 7) return;
      row.outcome = 'timedOut';
      row.responseUs = 5e6;
    });
    const { path, writes } = figuresOf(run);
    expect(path('write-forwarded').response.count).toBe(BLOCKS);
    expect(path('write-forwarded').response.maxUs).toBeGreaterThan(4.9e6);
    expect(path('write-forwarded').service.maxUs).toBeGreaterThan(4.9e6);
    expect(writes.pairs).toBe(BLOCKS);
  });
});

describe('timeouts that are too few to fail the path', () => {
  const many = 2_500;
  const timedOut = (bounds: Partial<Record<ForwardingPathId, number>>) =>
    runOf(
      (row, { id, block }) => {
        const bound = bounds[id];
        if (block !== 7 || bound === undefined) return;
        row.outcome = 'timedOut';
        row.responseUs = bound;
      },
      undefined,
      many,
    );

  test('far beyond the median leave it', () => {
    const run = timedOut({ 'write-forwarded': 5e6, 'write-active': 5e6 - 1e4 });
    expect(failedGates(run)).toEqual([]);
    expect(figuresOf(run).path('write-forwarded').response.p50).toHaveProperty('value');
    expect(figuresOf(timedOut({ 'write-active': 5e6 })).writes).toMatchObject({
      pairs: many,
      responseP50Us: { unit: 'us' },
    });
  });

  test('refuse a quantile that they could have moved', () => {
    const { path, writes } = figuresOf(timedOut({ 'write-active': 100 }));
    expect(path('write-active').response.p50).toEqual({ refused: '> 0.1 ms' });
    expect(path('write-active').service.p50).toEqual({ refused: '> 0.09 ms' });
    expect(writes.responseP50Us).toEqual({ refused: 'write-active: > 0.1 ms' });
  });

  test.each<[string, number, string]>([
    ['lower', -2_000, '> -2 ms'],
    ['upper', 2_000, '< 2 ms'],
  ])('of both paths refuse a difference for its %s bound', (_name, difference, refused) => {
    const run = timedOut({ 'write-forwarded': 5e6 + difference, 'write-active': 5e6 });
    expect(figuresOf(run).path('write-active').response.p50).toHaveProperty('value');
    expect(figuresOf(run).writes.responseP50Us).toEqual({ refused });
  });
});

describe('misrouted', () => {
  const cases: readonly [ForwardingPathId, string | undefined][] = [
    ['read-active', 'standby'],
    ['read-standby', 'active'],
    ['write-active', 'standby'],
    ['write-forwarded', 'standby'],
    ['write-forwarded', 'third'],
    ['read-standby', undefined],
  ];
  test.each(cases)('is a %s that was answered by %s', (path, servedBy) => {
    const run = runOf((row, { id, block }) => {
      if (id === path && block === 3) row.servedBy = servedBy;
    });
    expect(failedGates(run)).toEqual([`forwarding/${path} misrouted`]);
    expect(figuresOf(run).path(path).response.p50).toMatchObject({
      refused: expect.stringContaining('1 answers came from another node') as string,
    });
  });

  test.each<Outcome>(['failed', 'timedOut', 'dropped'])(
    'is not a request that was %s',
    (outcome) => {
      const run = runOf((row, { id, block }) => {
        if (id !== 'write-forwarded' || block !== 3) return;
        row.outcome = outcome;
        row.servedBy = undefined;
      });
      const ids = judgeForwarding(run)
        .filter(({ pass }) => !pass)
        .map(({ id }) => id);
      expect(ids).toEqual([outcome === 'dropped' ? 'dropped' : 'errors']);
    },
  );

  test('may also show in the slices', () => {
    const run = runOf(undefined, (id) => (id === 'read-standby' ? { misrouted: 2 } : {}));
    expect(failedGates(run)).toEqual(['forwarding/read-standby misrouted']);
  });
});

test('a dropped request refuses the difference, and the median only where it could have moved it', () => {
  const { path, writes, reads } = figuresOf(
    runOf((row, { id, block }) => {
      if (id === 'write-active' && block === 3) row.outcome = 'dropped';
    }),
  );
  expect(path('write-active').response.p50).toHaveProperty('value');
  expect(writes.responseP50Us).toEqual({ refused: '1 requests were dropped' });
  expect(reads.responseP50Us).toHaveProperty('value');
});

test('dropped requests refuse the quantiles of their path that lie among them', () => {
  const { response } = figuresOf(
    runOf((row, { id, block }) => {
      if (id === 'write-active' && 0 <= block && block % 20 === 0) row.outcome = 'dropped';
    }),
  ).path('write-active');
  expect(response.p90).toHaveProperty('value');
  expect(response.p99).toEqual({ refused: '15 requests were dropped' });
});

describe("the generator's lag", () => {
  const late = (id: ForwardingPathId, share: number) =>
    runOf((row, at) => {
      if (at.id !== id || at.block % share !== 0) return;
      row.lagUs = 3_000;
      row.responseUs += 3_000;
    });

  test.each<[ForwardingPathId, 'writes' | 'reads']>([
    ['write-forwarded', 'writes'],
    ['write-active', 'writes'],
    ['read-standby', 'reads'],
    ['read-active', 'reads'],
  ])('on %s refuses the path and its difference', (id, name) => {
    const figures = figuresOf(late(id, 4));
    expect(figures.path(id).response.p50).toMatchObject({
      refused: expect.stringContaining('is generator lag') as string,
    });
    expect(figures[name].responseP50Us).toMatchObject({
      refused: expect.stringMatching(new RegExp(`^${id}: .* is generator lag$`)) as string,
    });
    const other = name === 'writes' ? figures.reads : figures.writes;
    expect(other.responseP50Us).toHaveProperty('value');
  });

  test('refuses a difference that adds up what each path alone would bear', () => {
    // 4 % of each path: 8 % of its upper half, but 16 % of the worse tail of the differences.
    const figures = figuresOf(
      runOf((row, { id, block }) => {
        const isLate =
          (id === 'write-active' && block % 25 === 0) ||
          (id === 'write-forwarded' && block % 25 === 1);
        if (!isLate) return;
        row.lagUs = 3_000;
        row.responseUs += id === 'write-active' ? 3_000 : -1_500;
      }),
    );
    expect(figures.path('write-active').response.p50).toHaveProperty('value');
    expect(figures.path('write-forwarded').response.p50).toHaveProperty('value');
    expect(figures.writes.responseP50Us).toEqual({
      refused: '16 % of the tail below p50 is generator lag',
    });
  });
});

describe('the offered rate', () => {
  test('is not carried by answers that come after the end of the plan', () => {
    const lateUs = (LENGTH * STEP_NS) / 1e3;
    const run = runOf((row, { block }) => {
      if (block >= BLOCKS - 10) row.responseUs = lateUs;
    });
    expect(failedGates(run)).toEqual(['forwarding rate-sustained']);
    expect(figuresOf(run).path('read-active').response.p50).toMatchObject({
      refused: expect.stringContaining('of the offered rate') as string,
    });
    expect(figuresOf(run).path('read-active').activeCpuUs).toHaveProperty('value');
  });

  test('is not carried by failures either', () => {
    const run = runOf((row, { id, block }) => {
      if (id === 'read-active' && block >= BLOCKS - 30) row.outcome = 'failed';
    });
    expect(failedGates(run)).toContain('forwarding rate-sustained');
  });

  test('leaves the last requests the time that an answer takes', () => {
    const run = runOf((row, { block }) => {
      if (block >= BLOCKS - 10) row.responseUs = 100_000;
    });
    expect(failedGates(run)).toEqual([]);
  });
});

test('wrong answers refuse everything', () => {
  for (const run of [
    runOf((row, { id, block }) => {
      if (id === 'read-active' && block === 3) row.outcome = 'invalid';
    }),
    runOf(undefined, (id) => (id === 'read-active' ? { wrongAnswers: 1 } : {})),
  ]) {
    expect(failedGates(run)).toEqual(['forwarding invalid-answers']);
    const { path, reads } = figuresOf(run);
    expect(path('write-forwarded').response.p50).toEqual({ refused: '1 answers were wrong' });
    expect(reads.activeCpuUs).toHaveProperty('refused');
  }
});

test('too few intervals refuse CPU figures and their differences, and no latency', () => {
  const { path, writes } = figuresOf(
    runOf(undefined, (id) => (id === 'write-active' ? { intervals: intervalsOf(5) } : {})),
  );
  const reason = 'needs 6 intervals of CPU time, has 5';
  expect(path('write-active').activeCpuUs).toEqual({ refused: reason });
  expect(writes.activeCpuUs).toEqual({ refused: `write-active: ${reason}` });
  expect(writes.responseP50Us).toHaveProperty('value');
});
