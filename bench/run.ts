/**
 * The result of a run: what `run.json` holds, and all that reports and exporters may look at.
 *
 * Every figure is a `Measured`: a value with its unit and interval, or the reason why there is
 * none. Durations are microseconds unless a name says otherwise; CPU is CPU time. Raw histograms
 * travel along as compressed V2 base64, so that any percentile can be computed again.
 */

import type { Gate, Measured } from './analysis/gates.ts';

export type Mode = 'standby-reads' | 'baseline';

export type Latency = {
  readonly count: number;
  readonly p50: Measured;
  readonly p90: Measured;
  readonly p99: Measured;
  readonly maxUs: number;
  /** Compressed V2 histogram of microseconds. */
  readonly hdr: string;
};

export type ScalingNode = {
  readonly id: string;
  readonly role: 'active' | 'standby';
  /** Share of all completed requests that were sent to this node. */
  readonly share: number;
  /** CPU seconds per second of wall time. */
  readonly utilization: number;
  /** CPU microseconds of this node per request completed by the whole cluster. */
  readonly demandUs: number;
  readonly throttledShare: number | null;
  readonly rssBytes: number;
};

export type ScalingPoint = {
  readonly mode: Mode;
  readonly nodes: number;
  /** Requests per second that `quotaCores` on every node can carry: the least quota / demand. */
  readonly capacity: Measured;
  /** Requests per second that were completed, on the wall clock. */
  readonly throughput: Measured;
  /** The bottleneck did not use its quota: the point is drawn hollow and kept out of ratios. */
  readonly isHollow: boolean;
  /** CPU microseconds of all nodes together per request. */
  readonly clusterCpuUs: Measured;
  /** Capacity relative to the single reference nodes that were driven at the same time. */
  readonly speedup: Measured;
  readonly response: Latency;
  readonly perNode: readonly ScalingNode[];
};

export type ScalingSeries = {
  readonly workload: string;
  readonly claim: string;
  readonly points: readonly ScalingPoint[];
};

export type Scaling = {
  readonly isolation: 'cgroup-v1' | 'cgroup-v2' | 'modelled';
  readonly quotaCores: number;
  readonly periodUs: number;
  readonly connectionsPerNode: number;
  readonly sliceMs: number;
  readonly series: readonly ScalingSeries[];
};

export type ForwardingPathId = 'read-active' | 'read-standby' | 'write-active' | 'write-forwarded';

export type ForwardingPath = {
  readonly id: ForwardingPathId;
  readonly description: string;
  readonly response: Latency;
  readonly service: Latency;
  /** CPU microseconds per operation on the active node, and on the standby the client talks to. */
  readonly activeCpuUs: Measured;
  readonly standbyCpuUs: Measured;
};

/** Paired, within the same block of the same plan: `subject` minus `reference`. */
export type ForwardingDifference = {
  readonly subject: ForwardingPathId;
  readonly reference: ForwardingPathId;
  readonly pairs: number;
  /** Median of the paired differences; its interval comes from order statistics. */
  readonly responseP50Us: Measured;
  /** The 99th percentile of the paired differences. */
  readonly responseP99Us: Measured;
  readonly activeCpuUs: Measured;
  readonly standbyCpuUs: Measured;
};

export type Forwarding = {
  readonly nodes: number;
  readonly offeredRate: number;
  readonly valueBytes: number;
  readonly paths: readonly ForwardingPath[];
  readonly differences: readonly ForwardingDifference[];
};

export type LagMethod = 'probe' | 'index';

/** One standby by itself: one sample per marker write. */
export type LagNode = {
  readonly id: string;
  /** End of the first fresh read, minus acknowledgement: the lag is at most this. */
  readonly upper: Latency;
  /** Start of the last stale read, minus acknowledgement: the lag is at least this. Probes only. */
  readonly lower: Latency | null;
};

export type LagPoint = {
  /** Other writes per second at the same time; 0 is an idle cluster. */
  readonly writesPerSecond: number;
  readonly method: LagMethod;
  readonly perNode: readonly LagNode[];
  /** One sample per marker write: when it was visible on every standby, the slowest one's `upper`. */
  readonly upper: Latency;
};

export type LagCurve = {
  readonly commitNotify: 'push' | 'piggyback';
  readonly points: readonly LagPoint[];
};

export type Lag = { readonly nodes: number; readonly curves: readonly LagCurve[] };

export type Environment = {
  readonly node: string;
  readonly v8: string;
  readonly os: string;
  readonly cpuModel: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly filesystem: string;
  readonly fsyncP50Us: number;
  readonly timerLagP99Us: number;
  readonly loadAverage: number;
  /** CPU that others used during three quiet seconds before the run, in cores. */
  readonly tenantCores: number;
};

export type ScopedGate = Gate & {
  /** Which cell it guards, for example `scaling/read-only/standby-reads/n5`. */
  readonly scope: string;
};

export type Verdict = {
  readonly status: 'valid' | 'partly-refused' | 'invalid';
  /** One sentence that answers the question with three numbers, or says why it cannot. */
  readonly sentence: string;
};

export type Run = {
  readonly schemaVersion: 1;
  readonly runId: string;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly command: string;
  readonly seed: number;
  readonly suite: { readonly version: string; readonly commit: string; readonly isDirty: boolean };
  readonly target: {
    readonly kind: 'reference';
    readonly version: string;
    readonly settings: { readonly [key: string]: string };
  };
  readonly environment: Environment;
  readonly scaling: Scaling | null;
  readonly forwarding: Forwarding | null;
  readonly lag: Lag | null;
  readonly gates: readonly ScopedGate[];
  readonly verdict: Verdict;
};
