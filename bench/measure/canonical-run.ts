/**
 * The whole run: observe the machine, start clusters, measure, judge, and hand out one result.
 *
 * Clusters are started for one experiment and stopped after it, so that no idle process of one
 * experiment shares the machine with the next. Data directories lie below the run's own directory,
 * on the file system whose fsync the result names.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

import { call } from '../cluster/admin-api.ts';
import { detectCpuGroups } from '../cluster/cpu-group.ts';
import { startReferenceCluster, type Cluster } from '../cluster/reference-cluster.ts';
import { monotonicNs } from '../load/clock.ts';
import { connectTargets } from '../load/client.ts';
import { judge } from '../report/verdict.ts';
import type { Forwarding, Lag, LagCurve, Run, Scaling, ScopedGate } from '../run.ts';
import { prepare } from '../../workloads/prepare.ts';
import { findWorkload } from '../../workloads/registry.ts';
import { bind, type BoundWorkload, type Workload } from '../../workloads/workload.ts';
import { targetOf } from './drive.ts';
import { observeEnvironment } from './environment.ts';
import { measureForwarding } from './forwarding.ts';
import { IDLE_TIMES, measureLag } from './lag.ts';
import type { Preset } from './preset.ts';
import { createProgress, type Progress, type Step } from './progress.ts';
import { createRecorder, type Recorder } from './recorder.ts';
import {
  feasibleQuota,
  measureScaling,
  SUBJECTS,
  TOGETHER_SHARES,
  type Subject,
} from './scaling.ts';

export type Experiment = 'scaling' | 'forwarding' | 'lag';

export type RunOptions = {
  readonly preset: Preset;
  readonly experiments: readonly Experiment[];
  readonly seed: number;
  /** The run directory. */
  readonly directory: string;
  readonly runId: string;
  readonly command: string;
  readonly suite: Run['suite'];
  readonly signal: AbortSignal;
  readonly output: NodeJS.WriteStream;
};

type Measuring = RunOptions & {
  readonly dataDirectory: string;
  readonly recorder: Recorder;
  readonly progress: Progress;
  readonly tenantCores: number;
};

const LAG_NODES = 3;
/**
 * OpenBao's default, meant for minimal servers (its documentation of raft storage); ours is 1. With a
 * tenth of a core, five heartbeats a second would be several per cent of what a node can do.
 */
const MINIMAL_SERVER = { performance_multiplier: 5 };
const NODE_PREFIXES: { readonly [subject in Subject]: string } = {
  'reference-1': 'p',
  'reference-2': 'q',
  'standby-reads': 's',
  baseline: 'b',
};
const ASK_TIMEOUT_MS = 10_000;
const PREPARE_SOCKETS = 16;
/** Longer than any lag that the piggyback mode should show. */
const LAG_LISTENER = { consistency_max_index_wait: '2s' };

export async function runCanonical(options: RunOptions): Promise<Run> {
  const startedAt = new Date();
  const startedNs = monotonicNs();
  const progress = createProgress(planSteps(options), options.output);
  const dataDirectory = mkdtempSync(join(options.directory, 'data-'));
  const recorder = createRecorder(Date.now());
  try {
    progress.next('environment');
    const environment = await observeEnvironment(dataDirectory);
    const measuring = {
      ...options,
      dataDirectory,
      recorder,
      progress,
      tenantCores: environment.tenantCores,
    };
    const gates: ScopedGate[] = [];
    const scaling = options.experiments.includes('scaling')
      ? await runScaling(measuring, gates)
      : null;
    const { forwarding, lag, version } = await runReplication(measuring, gates);
    progress.next('report');
    recorder.write(options.directory);
    const run = {
      schemaVersion: 1 as const,
      runId: options.runId,
      startedAt: startedAt.toISOString(),
      durationMs: Math.round((monotonicNs() - startedNs) / 1e6),
      command: options.command,
      seed: options.seed,
      suite: options.suite,
      target: { kind: 'reference' as const, version, settings: SETTINGS },
      environment,
      scaling,
      forwarding,
      lag,
      gates,
    };
    return { ...run, verdict: judge(run) };
  } finally {
    progress.done();
    rmSync(dataDirectory, { recursive: true, force: true });
  }
}

const SETTINGS = {
  storage: 'raft on LevelDB, every log append and every apply synced',
  'client connections': 'plain HTTP/1.1, keep-alive',
  'cluster connections': 'mutual TLS 1.3 on loopback',
  'commit index': 'pushed, except in the piggyback curve',
  'raft timing': "scaling: performance_multiplier 5, OpenBao's default; else 1",
};

async function runScaling(options: Measuring, gates: ScopedGate[]): Promise<Scaling> {
  const cpuGroups = detectCpuGroups();
  const { preset, progress } = options;
  progress.next('scaling: start');
  const clusters: { [subject in Subject]?: Cluster } = {};
  try {
    for (const subject of SUBJECTS) {
      clusters[subject] = await startReferenceCluster({
        name: NODE_PREFIXES[subject],
        // A single node is the active one: the mode makes no difference to it.
        mode: subject === 'baseline' ? 'baseline' : 'standby-reads',
        directory: join(options.dataDirectory, NODE_PREFIXES[subject]),
        storage: MINIMAL_SERVER,
        cpuGroups,
      });
    }
    const all = clusters as { [subject in Subject]: Cluster };
    const workloads = [];
    for (const plan of preset.workloads) {
      const workload = findWorkload(plan.name);
      workloads.push({
        workload,
        plan,
        bound: await bindAll(all, workload, options),
      });
    }
    const result = await measureScaling({
      clusters: all,
      workloads,
      cpuGroups,
      quotaCores: feasibleQuota({
        cores: availableParallelism(),
        tenantCores: options.tenantCores,
        nodeCount: Math.max(...preset.nodeCounts),
      }),
      preset,
      seed: options.seed,
      recorder: options.recorder,
      signal: options.signal,
      onStep: (name) => progress.next(name),
    });
    gates.push(...result.gates);
    return result.scaling;
  } finally {
    await Promise.all(Object.values(clusters).map((cluster) => cluster.stop()));
  }
}

async function bindAll(
  clusters: { readonly [subject in Subject]: Cluster },
  workload: Workload,
  options: Measuring,
): Promise<{ readonly [subject in Subject]: BoundWorkload }> {
  const bound: { [subject in Subject]?: BoundWorkload } = {};
  for (const subject of SUBJECTS) {
    bound[subject] = await bindTo(clusters[subject], workload, options);
  }
  return bound as { [subject in Subject]: BoundWorkload };
}

/** Forwarding and the pushed curve share a cluster; the piggyback curve needs one of its own. */
async function runReplication(
  options: Measuring,
  gates: ScopedGate[],
): Promise<{ forwarding: Forwarding | null; lag: Lag | null; version: string }> {
  const { experiments, preset, progress } = options;
  const wantsLag = experiments.includes('lag');
  let forwarding: Forwarding | null = null;
  let version = 'unknown';
  const curves: LagCurve[] = [];

  for (const commitNotify of wantsLag ? (['push', 'piggyback'] as const) : (['push'] as const)) {
    progress.next(`${commitNotify}: start`);
    const cluster = await startReferenceCluster({
      name: commitNotify,
      mode: 'standby-reads',
      directory: join(options.dataDirectory, commitNotify),
      storage: { commit_notify: commitNotify },
      listener: LAG_LISTENER,
    });
    try {
      await cluster.grow(LAG_NODES);
      version = String((await call('GET', 'sys/health', await cluster.active())).body['version']);
      if (commitNotify === 'push' && experiments.includes('forwarding')) {
        progress.next('forwarding');
        const workload = findWorkload('update-heavy');
        const { valueBytes } = workload.keyspace;
        const result = await measureForwarding({
          cluster,
          workload: await bindTo(cluster, workload, options),
          valueBytes: valueBytes.kind === 'fixed' ? valueBytes.bytes : valueBytes.bytesMax,
          preset,
          seed: options.seed,
          recorder: options.recorder,
          signal: options.signal,
        });
        gates.push(...result.gates);
        forwarding = result.forwarding;
      }
      if (wantsLag) {
        progress.next(`lag: ${commitNotify}`);
        const result = await measureLag({
          cluster,
          commitNotify,
          rates: preset.lagRates,
          durationMs: preset.lagMs,
          seed: options.seed,
          signal: options.signal,
        });
        gates.push(...result.gates);
        curves.push(result.curve);
      }
    } finally {
      await cluster.stop();
    }
  }
  return { forwarding, lag: wantsLag ? { nodes: LAG_NODES, curves } : null, version };
}

async function bindTo(
  cluster: Cluster,
  workload: Workload,
  options: Measuring,
): Promise<BoundWorkload> {
  const active = await cluster.active();
  const client = connectTargets({
    targets: [targetOf(active, active.id)],
    socketsPerTarget: PREPARE_SOCKETS,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  try {
    const setting = await prepare({
      workload,
      seed: options.seed,
      name: `bench-${workload.name}`,
      writer: options.runId,
      token: cluster.token,
      ask: (request) => client.ask(0, request, ASK_TIMEOUT_MS),
      onCreate: () => {}, // The cluster is ours and goes away with everything in it.
      signal: options.signal,
    });
    return bind(workload, setting);
  } finally {
    await client.close();
  }
}

/** What takes how long, measured once on two cores; only the time left depends on it. */
function planSteps({ preset, experiments }: RunOptions): Step[] {
  const steps: Step[] = [{ name: 'environment', estimateMs: 2_000 }];
  if (experiments.includes('scaling')) {
    steps.push({ name: 'scaling: start', estimateMs: 6_000 + 2 * (preset.warmupMs + 500) });
    const togetherMs =
      preset.warmupMs * (TOGETHER_SHARES['standby-reads'] + TOGETHER_SHARES.baseline) + 300;
    let known = 0;
    for (const count of preset.nodeCounts) {
      const sizes = preset.workloads.flatMap((each) =>
        each.sizes.filter(({ nodes }) => nodes === count),
      );
      const warming = (count - known) * (preset.warmupMs + 1_500) + sizes.length * togetherMs;
      const slices = sizes.reduce((total, { order, rounds }) => total + rounds * order.length, 0);
      steps.push({
        name: `scaling: ${count} ${count === 1 ? 'node' : 'nodes'}`,
        estimateMs: warming + slices * (preset.sliceMs + 150),
      });
      known = count;
    }
  }
  for (const commitNotify of ['push', 'piggyback'] as const) {
    if (commitNotify === 'piggyback' && !experiments.includes('lag')) continue;
    steps.push({ name: `${commitNotify}: start`, estimateMs: 3_000 });
    if (commitNotify === 'push' && experiments.includes('forwarding')) {
      steps.push({
        name: 'forwarding',
        estimateMs: preset.forwardingMs + 12 * preset.forwardingCpuSliceMs + 4_000,
      });
    }
    if (!experiments.includes('lag')) continue;
    const phases = preset.lagRates.length - 1 + IDLE_TIMES[commitNotify];
    steps.push({ name: `lag: ${commitNotify}`, estimateMs: phases * preset.lagMs + 1_000 });
  }
  return [...steps, { name: 'report', estimateMs: 1_000 }];
}
