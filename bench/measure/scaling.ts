/**
 * Throughput scaling: what a cluster of N equal nodes carries, single-leader baseline against
 * standby reads, in one run.
 *
 * Three clusters of the same binary: one with standby reads and one baseline, which grow together,
 * and a single reference node. Every new node is warmed by itself, without a quota. At each size
 * both clusters are driven in turn (A B B A), each together with the reference node, every node
 * under the same CPU quota; `scaling-point.ts` makes the figures. The load goes to all nodes alike,
 * as a load balancer would spread it.
 */

import { refusals, type Measured } from '../analysis/gates.ts';
import { QUOTA_PERIOD_US, type CpuGroups } from '../cluster/cpu-group.ts';
import { readProcessUsage } from '../cluster/process-usage.ts';
import type { Cluster } from '../cluster/reference-cluster.ts';
import { Histogram } from '../load/histogram.ts';
import { createRandom } from '../random.ts';
import type { Mode, Scaling, ScalingNode, ScalingPoint, ScopedGate } from '../run.ts';
import type { BoundWorkload, Workload } from '../../workloads/workload.ts';
import { drive, wholeCluster, type Drive } from './drive.ts';
import { closedLoopLatency } from './latency.ts';
import type { Preset, PresetWorkload, WorkloadSize } from './preset.ts';
import type { Recorder } from './recorder.ts';
import { judgePoint, measurePoint, pairIntervals, totalsOf, type Totals } from './scaling-point.ts';

const WARMUP_SEED = 999;
const BRIEF_SHARE = 0.35;
/** Its event loop spins (see `load/spin.ts`). */
const GENERATOR_CORES = 1;
/** The kernel refuses quotas below a millisecond per period. */
const QUOTA_CORES_MIN = 0.1;
const QUOTA_CORES_MAX = 0.5;

/** The clusters of the experiment: `reference` is the single node beside which others are driven. */
export type Subject = Mode | 'reference';

export type ScalingWorkload = {
  readonly workload: Workload;
  readonly plan: PresetWorkload;
  readonly bound: { readonly [subject in Subject]: BoundWorkload };
};

export type ScalingOptions = {
  readonly clusters: { readonly [subject in Subject]: Cluster };
  readonly workloads: readonly ScalingWorkload[];
  readonly cpuGroups: CpuGroups | undefined;
  readonly quotaCores: number;
  readonly preset: Preset;
  readonly seed: number;
  readonly recorder: Recorder;
  readonly signal: AbortSignal;
  readonly onStep: (name: string) => void;
};

export async function measureScaling(
  options: ScalingOptions,
): Promise<{ readonly scaling: Scaling; readonly gates: readonly ScopedGate[] }> {
  const { preset, workloads } = options;
  const gates: ScopedGate[] = [];
  const points = new Map<string, ScalingPoint[]>(
    workloads.map(({ workload }) => [workload.name, []]),
  );
  await warm(options, 'reference', 0, 'full');

  for (const nodeCount of preset.nodeCounts) {
    options.onStep(`scaling: ${nodeCount} ${nodeCount === 1 ? 'node' : 'nodes'}`);
    await growAndWarm(options, nodeCount);
    for (const each of workloads) {
      const size = each.plan.sizes.find(({ nodes }) => nodes === nodeCount);
      if (size === undefined) continue;
      const drives = await driveSize(options, each, size);
      for (const mode of MODES) {
        const scope = `scaling/${each.workload.name}/${mode}/n${nodeCount}`;
        const measured = await evaluate(options, mode, drives[mode], scope);
        points.get(each.workload.name)?.push(measured.point);
        gates.push(...measured.gates);
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
      series: workloads.map(({ workload }) => ({
        workload: workload.name,
        claim: workload.claim,
        points: points.get(workload.name) ?? [],
      })),
    },
  };
}

const MODES: readonly Mode[] = ['standby-reads', 'baseline'];
const SUBJECTS: readonly Subject[] = [...MODES, 'reference'];
const ABBA: readonly Mode[] = ['standby-reads', 'baseline', 'baseline', 'standby-reads'];

/**
 * The quota at which `nodeCount` nodes and the reference node leave a tenth of a core free beside
 * the generator, and do not ask more of its own core than `GENERATOR_SHARE`.
 */
export function feasibleQuota(options: {
  readonly cores: number;
  readonly tenantCores: number;
  readonly nodeCount: number;
}): number {
  const free = options.cores - GENERATOR_CORES - options.tenantCores - 0.1;
  const share = Math.min(free, GENERATOR_SHARE) / (options.nodeCount + 1);
  const rounded = Math.floor(share * 100) / 100;
  return Math.max(QUOTA_CORES_MIN, Math.min(QUOTA_CORES_MAX, rounded));
}

/** A read costs the generator about as much CPU as the node that answers it. */
const GENERATOR_SHARE = 0.7;

/**
 * New nodes are warmed one by one: each process has its own code to compile, and a node that is
 * warmed among others gets whatever share they leave. The active node is warmed again: what it
 * does for a new peer makes the engine compile anew what was compiled without.
 */
async function growAndWarm(options: ScalingOptions, nodeCount: number): Promise<void> {
  const { clusters, preset } = options;
  const isFirst = preset.nodeCounts[0] === nodeCount;
  const known = isFirst ? 0 : clusters.baseline.nodes().length;
  await Promise.all(MODES.map((mode) => clusters[mode].grow(nodeCount)));
  for (const mode of MODES) {
    for (let node = known; node < nodeCount; node++) await warm(options, mode, node, 'full');
    const activeId = (await clusters[mode].active()).id;
    const active = clusters[mode].nodes().findIndex(({ id }) => id === activeId);
    if (!isFirst) await warm(options, mode, active, 'brief');
  }
}

async function warm(
  options: ScalingOptions,
  subject: Subject,
  node: number,
  extent: 'full' | 'brief',
): Promise<void> {
  const { preset, clusters, signal } = options;
  const workloads = extent === 'full' ? options.workloads : options.workloads.slice(0, 1);
  // The first workload is the headline. In the baseline only the active node bounds anything.
  for (const [position, { bound }] of workloads.entries()) {
    const party = await wholeCluster(clusters[subject], bound[subject]);
    const isLong = position === 0 && subject !== 'baseline' && extent === 'full';
    const durationMs = isLong ? preset.warmupMsMax : preset.warmupMsMax * BRIEF_SHARE;
    const result = await drive({
      parties: [{ ...party, nodes: [node] }],
      seed: options.seed + WARMUP_SEED,
      connectionsPerNode: preset.connectionsPerNode,
      durationMs,
      signal,
      // Whether demand stands still afterwards is for a gate to say.
      isEnough: (intervals) =>
        intervals.reduce((total, { perNode }) => total + (perNode[node]?.completed ?? 0), 0) >=
        preset.warmupRequestsPerNode,
    });
    for (const histogram of result.responses) histogram.destroy();
  }
}

async function driveSize(
  options: ScalingOptions,
  { bound }: ScalingWorkload,
  size: WorkloadSize,
): Promise<{ readonly [mode in Mode]: Drive[] }> {
  const { clusters, preset, signal } = options;
  const drives: { readonly [mode in Mode]: Drive[] } = { 'standby-reads': [], baseline: [] };
  const order = Array.from({ length: size.slicesPerMode / 2 }, () => ABBA).flat();
  for (const subject of SUBJECTS) clusters[subject].setQuota(options.quotaCores);
  for (const [turn, mode] of order.entries()) {
    signal.throwIfAborted();
    const result = await drive({
      parties: [
        await wholeCluster(clusters.reference, bound.reference),
        await wholeCluster(clusters[mode], bound[mode]),
      ],
      // The same requests for both modes of a turn.
      seed: options.seed + turn,
      connectionsPerNode: preset.connectionsPerNode,
      durationMs: preset.sliceMs,
      signal,
    });
    drives[mode].push(result);
  }
  for (const subject of SUBJECTS) clusters[subject].setQuota(null);
  return drives;
}

async function evaluate(
  options: ScalingOptions,
  mode: Mode,
  drives: readonly Drive[],
  scope: string,
): Promise<{ readonly point: ScalingPoint; readonly gates: readonly ScopedGate[] }> {
  const cluster = options.clusters[mode];
  const pairs = pairIntervals(drives);
  const isModelled = options.cpuGroups === undefined;
  const random = createRandom(options.seed, 'resample');
  const gates = judgePoint(drives, isModelled ? undefined : options.quotaCores, random);
  const refused = refusals(gates, ['refuse-throughput', 'refuse-phase', 'invalidate-run'])[0];
  const hollow = refusals(gates, ['hollow-point'])[0];

  const responses = Histogram.merge(drives.flatMap((each) => each.responses[1] ?? []));
  for (const each of drives) for (const histogram of each.responses) histogram.destroy();
  const perNode = describeNodes({
    cluster,
    activeId: (await cluster.active()).id,
    totals: totalsOf(pairs.map((pair) => pair.cluster)),
    isModelled,
  });
  const tag = scope.replaceAll('/', '.');
  options.recorder.phase(tag, responses);
  options.recorder.nodes(tag, perNode);
  const response = closedLoopLatency(responses);
  responses.destroy();

  const figures = measurePoint(pairs, options.quotaCores, random);
  const keep = (measured: Measured, reason = refused): Measured =>
    reason === undefined ? measured : { refused: reason };
  return {
    gates: gates.map((gate) => ({ ...gate, scope })),
    point: {
      mode,
      nodes: cluster.nodes().length,
      capacity: keep(figures.capacity),
      throughput: keep(figures.throughput),
      isHollow: hollow !== undefined,
      clusterCpuUs: keep(figures.clusterCpuUs),
      speedup: keep(figures.speedup, refused ?? hollow),
      response,
      perNode,
    },
  };
}

function describeNodes(of: {
  readonly cluster: Cluster;
  readonly activeId: string;
  readonly totals: Totals;
  readonly isModelled: boolean;
}): ScalingNode[] {
  const { cluster, activeId, totals, isModelled } = of;
  return cluster.nodes().map((node, index) => {
    const cpuSeconds = totals.cpuSeconds[index] ?? 0;
    return {
      id: node.id,
      role: node.id === activeId ? 'active' : 'standby',
      share: (totals.completedByNode[index] ?? 0) / totals.completed,
      utilization: cpuSeconds / totals.elapsedSeconds,
      demandUs: (cpuSeconds / totals.completed) * 1e6,
      throttledShare: isModelled ? null : (totals.throttledShare[index] ?? 0),
      rssBytes: readProcessUsage(node.processId).rssBytes,
    };
  });
}
