/**
 * Drives one or several clusters at once with the closed loop and keeps, for each interval, what
 * each of them completed and what its nodes used to complete it. Demand, capacity and their
 * intervals are computed from these.
 *
 * Clusters that are driven together suffer the same neighbours at the same moment, so the ratio of
 * their demands holds still where each of them wanders.
 */

import assert from 'node:assert/strict';

import { readProcessUsage } from '../cluster/process-usage.ts';
import type { Cluster, ClusterNode } from '../cluster/reference-cluster.ts';
import { monotonicNs } from '../load/clock.ts';
import { closedLoop, type ClosedLoopRequest, type Completions } from '../load/closed-loop.ts';
import type { Target } from '../load/exchange.ts';
import { Histogram } from '../load/histogram.ts';
import { drawOperations, evenRouting } from '../load/plan.ts';
import { startSpin } from '../load/spin.ts';
import type { BoundWorkload } from '../../workloads/workload.ts';

const REQUESTS_PER_CONNECTION = 100;
const INTERVAL_MS = 200;
const TIMEOUT_MS = 10_000;

/** A cluster under load. */
export type Party = {
  readonly cluster: Cluster;
  /** Indexes into `cluster.nodes()`: who is asked. */
  readonly nodes: readonly number[];
  readonly activeId: string;
  readonly workload: BoundWorkload;
};

export type NodeInterval = {
  /** As the node's CPU group counts it, or its threads where there is no group. */
  readonly cpuNs: number;
  /** As the scheduler counts it, thread by thread: an independent account of the same. */
  readonly threadNs: number;
  readonly completed: number;
  readonly periods: number;
  readonly throttled: number;
};

/** One party in one interval. `perNode` covers the whole cluster. */
export type Interval = {
  readonly elapsedNs: number;
  readonly completed: number;
  readonly failed: number;
  readonly perNode: readonly NodeInterval[];
};

export type Drive = {
  /**
   * [party][interval], without the first interval, in which connections are made, and the last,
   * which the engine outlives for a moment.
   */
  readonly intervals: readonly (readonly Interval[])[];
  /** From the first request sent to the end of the window. */
  readonly seconds: number;
  readonly connections: number;
  /** Answers of any status within the window, and what all requests spent in flight within it. */
  readonly answers: number;
  readonly inFlightSeconds: number;
  /** [party]; the caller destroys them. */
  readonly responses: readonly Histogram[];
  /** Requests without an answer: timeouts, and connections lost or refused. */
  readonly unanswered: number;
  /** Of the last party. */
  readonly activeId: string;
  /** Of the answers that were looked at, 2xx ones with a wrong value. */
  readonly wrongAnswers: number;
  /** 2xx answers by another node than the mode says, or by the one asked where it should forward. */
  readonly misrouted: number;
  /** Share of the time in which the generator's event loop had something to do. */
  readonly generatorBusy: number;
};

export type DriveOptions = {
  readonly parties: readonly Party[];
  readonly seed: number;
  readonly connectionsPerNode: number;
  readonly durationMs: number;
  /**
   * Connects to the last node first. Whom the engine serves first is some per cent cheaper to serve,
   * so slices that are compared take turns.
   */
  readonly isReversed?: boolean;
  readonly signal: AbortSignal;
};

export async function drive(options: DriveOptions): Promise<Drive> {
  const { parties, seed, connectionsPerNode } = options;
  const asked = parties.flatMap((party, index) =>
    party.nodes.map((position) => ({ party, index, position, node: nodeAt(party, position) })),
  );
  if (options.isReversed === true) asked.reverse();
  const operations = parties[0]?.workload.operations ?? [];
  const intervals: Interval[][] = parties.map(() => []);
  let before = parties.map(usagesOf);
  const spin = await startSpin(monotonicNs);

  let generatorBusy = 0;
  const result = await closedLoop({
    targets: asked.map(({ party, node }) => targetOf(node, party.activeId)),
    operationNames: operations.map(({ name }) => name),
    connectionsPerTarget: connectionsPerNode,
    requestsOf: (target, connection) => {
      const workload = asked[target]?.party.workload;
      assert(workload !== undefined, 'no such target');
      return drawRequests(workload, seed, target * connectionsPerNode + connection);
    },
    durationMs: options.durationMs,
    timeoutMs: TIMEOUT_MS,
    nowNs: monotonicNs,
    intervalMs: INTERVAL_MS,
    signal: options.signal,
    onInterval: ({ startNs, endNs, completions }) => {
      const after = parties.map(usagesOf);
      for (const [index, party] of parties.entries()) {
        const own = completions.filter((_, target) => asked[target]?.index === index);
        intervals[index]?.push({
          elapsedNs: endNs - startNs,
          completed: sum(own.map(okCount)),
          failed: sum(own.map(failedCount)),
          perNode: party.cluster.nodes().map((_, position) => {
            const target = asked.findIndex(
              (each) => each.party === party && each.position === position,
            );
            return {
              ...difference(after[index]?.[position], before[index]?.[position]),
              completed: okCount(completions[target] ?? []),
            };
          }),
        });
      }
      before = after;
    },
  }).finally(() => (generatorBusy = spin.stop()));

  const responses = parties.map((_, index) =>
    Histogram.merge(
      result.responses.filter((_row, target) => asked[target]?.index === index).flat(),
    ),
  );
  for (const histogram of result.responses.flat()) histogram.destroy();
  return {
    intervals: intervals.map((list) => list.slice(1, -1)),
    seconds: (result.endNs - result.firstSentNs) / 1e9,
    connections: result.connections,
    answers: result.answerCount,
    inFlightSeconds: result.inFlightSeconds,
    responses,
    unanswered: sum(result.timeouts) + sum(result.connectionErrors),
    activeId: parties.at(-1)?.activeId ?? '',
    wrongAnswers: result.wrongAnswers,
    misrouted: sum(
      result.completions.flatMap((row, target) =>
        row.map((completions, operation) => {
          const { party, node } = asked[target] ?? {};
          assert(party !== undefined && node !== undefined, 'no such target');
          const isWrite = operations[operation]?.writes ?? false;
          return misroutedOf(completions, isServedHere(party, node, isWrite));
        }),
      ),
    ),
    generatorBusy,
  };
}

function isServedHere({ cluster, activeId }: Party, node: ClusterNode, isWrite: boolean): boolean {
  return node.id === activeId || (cluster.mode === 'standby-reads' && !isWrite);
}

function misroutedOf({ ok, forwarded }: Completions, isLocal: boolean): number {
  return isLocal ? Math.min(ok, forwarded) : Math.max(0, ok - forwarded);
}

/** A party that asks every node of its cluster alike. */
export async function wholeCluster(cluster: Cluster, workload: BoundWorkload): Promise<Party> {
  const active = await cluster.active();
  const nodes = cluster.nodes().map((_, index) => index);
  return { cluster, nodes, activeId: active.id, workload };
}

export function targetOf(node: ClusterNode, activeId: string): Target {
  return { name: node.id, origin: node.address, nodeId: node.id, isActive: node.id === activeId };
}

/** Returns the requests of the n-th connection: its own draw, the same in every run of a seed. */
function drawRequests(
  workload: BoundWorkload,
  seed: number,
  connection: number,
): readonly ClosedLoopRequest[] {
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
    return {
      ...workload.request(operation, row),
      operation,
      isRight: (status, body) => workload.verify(operation, row, status, Buffer.from(body)),
    };
  });
}

function nodeAt({ cluster }: Party, position: number): ClusterNode {
  const node = cluster.nodes()[position];
  assert(node !== undefined, `no node ${position}`);
  return node;
}

function okCount(row: readonly Completions[]): number {
  return sum(row.map(({ ok }) => ok));
}

function failedCount(row: readonly Completions[]): number {
  return sum(row.flatMap(({ failed }) => [...failed.values()]));
}

type Usage = Omit<NodeInterval, 'completed'>;
const NO_USAGE: Usage = { cpuNs: 0, threadNs: 0, periods: 0, throttled: 0 };

function usagesOf({ cluster }: Party): Usage[] {
  return cluster.nodes().map(({ cpuGroup, processId }) => {
    const threadNs = readProcessUsage(processId).cpuNs;
    if (cpuGroup === undefined) return { ...NO_USAGE, cpuNs: threadNs, threadNs };
    return { cpuNs: cpuGroup.usageNs(), threadNs, ...cpuGroup.throttling() };
  });
}

function difference(after: Usage = NO_USAGE, before: Usage = NO_USAGE): Usage {
  return {
    cpuNs: after.cpuNs - before.cpuNs,
    threadNs: after.threadNs - before.threadNs,
    periods: after.periods - before.periods,
    throttled: after.throttled - before.throttled,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
