/**
 * Throughput scaling: what a cluster of N equal nodes carries, single-leader baseline against
 * standby reads, in one run.
 *
 * Clusters of the same binary: one with standby reads and one baseline, which grow together, and
 * single reference nodes. New nodes are warmed without a quota, by themselves where they answer by
 * themselves, then together. At each size both clusters are driven in turn, each together with the reference nodes, every node
 * under the same CPU quota; `scaling-point.ts` makes the figures. The load goes to all nodes alike,
 * as a load balancer would spread it.
 */

import { refusals, type GateEffect, type Measured } from '../analysis/gates.ts';
import { QUOTA_PERIOD_US, type CpuGroups } from '../cluster/cpu-group.ts';
import { readProcessUsage } from '../cluster/process-usage.ts';
import type { Cluster } from '../cluster/reference-cluster.ts';
import { Histogram } from '../load/histogram.ts';
import { createRandom } from '../random.ts';
import type { Mode, Scaling, ScalingNode, ScalingPoint, ScopedGate } from '../run.ts';
import type { BoundWorkload, Workload } from '../../workloads/workload.ts';
import { drive, wholeCluster, type Drive, type DriveOptions, type Party } from './drive.ts';
import { closedLoopLatency } from './latency.ts';
import type { Preset, PresetWorkload, WorkloadSize } from './preset.ts';
import type { Recorder } from './recorder.ts';
import {
  judgePoint,
  measurePoint,
  pairIntervals,
  totalsOf,
  type PointFigures,
  type Totals,
} from './scaling-point.ts';

const WARMUP_SEED = 999;
/** Each with new connections: what runs once for each of them is to be compiled, too. */
const WARMUP_ROUNDS = 4;
/** Of the time for a node alone. */
export const TOGETHER_SHARES: { readonly [mode in Mode]: number } = {
  'standby-reads': 0.5,
  baseline: 1.3,
};
/** Its event loop spins (see `load/spin.ts`). */
const GENERATOR_CORES = 1;
/** The kernel refuses quotas below a millisecond per period. */
const QUOTA_CORES_MIN = 0.1;
const QUOTA_CORES_MAX = 0.5;

/** The single nodes beside which the others are driven. */
const REFERENCES = ['reference-1', 'reference-2'] as const;
const MODES = ['standby-reads', 'baseline'] as const satisfies readonly Mode[];
/** The clusters of the experiment. */
export const SUBJECTS = [...REFERENCES, ...MODES] as const;
export type Subject = (typeof SUBJECTS)[number];

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
  for (const reference of REFERENCES) await warmAlone(options, reference, 0);

  for (const nodeCount of preset.nodeCounts) {
    options.onStep(`scaling: ${nodeCount} ${nodeCount === 1 ? 'node' : 'nodes'}`);
    await growAndWarm(options, nodeCount);
    for (const each of workloads) {
      const size = each.plan.sizes.find(({ nodes }) => nodes === nodeCount);
      if (size === undefined) continue;
      const drives = await driveSize(options, each, size);
      for (const mode of MODES) {
        const scope = scopeOf(each.workload, mode, nodeCount);
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

/**
 * The quota at which `nodeCount` nodes and the reference nodes leave a tenth of a core free beside
 * the generator, and do not ask more of its own core than `GENERATOR_SHARE`.
 */
export function feasibleQuota(options: {
  readonly cores: number;
  readonly tenantCores: number;
  readonly nodeCount: number;
}): number {
  const free = options.cores - GENERATOR_CORES - options.tenantCores - 0.1;
  const share = Math.min(free, GENERATOR_SHARE) / (options.nodeCount + REFERENCES.length);
  const rounded = Math.floor(share * 100) / 100;
  return Math.max(QUOTA_CORES_MIN, Math.min(QUOTA_CORES_MAX, rounded));
}

/** A read costs the generator about as much CPU as the node that answers it. */
const GENERATOR_SHARE = 0.7;

/**
 * New nodes are warmed one by one: each process has its own code to compile, and a node that is
 * warmed among others gets whatever share they leave. Not so in the baseline, where only the active
 * node bounds anything, and what it does is what the others ask of it.
 */
async function growAndWarm(options: ScalingOptions, nodeCount: number): Promise<void> {
  const { clusters, preset } = options;
  const known = preset.nodeCounts[0] === nodeCount ? 0 : clusters.baseline.nodes().length;
  // Both to their end: a cluster that still grows cannot be stopped.
  const grown = await Promise.allSettled(MODES.map((mode) => clusters[mode].grow(nodeCount)));
  for (const result of grown) if (result.status === 'rejected') throw result.reason;
  for (let node = known; node < nodeCount; node++) await warmAlone(options, 'standby-reads', node);
}

/** With the headline's workload. */
async function warmAlone(options: ScalingOptions, subject: Subject, node: number): Promise<void> {
  const { workloads, clusters, preset } = options;
  const [headline] = workloads;
  if (headline === undefined) return;
  for (let round = 0; round < WARMUP_ROUNDS; round++) {
    const party = await wholeCluster(clusters[subject], headline.bound[subject]);
    await driveParties(options, {
      parties: [{ ...party, nodes: [node] }],
      seed: WARMUP_SEED + round,
      durationMs: preset.warmupMs / WARMUP_ROUNDS,
    }).then(discard);
  }
}

async function driveSize(
  options: ScalingOptions,
  { bound, workload }: ScalingWorkload,
  size: WorkloadSize,
): Promise<{ readonly [mode in Mode]: Drive[] }> {
  const { clusters, preset } = options;
  const partiesOf = (mode: Mode): Promise<Party[]> =>
    Promise.all(
      [...REFERENCES, mode].map((subject) => wholeCluster(clusters[subject], bound[subject])),
    );
  // All together now: each has a fraction of a core, hence fewer hits of short-lived caches.
  for (const mode of MODES) {
    const durationMs = preset.warmupMs * TOGETHER_SHARES[mode];
    const parties = await partiesOf(mode);
    await driveParties(options, { parties, seed: WARMUP_SEED, durationMs }).then(discard);
  }
  const drives: { readonly [mode in Mode]: Drive[] } = { 'standby-reads': [], baseline: [] };
  const order = Array.from({ length: size.rounds }, () => size.order).flat();
  for (const subject of SUBJECTS) clusters[subject].setQuota(options.quotaCores);
  for (const mode of order) {
    const parties = await partiesOf(mode);
    // The n-th slice of either mode has the same requests.
    const seed = drives[mode].length;
    const result = await driveParties(options, {
      parties,
      seed,
      durationMs: preset.sliceMs,
      isReversed: seed % 2 === 1,
    });
    drives[mode].push(result);
    const endMs = Date.now();
    const when = { startMs: Math.round(endMs - result.seconds * 1000), endMs };
    const responses = result.responses.at(-1);
    if (responses !== undefined) {
      options.recorder.slice(tagOf(scopeOf(workload, mode, size.nodes)), when, responses);
    }
  }
  for (const subject of SUBJECTS) clusters[subject].setQuota(null);
  return drives;
}

function scopeOf({ name }: Workload, mode: Mode, nodeCount: number): string {
  return `scaling/${name}/${mode}/n${nodeCount}`;
}

function tagOf(scope: string): string {
  return scope.replaceAll('/', '.');
}

async function driveParties(
  { preset, seed, signal }: ScalingOptions,
  load: Pick<DriveOptions, 'parties' | 'seed' | 'durationMs' | 'isReversed'>,
): Promise<Drive> {
  signal.throwIfAborted();
  const { connectionsPerNode } = preset;
  return await drive({ ...load, seed: seed + load.seed, connectionsPerNode, signal });
}

/** Whether demand stood still after a warm-up is for a gate to say. */
function discard({ responses }: Drive): void {
  for (const histogram of responses) histogram.destroy();
}

/** Whatever fails, the figures of the point fall with it, save those of a hollow one. */
const REFUSING: readonly GateEffect[] = [
  'refuse-throughput',
  'refuse-latency',
  'refuse-phase',
  'invalidate-run',
];

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
  const refused = refusals(gates, REFUSING)[0];
  const hollow = refusals(gates, ['hollow-point'])[0];

  const responses = Histogram.merge(drives.flatMap((each) => each.responses.at(-1) ?? []));
  drives.forEach(discard);
  // Without a single interval there is nothing to say of any node.
  const perNode =
    pairs.length === 0
      ? []
      : describeNodes({
          cluster,
          activeId: (await cluster.active()).id,
          totals: totalsOf(pairs.map((pair) => pair.cluster)),
          isModelled,
        });
  options.recorder.nodes(tagOf(scope), perNode);
  const response = closedLoopLatency(responses);
  responses.destroy();

  // Where a gate refuses all, they are not even computed: it may be for want of intervals.
  const figures =
    refused === undefined ? measurePoint(pairs, options.quotaCores, random) : undefined;
  const keep = (of: (each: PointFigures) => Measured): Measured =>
    figures === undefined ? { refused: refused ?? '' } : of(figures);
  return {
    gates: gates.map((gate) => ({ ...gate, scope })),
    point: {
      mode,
      nodes: cluster.nodes().length,
      capacity: keep(({ capacity }) => capacity),
      throughput: keep(({ throughput }) => throughput),
      isHollow: hollow !== undefined,
      clusterCpuUs: keep(({ clusterCpuUs }) => clusterCpuUs),
      speedup: keep(({ speedup }) => (hollow === undefined ? speedup : { refused: hollow })),
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
