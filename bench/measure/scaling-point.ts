/**
 * From intervals to the figures of one point: a cluster of N nodes, driven together with a single
 * reference node.
 *
 * The bottleneck law gives capacity: X <= min over nodes of quota / demand, where a node's demand is
 * its CPU per request completed by the whole cluster (visits are counted, forwarding included).
 * Speed-up is the ratio of both capacities in the same intervals: what the machine's neighbours do
 * to one they do to the other, so the ratio holds still where each demand wanders by a third.
 */

import assert from 'node:assert/strict';

import { bootstrapIntervals } from '../analysis/bootstrap.ts';
import { judgeGate, type Gate, type Measured } from '../analysis/gates.ts';
import { littlesLaw, utilizationLaw } from '../analysis/laws.ts';
import type { Random } from '../random.ts';
import type { Drive, Interval } from './drive.ts';

/** The same stretch of time: the reference node, and the cluster beside it. */
export type PairedInterval = { readonly reference: Interval; readonly cluster: Interval };

/** Intervals drawn together in the bootstrap: neighbours in time share their noise. */
const BLOCK_INTERVALS = 2;

export type PointFigures = {
  readonly capacity: Measured;
  readonly speedup: Measured;
  readonly throughput: Measured;
  readonly clusterCpuUs: Measured;
};

export function pairIntervals(drives: readonly Drive[]): PairedInterval[] {
  return drives.flatMap(({ intervals: [reference = [], cluster = []] }) =>
    reference.flatMap((interval, index) => {
      const other = cluster[index];
      return other === undefined ? [] : [{ reference: interval, cluster: other }];
    }),
  );
}

export function measurePoint(
  pairs: readonly PairedInterval[],
  quotaCores: number,
  random: Random,
): PointFigures {
  const statistics = (units: readonly PairedInterval[]): readonly number[] => {
    const totals = totalsOf(units.map(({ cluster }) => cluster));
    const demand = bottleneckDemand(totals);
    return [
      quotaCores / demand,
      bottleneckDemand(totalsOf(units.map(({ reference }) => reference))) / demand,
      totals.completed / totals.elapsedSeconds,
      (sum(totals.cpuSeconds) / totals.completed) * 1e6,
    ];
  };
  const values = statistics(pairs);
  const bounds = bootstrapIntervals({
    units: pairs,
    statistics,
    blockLength: BLOCK_INTERVALS,
    random,
  });
  const measured = (column: number, unit: string): Measured => {
    const value = values[column];
    const interval = bounds[column];
    assert(value !== undefined && interval !== undefined, 'a figure without a column');
    return { value, unit, ...interval, samples: pairs.length };
  };
  return {
    capacity: measured(0, 'requests/s'),
    speedup: measured(1, 'ratio'),
    throughput: measured(2, 'requests/s'),
    clusterCpuUs: measured(3, 'us'),
  };
}

/** What must hold before any figure of the point is believed. `quotaCores` undefined: no quota. */
export function judgePoint(drives: readonly Drive[], quotaCores: number | undefined): Gate[] {
  const worst = (value: (each: Drive) => number) => Math.max(...drives.map((each) => value(each)));
  const pairs = pairIntervals(drives);
  const cluster = totalsOf(pairs.map((pair) => pair.cluster));
  const gates = [
    judgeGate(
      'generator-event-loop',
      worst(({ generatorBusy }) => generatorBusy),
    ),
    judgeGate('errors', cluster.failed / Math.max(1, cluster.failed + cluster.completed)),
    judgeGate('littles-law', worst(littleMismatch)),
    judgeGate('not-steady', changeBetweenHalves(drives)),
    judgeGate('utilization-law', Math.max(...utilizationMismatches(drives))),
  ];
  if (quotaCores !== undefined) {
    gates.push(judgeGate('hollow-point', busiestUtilization(cluster) / quotaCores));
  }
  return gates;
}

function littleMismatch({ connections, throughputPerSecond, responseMeanUs }: Drive): number {
  return littlesLaw({
    inFlightMean: connections,
    throughputPerSecond,
    responseSeconds: responseMeanUs / 1e6,
  }).mismatch;
}

/** Of the demand relative to the reference node's, first half of the slices against the second. */
function changeBetweenHalves(drives: readonly Drive[]): number {
  const relative = (half: readonly Drive[]) => {
    const pairs = pairIntervals(half);
    return (
      bottleneckDemand(totalsOf(pairs.map(({ cluster }) => cluster))) /
      bottleneckDemand(totalsOf(pairs.map(({ reference }) => reference)))
    );
  };
  const middle = Math.floor(drives.length / 2);
  const [before, after] = [relative(drives.slice(0, middle)), relative(drives.slice(middle))];
  return Math.abs(after - before) / before;
}

/**
 * U = X D, slice by slice: the demand over all slices, moved by as much as the reference node's
 * moved, must predict what the busiest node used.
 */
function utilizationMismatches(drives: readonly Drive[]): number[] {
  const all = pairIntervals(drives);
  const clusterTotals = totalsOf(all.map(({ cluster }) => cluster));
  const busiest = indexOfLargest(clusterTotals.cpuSeconds);
  const demandSeconds = (clusterTotals.cpuSeconds[busiest] ?? 0) / clusterTotals.completed;
  const referenceDemand = bottleneckDemand(totalsOf(all.map(({ reference }) => reference)));
  return drives.map((each) => {
    const pairs = pairIntervals([each]);
    const slice = totalsOf(pairs.map(({ cluster }) => cluster));
    const reference = bottleneckDemand(totalsOf(pairs.map((pair) => pair.reference)));
    return utilizationLaw({
      utilization: (slice.cpuSeconds[busiest] ?? 0) / slice.elapsedSeconds,
      throughputPerSecond: slice.completed / slice.elapsedSeconds,
      demandSeconds: demandSeconds * (reference / referenceDemand),
    }).mismatch;
  });
}

export type Totals = {
  readonly elapsedSeconds: number;
  readonly completed: number;
  readonly failed: number;
  readonly completedByNode: readonly number[];
  readonly cpuSeconds: readonly number[];
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
    throttledShare: perNode((node) => node.throttled).map(
      (throttled, index) => throttled / Math.max(1, periods[index] ?? 0),
    ),
  };
}

const NO_INTERVAL = { cpuNs: 0, completed: 0, periods: 0, throttled: 0 };

/** CPU seconds of the busiest node per request completed by the cluster. */
function bottleneckDemand({ cpuSeconds, completed }: Totals): number {
  return Math.max(...cpuSeconds) / completed;
}

function busiestUtilization({ cpuSeconds, elapsedSeconds }: Totals): number {
  return Math.max(...cpuSeconds) / elapsedSeconds;
}

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
