/**
 * Throughput scaling: what a cluster of N equal nodes carries, single-leader baseline against
 * standby reads, in one run.
 *
 * Two clusters of the same binary grow side by side. At each size both are warmed on every node
 * without a quota, then driven by the same closed loop in turn (A B B A), every node under the same
 * CPU quota. The load goes to all nodes alike, as a load balancer would spread it.
 *
 * Capacity is the bottleneck law: X <= min over nodes of quota / demand, where a node's demand is its
 * CPU per request completed by the whole cluster (so visits are counted, forwarding included).
 * Wall-clock throughput is measured beside it and must agree with it.
 */

import assert from 'node:assert/strict';

import { bootstrapIntervals } from '../analysis/bootstrap.ts';
import { judgeGate, refusals, type Gate, type Measured } from '../analysis/gates.ts';
import { littlesLaw, utilizationLaw } from '../analysis/laws.ts';
import { WARM_DEMAND_CHANGE_MAX, warmupStatus } from '../analysis/steady.ts';
import { QUOTA_PERIOD_US, type CpuGroups } from '../cluster/cpu-group.ts';
import { readProcessUsage } from '../cluster/process-usage.ts';
import type { Cluster } from '../cluster/reference-cluster.ts';
import { createRandom } from '../random.ts';
import type { Mode, Scaling, ScalingNode, ScalingPoint, ScopedGate } from '../run.ts';
import type { BoundWorkload, Workload } from '../../workloads/workload.ts';
import { drive, type Drive, type Interval } from './drive.ts';
import { closedLoopLatency } from './latency.ts';
import type { Preset } from './preset.ts';
import { Histogram } from '../load/histogram.ts';
import type { Recorder } from './recorder.ts';

/** Intervals drawn together in the bootstrap: neighbours share their noise. */
const BLOCK_INTERVALS = 2;
/** Intervals of a warm-up that make one window of demand. */
const WINDOW_INTERVALS = 4;

export type ScalingOptions = {
  readonly clusters: { readonly [mode in Mode]: Cluster };
  readonly workloads: readonly {
    readonly workload: Workload;
    readonly bound: { readonly [mode in Mode]: BoundWorkload };
  }[];
  readonly cpuGroups: CpuGroups | undefined;
  readonly quotaCores: number;
  readonly preset: Preset;
  readonly seed: number;
  readonly recorder: Recorder;
  readonly signal: AbortSignal;
  readonly onStep: (name: string) => void;
};

type Point = Omit<ScalingPoint, 'speedup'>;

export async function measureScaling(
  options: ScalingOptions,
): Promise<{ readonly scaling: Scaling; readonly gates: readonly ScopedGate[] }> {
  const { preset, clusters, workloads } = options;
  const gates: ScopedGate[] = [];
  const points = new Map<string, Point[]>(workloads.map(({ workload }) => [workload.name, []]));

  for (const nodeCount of preset.nodeCounts) {
    options.onStep(`scaling: ${nodeCount} ${nodeCount === 1 ? 'node' : 'nodes'}`);
    for (const mode of MODES) await clusters[mode].grow(nodeCount);
    for (const { workload, bound } of workloads) {
      const measured = await measureSize({ ...options, workload, bound, nodeCount });
      for (const { point, gates: judged } of measured) {
        points.get(workload.name)?.push(point);
        const scope = `scaling/${workload.name}/${point.mode}/n${nodeCount}`;
        gates.push(...judged.map((gate) => ({ ...gate, scope })));
      }
    }
  }

  return {
    gates,
    scaling: {
      isolation: options.cpuGroups?.kind ?? 'modelled',
      quotaCores: options.quotaCores,
      periodUs: QUOTA_PERIOD_US,
      connectionsPerNode: preset.connectionsPerNode,
      sliceMs: preset.sliceMs,
      slicesPerPoint: preset.slicesPerMode,
      series: workloads.map(({ workload }) => ({
        workload: workload.name,
        claim: workload.claim,
        points: withSpeedups(points.get(workload.name) ?? []),
      })),
    },
  };
}

/** The kernel refuses quotas below a millisecond per period. */
const QUOTA_CORES_MIN = 0.1;
const QUOTA_CORES_MAX = 0.5;

const MODES: readonly Mode[] = ['standby-reads', 'baseline'];

/** The quota at which `nodeCount` nodes and the generator together leave a fifth of the machine free. */
export function feasibleQuota(options: {
  readonly cores: number;
  readonly tenantCores: number;
  readonly nodeCount: number;
}): number {
  // Per CPU second of a node the generator needs about 0.7 of its own (30 us against 40 us).
  const share = (0.8 * options.cores - options.tenantCores - 0.1) / (options.nodeCount * 1.7);
  return Math.max(QUOTA_CORES_MIN, Math.min(QUOTA_CORES_MAX, Math.floor(share * 100) / 100));
}

type SizeOptions = ScalingOptions & {
  readonly workload: Workload;
  readonly bound: { readonly [mode in Mode]: BoundWorkload };
  readonly nodeCount: number;
};

async function measureSize(
  options: SizeOptions,
): Promise<{ readonly point: Point; readonly gates: readonly Gate[] }[]> {
  const { clusters, preset } = options;
  const warm = new Map<Mode, number>();
  for (const mode of MODES) warm.set(mode, await warmUp(options, mode));

  const drives: { readonly [mode in Mode]: Drive[] } = { 'standby-reads': [], baseline: [] };
  const order = Array.from({ length: preset.slicesPerMode / 2 }, () => ABBA).flat();
  for (const mode of MODES) clusters[mode].setQuota(options.quotaCores);
  for (const [turn, mode] of order.entries()) {
    options.signal.throwIfAborted();
    drives[mode].push(await driveAll(options, mode, { durationMs: preset.sliceMs, turn }));
  }
  for (const mode of MODES) clusters[mode].setQuota(null);

  const measured = [];
  for (const mode of MODES) {
    measured.push(await evaluate(options, mode, drives[mode], warm.get(mode) ?? Infinity));
  }
  return measured;
}

const ABBA: readonly Mode[] = ['standby-reads', 'baseline', 'baseline', 'standby-reads'];

async function driveAll(
  options: SizeOptions,
  mode: Mode,
  phase: {
    durationMs: number;
    turn: number;
    isEnough?: (intervals: readonly Interval[]) => boolean;
  },
): Promise<Drive> {
  const cluster = options.clusters[mode];
  const active = await cluster.active();
  return drive({
    cluster,
    nodes: cluster.nodes().map((_, index) => index),
    activeId: active.id,
    workload: options.bound[mode],
    // The same requests for both modes of a turn.
    seed: options.seed + phase.turn,
    connectionsPerNode: options.preset.connectionsPerNode,
    durationMs: phase.durationMs,
    signal: options.signal,
    ...(phase.isEnough === undefined ? {} : { isEnough: phase.isEnough }),
  });
}

/** Drives until every node is warm; returns the largest change of demand that is left. */
async function warmUp(options: SizeOptions, mode: Mode): Promise<number> {
  const requestsMin = options.preset.warmupRequestsPerNode;
  const judge = (intervals: readonly Interval[]) => {
    const nodes = intervals[0]?.perNode ?? [];
    return nodes.map((_, node) => warmupStatus(windowsOf(intervals, node)));
  };
  const result = await driveAll(options, mode, {
    durationMs: options.preset.warmupMsMax,
    turn: 999,
    isEnough: (intervals) =>
      intervals.length > 0 &&
      judge(intervals).every(
        (status) =>
          status.requestCount >= requestsMin && status.demandChange <= WARM_DEMAND_CHANGE_MAX,
      ),
  });
  result.responses.destroy();
  return Math.max(...judge(result.intervals).map(({ demandChange }) => demandChange));
}

function windowsOf(intervals: readonly Interval[], node: number) {
  const windows: { requestCount: number; cpuSeconds: number }[] = [];
  for (let end = intervals.length; end >= WINDOW_INTERVALS; end -= WINDOW_INTERVALS) {
    const window = intervals.slice(end - WINDOW_INTERVALS, end);
    windows.unshift({
      requestCount: sum(window.map(({ perNode }) => perNode[node]?.completed ?? 0)),
      cpuSeconds: sum(window.map(({ perNode }) => perNode[node]?.cpuNs ?? 0)) / 1e9,
    });
  }
  return windows;
}

async function evaluate(
  options: SizeOptions,
  mode: Mode,
  drives: readonly Drive[],
  warmupChange: number,
): Promise<{ readonly point: Point; readonly gates: readonly Gate[] }> {
  const cluster = options.clusters[mode];
  const intervals = drives.flatMap((each) => each.intervals);
  const activeId = (await cluster.active()).id;
  const totals = totalsOf(intervals);
  const busiest = indexOfLargest(totals.cpuSeconds);
  const isModelled = options.cpuGroups === undefined;
  const utilization = (totals.cpuSeconds[busiest] ?? 0) / totals.elapsedSeconds;
  const gates = [
    ...judgeDrives(drives, totals),
    judgeGate('not-steady', Math.min(warmupChange, 9.99)),
  ];
  if (!isModelled) gates.push(judgeGate('hollow-point', utilization / options.quotaCores));
  gates.push(judgeSteadyDemand(drives, busiest));

  const refused = refusals(gates, ['refuse-throughput', 'refuse-phase', 'invalidate-run'])[0];
  const responses = Histogram.merge(drives.map((each) => each.responses));
  const scope = `${options.workload.name}.${mode}.n${options.nodeCount}`;
  options.recorder.phase(scope, responses);
  for (const each of drives) each.responses.destroy();

  const nodes: ScalingNode[] = cluster.nodes().map((node, index) => ({
    id: node.id,
    role: node.id === activeId ? 'active' : 'standby',
    share: (totals.completedByNode[index] ?? 0) / totals.completed,
    utilization: (totals.cpuSeconds[index] ?? 0) / totals.elapsedSeconds,
    demandUs: ((totals.cpuSeconds[index] ?? 0) / totals.completed) * 1e6,
    throttledShare: isModelled ? null : (totals.throttledShare[index] ?? 0),
    rssBytes: readProcessUsage(node.processId).rssBytes,
  }));
  options.recorder.nodes(scope, nodes);

  const figures = measureAll(intervals, options.quotaCores, options.seed);
  const latency = closedLoopLatency(responses);
  responses.destroy();
  const keep = (measured: Measured): Measured => (refused === undefined ? measured : { refused });
  return {
    gates,
    point: {
      mode,
      nodes: options.nodeCount,
      capacity: keep(figures.capacity),
      throughput: keep(figures.throughput),
      clusterCpuUs: keep(figures.clusterCpuUs),
      isHollow: refusals(gates, ['hollow-point']).length > 0,
      response: latency,
      perNode: nodes,
    },
  };
}

type Totals = {
  readonly elapsedSeconds: number;
  readonly completed: number;
  readonly failed: number;
  readonly completedByNode: readonly number[];
  readonly cpuSeconds: readonly number[];
  readonly throttledShare: readonly number[];
};

function totalsOf(intervals: readonly Interval[]): Totals {
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

function judgeDrives(drives: readonly Drive[], totals: Totals): Gate[] {
  const worst = (value: (each: Drive) => number) => Math.max(...drives.map((each) => value(each)));
  return [
    judgeGate(
      'generator-cpu',
      worst(({ generatorCpu }) => generatorCpu),
    ),
    judgeGate(
      'generator-event-loop',
      worst(({ generatorEventLoop }) => generatorEventLoop),
    ),
    judgeGate('errors', totals.failed / Math.max(1, totals.failed + totals.completed)),
    judgeGate(
      'littles-law',
      worst(
        ({ connections, intervals, responseMeanUs }) =>
          littlesLaw({
            inFlightMean: connections,
            // Of the inner intervals: while connections are made, fewer are in flight.
            throughputPerSecond: totalsOf(intervals).completed / totalsOf(intervals).elapsedSeconds,
            responseSeconds: responseMeanUs / 1e6,
          }).mismatch,
      ),
    ),
  ];
}

/** U = X D across slices: the demand of all slices must predict the utilization of each. */
function judgeSteadyDemand(drives: readonly Drive[], busiest: number): Gate {
  const all = totalsOf(drives.flatMap(({ intervals }) => intervals));
  const demandSeconds = (all.cpuSeconds[busiest] ?? 0) / all.completed;
  const mismatches = drives.map(({ intervals }) => {
    const slice = totalsOf(intervals);
    return utilizationLaw({
      utilization: (slice.cpuSeconds[busiest] ?? 0) / slice.elapsedSeconds,
      throughputPerSecond: slice.completed / slice.elapsedSeconds,
      demandSeconds,
    }).mismatch;
  });
  return judgeGate('utilization-law', Math.max(...mismatches));
}

function measureAll(intervals: readonly Interval[], quotaCores: number, seed: number) {
  const statistics = (units: readonly Interval[]): readonly [number, number, number] => {
    const totals = totalsOf(units);
    const demandSeconds = Math.max(...totals.cpuSeconds) / totals.completed;
    return [
      quotaCores / demandSeconds,
      totals.completed / totals.elapsedSeconds,
      (sum(totals.cpuSeconds) / totals.completed) * 1e6,
    ];
  };
  const values = statistics(intervals);
  const bounds = bootstrapIntervals({
    units: intervals,
    statistics,
    blockLength: BLOCK_INTERVALS,
    random: createRandom(seed, 'resample'),
  });
  const measured = (column: 0 | 1 | 2, unit: string): Measured => ({
    value: values[column],
    unit,
    low: bounds[column]?.low ?? values[column],
    high: bounds[column]?.high ?? values[column],
    samples: intervals.length,
  });
  return {
    capacity: measured(0, 'requests/s'),
    throughput: measured(1, 'requests/s'),
    clusterCpuUs: measured(2, 'us'),
  };
}

/** Capacity relative to the smallest size of the same mode; both intervals are carried over. */
function withSpeedups(points: readonly Point[]): ScalingPoint[] {
  return points.map((point) => {
    const single = points.find(({ mode, nodes }) => mode === point.mode && nodes === 1);
    return { ...point, speedup: ratio(point, single) };
  });
}

function ratio(point: Point, single: Point | undefined): Measured {
  if (single === undefined) return { refused: 'no measurement of one node' };
  for (const each of [point, single]) {
    if ('refused' in each.capacity) return { refused: each.capacity.refused };
    if (each.isHollow) return { refused: `${each.nodes} nodes did not saturate` };
  }
  const [top, bottom] = [point.capacity, single.capacity];
  if ('refused' in top || 'refused' in bottom) return { refused: 'unreachable' };
  const value = top.value / bottom.value;
  if (point === single) return { value: 1, unit: 'ratio' };
  // Relative half-widths of independent figures add in squares.
  const spread = Math.hypot(relativeSpread(top), relativeSpread(bottom));
  return {
    value,
    unit: 'ratio',
    low: value * (1 - spread),
    high: value * (1 + spread),
    samples: Math.min(top.samples ?? 0, bottom.samples ?? 0),
  };
}

function relativeSpread(measured: { value: number; low?: number; high?: number }): number {
  const { value, low = value, high = value } = measured;
  return (high - low) / 2 / value;
}

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
