import { describe, expect, test } from 'vitest';

import type { Histogram } from '../load/histogram.ts';
import { createRandom } from '../random.ts';
import type { Drive, Interval } from './drive.ts';
import { judgePoint, measurePoint, pairIntervals } from './scaling-point.ts';

const QUOTA_CORES = 0.2;
const ELAPSED_NS = 250e6;
/** A saturated node has used its quota. */
const QUOTA_NS = QUOTA_CORES * ELAPSED_NS;

/** A cluster whose nodes used `cpuNs` while `completed` requests ended, evenly spread. */
function interval(completed: number, cpuNs: readonly number[]): Interval {
  return {
    elapsedNs: ELAPSED_NS,
    completed,
    failed: 0,
    perNode: cpuNs.map((ns) => ({
      cpuNs: ns,
      threadNs: ns,
      completed: completed / cpuNs.length,
      periods: 25,
      throttled: 25,
    })),
  };
}

function driveOf(pairs: readonly (readonly [Interval, Interval])[]): Drive {
  return {
    intervals: [pairs.map(([reference]) => reference), pairs.map(([, cluster]) => cluster)],
    seconds: 10,
    connections: 16,
    answers: 40_000,
    inFlightSeconds: 160,
    responses: [] as Histogram[],
    unanswered: 0,
    activeId: 's1',
    wrongAnswers: 0,
    misrouted: 0,
    generatorBusy: 0.5,
  };
}

/** `slowdown` is what the machine does to both at that moment. */
function balanced(nodes: number, slowdown: number): readonly [Interval, Interval] {
  const perNode = 1_000 / slowdown;
  return [
    interval(perNode, [QUOTA_NS]),
    interval(
      perNode * nodes,
      Array.from({ length: nodes }, () => QUOTA_NS),
    ),
  ];
}

const random = () => createRandom(1, 'resample');
const failed = (drives: readonly Drive[]) =>
  judgePoint(drives, QUOTA_CORES, random())
    .filter(({ pass }) => !pass)
    .map(({ id }) => id);

describe('measurePoint()', () => {
  test('gives N for N equal nodes, however the machine wanders', () => {
    const slowdowns = [1, 1.4, 0.8, 1.1, 2, 1, 0.9, 1.3];
    const drives = [driveOf(slowdowns.map((slowdown) => balanced(5, slowdown)))];
    const { speedup } = measurePoint(pairIntervals(drives), QUOTA_CORES, random());
    expect(speedup).toMatchObject({ value: expect.closeTo(5, 9), low: expect.closeTo(5, 9) });
  });

  test('takes the busiest node as the bottleneck', () => {
    // The active node is saturated by 500 requests; the standbys only forward.
    const pairs = Array.from({ length: 8 }, (): readonly [Interval, Interval] => [
      interval(1_000, [QUOTA_NS]),
      interval(500, [QUOTA_NS, QUOTA_NS / 2, QUOTA_NS / 2]),
    ]);
    const figures = measurePoint(pairIntervals([driveOf(pairs)]), QUOTA_CORES, random());
    expect(figures.speedup).toMatchObject({ value: expect.closeTo(0.5, 9) });
    expect(figures.capacity).toMatchObject({ value: expect.closeTo(2_000, 6) });
    expect(figures.clusterCpuUs).toMatchObject({ value: expect.closeTo(200, 6) });
  });

  test('joins an interval in which a party completed nothing to its neighbour', () => {
    const [reference, cluster] = balanced(2, 1);
    const stalled = { ...cluster, completed: 0 };
    const twice = { ...cluster, completed: 2 * cluster.completed };
    const pairs = [
      ...Array.from({ length: 6 }, () => [reference, cluster] as const),
      [reference, stalled] as const,
      [reference, twice] as const,
    ];
    const { speedup } = measurePoint(pairIntervals([driveOf(pairs)]), QUOTA_CORES, random());
    expect(speedup).toMatchObject({ value: expect.closeTo(2, 9), low: expect.closeTo(2, 9) });

    const atTheEnd = [[reference, cluster] as const, [reference, stalled] as const];
    const [joined, ...others] = pairIntervals([driveOf(atTheEnd)]);
    expect(others).toEqual([]);
    expect(joined?.cluster).toMatchObject({ elapsedNs: 2 * ELAPSED_NS, completed: 2_000 });
    expect(joined?.cluster.perNode[0]?.cpuNs).toBe(2 * QUOTA_NS);
  });

  test('measures against the mean capacity of the reference nodes', () => {
    const [fast, cluster] = balanced(4, 1);
    const slow = interval(500, [QUOTA_NS]);
    const drive = driveOf(Array.from({ length: 8 }, () => [fast, cluster] as const));
    const [references = [], clusters = []] = drive.intervals;
    const both = { ...drive, intervals: [references, references.map(() => slow), clusters] };
    const { speedup } = measurePoint(pairIntervals([both]), QUOTA_CORES, random());
    expect(speedup).toMatchObject({ value: expect.closeTo(4 / 0.75, 9) });
  });

  test('is not moved by a burst that spoils one interval in eight', () => {
    const spoiled: readonly [Interval, Interval] = [
      interval(1_000, [QUOTA_NS]),
      interval(
        300,
        Array.from({ length: 3 }, () => QUOTA_NS),
      ),
    ];
    const pairs = [...Array.from({ length: 7 }, () => balanced(3, 1)), spoiled];
    const { speedup } = measurePoint(pairIntervals([driveOf(pairs)]), QUOTA_CORES, random());
    expect(speedup).toMatchObject({ value: expect.closeTo(3, 9) });
  });
});

describe('judgePoint()', () => {
  const steady = (nodes: number) =>
    driveOf([1, 1.1, 0.9, 1, 1.05, 0.95].map((slowdown) => balanced(nodes, slowdown)));

  test('lets a saturated, steady point pass', () => {
    expect(failed([steady(3), steady(3)])).toEqual([]);
  });

  test.each<[string, (drive: Drive) => Drive]>([
    ['generator-event-loop', (drive) => ({ ...drive, generatorBusy: 0.9 })],
    ['littles-law', (drive) => ({ ...drive, inFlightSeconds: 140 })],
    ['errors', (drive) => ({ ...drive, unanswered: 100 })],
    ['invalid-answers', (drive) => ({ ...drive, wrongAnswers: 1 })],
    ['misrouted', (drive) => ({ ...drive, misrouted: 1 })],
  ])('refuses by %s', (gate, spoil) => {
    expect(failed([spoil(steady(3)), spoil(steady(3))])).toEqual([gate]);
  });

  test('refuses by errors of a reference node, which would flatter the cluster', () => {
    const [reference, cluster] = balanced(3, 1);
    const failing = { ...reference, failed: 10 };
    const drive = driveOf(Array.from({ length: 6 }, () => [failing, cluster] as const));
    expect(failed([drive, drive])).toEqual(['errors']);
  });

  test('refuses what is too short to be judged', () => {
    const short = driveOf(Array.from({ length: 5 }, () => balanced(3, 1)));
    expect(failed([short, short])).toEqual(['too-few-intervals']);
    const [reference, cluster] = balanced(3, 1);
    const dead = driveOf(
      Array.from({ length: 20 }, () => [reference, { ...cluster, completed: 0 }] as const),
    );
    expect(failed([dead, dead])).toEqual(['too-few-intervals']);
    // What went wrong is said beside it.
    const silent = { ...dead, answers: 0, unanswered: 40_000 };
    expect(failed([silent, silent])).toEqual(['too-few-intervals', 'errors', 'littles-law']);
  });

  test('compares accounts of CPU, and quota, only where there are groups', () => {
    const judged = judgePoint([steady(3), steady(3)], undefined, random()).map(({ id }) => id);
    expect(judged).not.toContain('utilization-law');
    expect(judged).not.toContain('hollow-point');
  });

  test('refuses a point during which another node became active', () => {
    expect(failed([steady(3), { ...steady(3), activeId: 's2' }])).toEqual(['leader-changed']);
  });

  test('draws a point hollow whose busiest node did not use its quota', () => {
    const used = Array.from({ length: 3 }, () => QUOTA_NS * 0.9);
    const idle = [interval(1_000, [QUOTA_NS * 0.9]), interval(3_000, used)] as const;
    const drive = driveOf(Array.from({ length: 6 }, () => idle));
    expect(failed([drive, drive])).toEqual(['hollow-point']);
  });

  test('refuses a demand that has provably moved, not one that merely scatters', () => {
    const dearer = driveOf(
      Array.from({ length: 6 }, (): readonly [Interval, Interval] => [
        interval(1_000, [QUOTA_NS]),
        interval(2_000, [QUOTA_NS, QUOTA_NS, QUOTA_NS]),
      ]),
    );
    expect(failed([steady(3), steady(3), dearer, dearer])).toEqual(['not-steady']);
    // Two slices differ by their order of connection, too: what counts is each by itself.
    expect(failed([steady(3), dearer])).toEqual([]);
    const [before = [], after = []] = [steady(3), dearer].map(({ intervals }) => intervals);
    const falling = {
      ...dearer,
      intervals: before.map((party, index) => [...party, ...(after[index] ?? [])]),
    };
    expect(failed([falling, falling])).toEqual(['not-steady']);
    const scattered = [1, 1.5, 0.7, 1.2, 0.8, 1].map((factor): readonly [Interval, Interval] => [
      interval(1_000, [QUOTA_NS]),
      interval(3_000 * factor, [QUOTA_NS, QUOTA_NS, QUOTA_NS]),
    ]);
    expect(failed([steady(3), driveOf(scattered)])).toEqual([]);
  });

  test('compares two accounts of the same CPU by the utilization law', () => {
    const [reference, cluster] = balanced(3, 1);
    const forgotten = {
      ...cluster,
      perNode: cluster.perNode.map((node) => ({ ...node, threadNs: node.threadNs * 0.8 })),
    };
    const drive = driveOf(Array.from({ length: 6 }, () => [reference, forgotten] as const));
    expect(failed([drive, drive])).toEqual(['utilization-law']);
  });
});
