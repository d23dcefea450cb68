/**
 * From intervals to the figures of one point: a cluster of N nodes, driven together with single
 * reference nodes.
 *
 * The bottleneck law gives capacity: X <= min over nodes of quota / demand, where a node's demand is
 * its CPU per request completed by the whole cluster (visits are counted, forwarding included).
 * Speed-up is the cluster's capacity over the mean of the reference nodes' in the same intervals:
 * what the machine's neighbours do to one they do to the other, so the ratio holds still where each
 * demand wanders by a third. Equal processes differ by some per cent for life, which is why there is
 * more than one reference node.
 */

import assert from 'node:assert/strict';

import { judgeGate, type Gate, type Measured } from '../analysis/gates.ts';
import { littlesLaw, utilizationLaw } from '../analysis/laws.ts';
import { comparePaired, measuredRatio, median } from '../analysis/paired.ts';
import type { Random } from '../random.ts';
import type { Drive, Interval, NodeInterval } from './drive.ts';

/** The same stretch of time: the reference nodes, and the cluster beside them. */
export type PairedInterval = {
  readonly references: readonly Interval[];
  readonly cluster: Interval;
};

const SLICES_TO_COMPARE = 4;

export type PointFigures = {
  readonly capacity: Measured;
  readonly speedup: Measured;
  readonly throughput: Measured;
  readonly clusterCpuUs: Measured;
};

/**
 * Of drives whose last party is the cluster, and whose others are reference nodes. A small host may
 * collect garbage for longer than an interval: one in which a party completed nothing has no demand,
 * so it is joined to the next. A drive in which a party completed nothing at all gives no pair.
 */
export function pairIntervals(drives: readonly Drive[]): PairedInterval[] {
  return drives.flatMap(({ intervals }) => {
    const pairs: Interval[][] = [];
    let open: Interval[] | undefined;
    const count = Math.min(...intervals.map(({ length }) => length));
    for (let index = 0; index < count; index++) {
      const row = intervals.flatMap((party) => party[index] ?? []);
      open = open === undefined ? row : row.map((each, party) => joined(open?.[party], each));
      if (open.some(({ completed }) => completed === 0)) continue;
      pairs.push(open);
      open = undefined;
    }
    const rest = open;
    const last = pairs.at(-1);
    if (rest !== undefined && last !== undefined) {
      pairs[pairs.length - 1] = last.map((each, party) => joined(each, rest[party]));
    }
    return pairs.flatMap((row) => {
      const cluster = row.at(-1);
      return cluster === undefined ? [] : [{ references: row.slice(0, -1), cluster }];
    });
  });
}

/**
 * Hodges-Lehmann estimates over intervals: a burst of a neighbour spoils the intervals it falls
 * into, and these do not move the estimate.
 */
export function measurePoint(
  pairs: readonly PairedInterval[],
  quotaCores: number,
  random: Random,
): PointFigures {
  const bottleneck = bottleneckOf(pairs);
  const rows = pairs.map((pair) => {
    const totals = totalsOf([pair.cluster]);
    return {
      demand: demandOf(pair.cluster, bottleneck),
      speedup: speedupOf(pair, bottleneck),
      throughput: totals.completed / totals.elapsedSeconds,
      clusterCpuUs: (sum(totals.cpuSeconds) / totals.completed) * 1e6,
    };
  });
  const estimate = (unit: string, of: (row: (typeof rows)[number]) => number): Measured => {
    const measured = measuredRatio(
      rows.map((row) => ({ left: 1, right: of(row) })),
      random,
    );
    return 'refused' in measured ? measured : { ...measured, unit };
  };
  return {
    capacity: estimate('requests/s', ({ demand }) => quotaCores / demand),
    speedup: estimate('ratio', ({ speedup }) => speedup),
    throughput: estimate('requests/s', ({ throughput }) => throughput),
    clusterCpuUs: estimate('us', ({ clusterCpuUs }) => clusterCpuUs),
  };
}

/** What must hold before any figure of the point is believed. `quotaCores` undefined: no quota. */
export function judgePoint(
  drives: readonly Drive[],
  quotaCores: number | undefined,
  random: Random,
): Gate[] {
  const total = (value: (each: Drive) => number) => sum(drives.map((each) => value(each)));
  const halves = halvesOf(drives);
  const enough = judgeGate(
    'too-few-intervals',
    2 * Math.min(...halves.map(({ length }) => length)),
  );
  const gates = [
    enough,
    judgeGate('errors', failedShare(drives)),
    judgeGate(
      'invalid-answers',
      total(({ wrongAnswers }) => wrongAnswers),
    ),
    judgeGate(
      'misrouted',
      total(({ misrouted }) => misrouted),
    ),
    judgeGate('leader-changed', new Set(drives.map(({ activeId }) => activeId)).size - 1),
    // One slice in which it was busier shows as nodes that did not use their quota.
    judgeGate('generator-event-loop', medianOf(drives.map(({ generatorBusy }) => generatorBusy))),
    judgeGate('littles-law', medianOf(drives.map(littleMismatch))),
  ];
  if (!enough.pass) return gates;
  const pairs = halves.flat();
  const cluster = totalsOf(pairs.map((pair) => pair.cluster));
  gates.push(judgeGate('not-steady', provenChange(halves, bottleneckOf(pairs), random)));
  if (quotaCores !== undefined) {
    // Without groups there is one account of CPU only, and nothing to compare it with.
    gates.push(judgeGate('utilization-law', utilizationMismatch(cluster)));
    gates.push(judgeGate('hollow-point', busiestUtilization(cluster) / quotaCores));
  }
  return gates;
}

/**
 * What came earlier and what came later: slices, or the halves of each slice where there are too few
 * to have both orders of connection (see `drive`) on either side.
 */
function halvesOf(drives: readonly Drive[]): [PairedInterval[], PairedInterval[]] {
  if (drives.length >= SLICES_TO_COMPARE) {
    const middle = Math.floor(drives.length / 2);
    return [pairIntervals(drives.slice(0, middle)), pairIntervals(drives.slice(middle))];
  }
  const slices = drives.map((drive) => pairIntervals([drive]));
  const half = (pairs: readonly PairedInterval[]) => Math.floor(pairs.length / 2);
  return [
    slices.flatMap((pairs) => pairs.slice(0, half(pairs))),
    slices.flatMap((pairs) => pairs.slice(half(pairs))),
  ];
}

/** Of all parties: a reference node that fails fast would flatter the cluster. */
function failedShare(drives: readonly Drive[]): number {
  const intervals = drives.flatMap((each) => each.intervals.flat());
  const failed =
    sum(intervals.map((interval) => interval.failed)) +
    sum(drives.map(({ unanswered }) => unanswered));
  return failed / Math.max(1, failed + sum(intervals.map(({ completed }) => completed)));
}

/** A closed loop without think time has as many requests in flight as it has connections. */
function littleMismatch({ connections, answers, seconds, inFlightSeconds }: Drive): number {
  if (answers === 0) return 1;
  return littlesLaw({
    inFlightMean: connections,
    throughputPerSecond: answers / seconds,
    responseSeconds: inFlightSeconds / answers,
  }).mismatch;
}

/**
 * How far the demand relative to the reference nodes' has moved at least, from the earlier half
 * to the later: the end of the 95 % interval that is nearer to no change, 0 if none is
 * proven. The change itself would be noise with so few slices.
 */
function provenChange(
  halves: readonly [readonly PairedInterval[], readonly PairedInterval[]],
  bottleneck: number,
  random: Random,
): number {
  const [before, after] = halves.map((half) => half.map((pair) => speedupOf(pair, bottleneck)));
  const count = Math.min(before?.length ?? 0, after?.length ?? 0);
  const change = comparePaired(
    Array.from({ length: count }, (_, index) =>
      Math.log((after?.[index] ?? 1) / (before?.[index] ?? 1)),
    ),
    random,
  );
  assert(change !== undefined, 'the gate of too few intervals comes first');
  if (change.low <= 0 && 0 <= change.high) return 0;
  return Math.exp(Math.min(Math.abs(change.low), Math.abs(change.high))) - 1;
}

/** The node that is busiest over the whole point. The busiest of each interval would be a maximum of
 * noise, and dearer the more nodes there are. */
function bottleneckOf(pairs: readonly PairedInterval[]): number {
  return indexOfLargest(totalsOf(pairs.map(({ cluster }) => cluster)).cpuSeconds);
}

/** CPU seconds of one node per request completed by its cluster. */
function demandOf({ perNode, completed }: Interval, node: number): number {
  return (perNode[node]?.cpuNs ?? 0) / 1e9 / completed;
}

/** Capacity over the mean capacity of the reference nodes; the quota is the same and cancels out. */
function speedupOf({ references, cluster }: PairedInterval, bottleneck: number): number {
  const single = sum(references.map((reference) => 1 / demandOf(reference, 0)));
  return references.length / single / demandOf(cluster, bottleneck);
}

/** U = X D: what the group of the busiest node counted, against its threads' CPU per request. */
function utilizationMismatch(totals: Totals): number {
  const busiest = indexOfLargest(totals.cpuSeconds);
  return utilizationLaw({
    utilization: (totals.cpuSeconds[busiest] ?? 0) / totals.elapsedSeconds,
    throughputPerSecond: totals.completed / totals.elapsedSeconds,
    demandSeconds: (totals.threadSeconds[busiest] ?? 0) / totals.completed,
  }).mismatch;
}

export type Totals = {
  readonly elapsedSeconds: number;
  readonly completed: number;
  readonly failed: number;
  readonly completedByNode: readonly number[];
  readonly cpuSeconds: readonly number[];
  readonly threadSeconds: readonly number[];
  readonly throttledShare: readonly number[];
};

export function totalsOf(intervals: readonly Interval[]): Totals {
  const nodeCount = intervals[0]?.perNode.length ?? 0;
  assert(nodeCount > 0, 'a phase without a full interval: the slice is too short');
  const perNode = (value: (node: Interval['perNode'][number]) => number) =>
    Array.from({ length: nodeCount }, (_, index) =>
      sum(intervals.map((interval) => value(interval.perNode[index] ?? NO_INTERVAL))),
    );
  const periods = perNode((node) => node.periods);
  return {
    elapsedSeconds: sum(intervals.map(({ elapsedNs }) => elapsedNs)) / 1e9,
    completed: sum(intervals.map(({ completed }) => completed)),
    failed: sum(intervals.map(({ failed }) => failed)),
    completedByNode: perNode((node) => node.completed),
    cpuSeconds: perNode((node) => node.cpuNs / 1e9),
    threadSeconds: perNode((node) => node.threadNs / 1e9),
    throttledShare: perNode((node) => node.throttled).map(
      (throttled, index) => throttled / Math.max(1, periods[index] ?? 0),
    ),
  };
}

function joined(first: Interval | undefined, second: Interval | undefined): Interval {
  assert(first !== undefined && second !== undefined, 'parties with different intervals');
  const total = (of: (node: NodeInterval) => number, index: number) =>
    sum([first, second].map(({ perNode }) => of(perNode[index] ?? NO_INTERVAL)));
  return {
    elapsedNs: first.elapsedNs + second.elapsedNs,
    completed: first.completed + second.completed,
    failed: first.failed + second.failed,
    perNode: first.perNode.map((_, index) => ({
      cpuNs: total(({ cpuNs }) => cpuNs, index),
      threadNs: total(({ threadNs }) => threadNs, index),
      completed: total(({ completed }) => completed, index),
      periods: total(({ periods }) => periods, index),
      throttled: total(({ throttled }) => throttled, index),
    })),
  };
}

const NO_INTERVAL: NodeInterval = { cpuNs: 0, threadNs: 0, completed: 0, periods: 0, throttled: 0 };

function busiestUtilization({ cpuSeconds, elapsedSeconds }: Totals): number {
  return Math.max(...cpuSeconds) / elapsedSeconds;
}

function medianOf(values: readonly number[]): number {
  return median(values.toSorted((a, b) => a - b));
}

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
