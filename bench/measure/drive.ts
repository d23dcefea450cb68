/**
 * Drives a cluster with the closed loop and keeps, for each interval, what was completed and what
 * every node used to complete it. Demand, capacity and their intervals are computed from these.
 */

import assert from 'node:assert/strict';

import { readProcessUsage } from '../cluster/process-usage.ts';
import type { Cluster, ClusterNode } from '../cluster/reference-cluster.ts';
import { monotonicNs } from '../load/clock.ts';
import { closedLoop, type ClosedLoopRequest } from '../load/closed-loop.ts';
import type { Target } from '../load/exchange.ts';
import { Histogram } from '../load/histogram.ts';
import { drawOperations, evenRouting } from '../load/plan.ts';
import type { BoundWorkload } from '../../workloads/workload.ts';

const REQUESTS_PER_CONNECTION = 100;
const INTERVAL_MS = 250;
const TIMEOUT_MS = 10_000;

export type NodeInterval = {
  readonly cpuNs: number;
  readonly completed: number;
  readonly periods: number;
  readonly throttled: number;
};

export type Interval = {
  readonly elapsedNs: number;
  readonly completed: number;
  readonly failed: number;
  readonly forwarded: number;
  readonly perNode: readonly NodeInterval[];
};

export type Drive = {
  /** Without the first interval, in which connections are made, and the last. */
  readonly intervals: readonly Interval[];
  readonly connections: number;

  readonly responseMeanUs: number;
  readonly responses: Histogram;
  /** Shares of one core. */
  readonly generatorCpu: number;
  readonly generatorEventLoop: number;
};

export type DriveOptions = {
  readonly cluster: Cluster;
  /** Indexes into `cluster.nodes()`. */
  readonly nodes: readonly number[];
  readonly activeId: string;
  readonly workload: BoundWorkload;
  readonly seed: number;
  readonly connectionsPerNode: number;
  readonly durationMs: number;
  readonly signal: AbortSignal;
  /** Returns true to end early: a warm-up that has seen enough. */
  readonly isEnough?: (intervals: readonly Interval[]) => boolean;
};

export async function drive(options: DriveOptions): Promise<Drive> {
  const { cluster, workload, seed } = options;
  const all = cluster.nodes();
  const driven = options.nodes.map((index) => {
    const node = all[index];
    assert(node !== undefined, `no node ${index}`);
    return node;
  });
  const targets = driven.map((node) => targetOf(node, options.activeId));
  const draws = requestsPerConnection(workload, seed);

  const intervals: Interval[] = [];
  const enough = new AbortController();
  const signal = AbortSignal.any([options.signal, enough.signal]);
  let before = all.map((node) => usageOf(node));
  const eventLoopBefore = performance.eventLoopUtilization();
  const cpuBefore = process.cpuUsage();
  const startedNs = monotonicNs();

  const result = await closedLoop({
    targets,
    operationNames: workload.operations.map(({ name }) => name),
    connectionsPerTarget: options.connectionsPerNode,
    requestsOf: (target, connection) => draws(target * options.connectionsPerNode + connection),
    durationMs: options.durationMs,
    timeoutMs: TIMEOUT_MS,
    nowNs: monotonicNs,
    intervalMs: INTERVAL_MS,
    signal,
    onInterval: ({ startNs, endNs, completions }) => {
      const after = all.map((node) => usageOf(node));
      const completedBy = completions.map((row) => sum(row.map(({ ok }) => ok)));
      intervals.push({
        elapsedNs: endNs - startNs,
        completed: sum(completedBy),
        failed: sum(
          completions.flatMap((row) => row.flatMap(({ failed }) => [...failed.values()])),
        ),
        forwarded: sum(completions.flatMap((row) => row.map(({ forwarded }) => forwarded))),
        perNode: all.map((node, index) => ({
          ...difference(after[index] ?? NO_USAGE, before[index] ?? NO_USAGE),
          completed: completedBy[driven.indexOf(node)] ?? 0,
        })),
      });
      before = after;
      if (options.isEnough?.(intervals.slice(1))) enough.abort();
    },
  });

  const elapsedNs = monotonicNs() - startedNs;
  const cpu = process.cpuUsage(cpuBefore);
  const responses = Histogram.merge(result.responses.flat());
  for (const histogram of result.responses.flat()) histogram.destroy();
  return {
    // The engine goes on for a moment after the last one, which would count its CPU in.
    intervals: intervals.slice(1, -1),
    connections: result.connections,
    responseMeanUs: result.responseMeanUs,
    responses,
    generatorCpu: ((cpu.user + cpu.system) * 1e3) / elapsedNs,
    generatorEventLoop: performance.eventLoopUtilization(eventLoopBefore).utilization,
  };
}

export function targetOf(node: ClusterNode, activeId: string): Target {
  return { name: node.id, origin: node.address, nodeId: node.id, isActive: node.id === activeId };
}

/** Returns the requests of the n-th connection: its own draw, the same in every run of a seed. */
function requestsPerConnection(
  workload: BoundWorkload,
  seed: number,
): (connection: number) => readonly ClosedLoopRequest[] {
  return (connection) => {
    const draw = drawOperations({
      seed: seed * 1_000 + connection,
      count: REQUESTS_PER_CONNECTION,
      workload,
      routing: evenRouting(1),
    });
    return Array.from({ length: draw.length }, (_, index) => {
      const operation = draw.operation[index] ?? 0;
      const row = {
        key: draw.key[index] ?? 0,
        valueBytes: draw.valueBytes[index] ?? 0,
        seq: connection * REQUESTS_PER_CONNECTION + index,
      };
      return { ...workload.request(operation, row), operation };
    });
  };
}

type Usage = { readonly cpuNs: number; readonly periods: number; readonly throttled: number };
const NO_USAGE: Usage = { cpuNs: 0, periods: 0, throttled: 0 };

/** The group's own clock where there is one: it also counts threads that have ended. */
function usageOf(node: ClusterNode): Usage {
  if (node.cpuGroup === undefined) {
    return { ...NO_USAGE, cpuNs: readProcessUsage(node.processId).cpuNs };
  }
  return { cpuNs: node.cpuGroup.usageNs(), ...node.cpuGroup.throttling() };
}

function difference(after: Usage, before: Usage): Usage {
  return {
    cpuNs: after.cpuNs - before.cpuNs,
    periods: after.periods - before.periods,
    throttled: after.throttled - before.throttled,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
