/**
 * From what the forwarding experiment recorded to its figures and gates: pure, so that every rule
 * by which a figure is refused can be tested with made-up rows.
 *
 * A path's gates guard its own figures and every difference that contains it. A request without an
 * answer is a bound and stays in: its path is at least that slow, a difference at least (or at most)
 * that large.
 */

import assert from 'node:assert/strict';

import { judgeGate, refusals, type GateEffect, type Measured } from '../analysis/gates.ts';
import { measuredRatioOfSums } from '../analysis/ratio.ts';
import { quantiles, type QuantileSeries } from '../analysis/quantiles.ts';
import { OUTCOMES, type OpenLoopResult, type Outcome } from '../load/open-loop.ts';
import type { Plan } from '../load/plan.ts';
import { isCleanSample } from '../load/recorder.ts';
import type {
  ForwardingDifference,
  ForwardingPath,
  ForwardingPathId,
  Latency,
  ScopedGate,
} from '../run.ts';
import type { Drive, Interval } from './drive.ts';
import { latencyOf } from './latency.ts';

/** The two nodes that are asked, by their position in `ForwardingRun.nodes`. */
const ACTIVE = 0;
const STANDBY = 1;

type PathSpec = {
  readonly id: ForwardingPathId;
  /** Index of the operation in the workload. */
  readonly operation: number;
  /** Which node is asked, and which must have done the work. */
  readonly target: typeof ACTIVE | typeof STANDBY;
  readonly servedBy: typeof ACTIVE | typeof STANDBY;
  readonly description: string;
};

export const PATHS: readonly PathSpec[] = [
  {
    id: 'read-active',
    operation: 0,
    target: ACTIVE,
    servedBy: ACTIVE,
    description: 'the active node reads its own state',
  },
  {
    id: 'read-standby',
    operation: 0,
    target: STANDBY,
    servedBy: STANDBY,
    description: 'a standby reads its own state',
  },
  {
    id: 'write-active',
    operation: 1,
    target: ACTIVE,
    servedBy: ACTIVE,
    description: 'a write sent to the active node',
  },
  {
    id: 'write-forwarded',
    operation: 1,
    target: STANDBY,
    servedBy: ACTIVE,
    description: 'a write sent to a standby, which forwards it and answers when it has applied it',
  },
];

const DIFFERENCES: readonly (readonly [ForwardingPathId, ForwardingPathId])[] = [
  ['write-forwarded', 'write-active'],
  ['read-standby', 'read-active'],
];

/** Blocks of the open loop before its figures count: connections, lazily compiled code. */
export const WARMUP_BLOCKS = 100;

/**
 * A short run names p90 from two hundred samples, with the interval that this deserves, where a
 * load test would want a thousand.
 */
const PRECISION = { exceedancesMin: 20 };

/**
 * What the last requests of the plan may take beyond its end. A queue that grows by 4 % of the load
 * is longer than this after six seconds.
 */
const RATE_GRACE_MS = 250;

/** Failures do work too: the CPU per completed request is polluted like the latency. */
const CPU_EFFECTS: readonly GateEffect[] = ['refuse-latency', 'refuse-phase', 'invalidate-run'];
/** A rate that was not carried means a queue, and with it response times without end. */
const LATENCY_EFFECTS: readonly GateEffect[] = [...CPU_EFFECTS, 'rate-not-sustained'];
/** The place of a dropped request in a distribution is known, that of a difference with it is not. */
const DIFFERENCE_EFFECTS: readonly GateEffect[] = [...LATENCY_EFFECTS, 'refuse-quantile'];

const NOT_MEASURED = { refused: 'not measured' };

/** What the samples of the open loop do not say; by row of the plan. */
export type Observed = {
  /** The node that answered, where it named itself. */
  readonly servedBy: readonly (string | undefined)[];
  /** Clock reading when the first byte was written; NaN where it never was. */
  readonly writtenNs: Float64Array;
};

/** One path's closed-loop slices together. */
export type PathSlices = Pick<Drive, 'unanswered' | 'wrongAnswers' | 'misrouted'> & {
  readonly intervals: readonly Interval[];
};

export type ForwardingRun = {
  /** `operation` is the index of a path; rows 4b to 4b + 3 are block b. */
  readonly plan: Plan;
  readonly result: Pick<OpenLoopResult, 'samples' | 'counts' | 'startNs'>;
  readonly observed: Observed;
  /** By path. */
  readonly slices: readonly PathSlices[];
  /** The active node and the standby that is asked; `position` is that in `Interval.perNode`. */
  readonly nodes: readonly [AskedNode, AskedNode];
};

type AskedNode = { readonly id: string; readonly position: number };

export function forwardingFigures(run: ForwardingRun): {
  readonly gates: readonly ScopedGate[];
  readonly paths: readonly ForwardingPath[];
  readonly differences: readonly ForwardingDifference[];
} {
  const gates = judgeForwarding(run);
  const paths = PATHS.map((path, index) => measurePath(run, path, index, gates));
  const differences = DIFFERENCES.map(([subject, reference]) =>
    compare(run, pathOf(paths, subject), pathOf(paths, reference), gates),
  );
  return { gates, paths, differences };
}

/** Gates of scope `forwarding` guard all figures, those of `forwarding/<path>` the path's. */
export function judgeForwarding(run: ForwardingRun): ScopedGate[] {
  const { plan, result, slices } = run;
  const { counts } = result;
  const wrongAnswers = counts.invalid + sum(slices.map((slice) => slice.wrongAnswers));
  const shared = [
    judgeGate('invalid-answers', wrongAnswers),
    judgeGate('accounting', counts.unstarted + counts.abandoned),
    judgeGate('rate-sustained', completedInTime(run) / plan.length),
  ];
  return [
    ...shared.map((gate) => ({ ...gate, scope: 'forwarding' })),
    ...PATHS.flatMap((path, index) => {
      const rows = rowsOf(plan, index);
      const count = (...outcomes: readonly Outcome[]) =>
        rows.filter((row) => outcomes.includes(outcomeOf(run, row))).length;
      const lost = count('failed', 'timedOut');
      const openLoopShare = lost / Math.max(1, lost + count('ok', 'invalid'));
      const misrouted = rows.filter((row) => isMisrouted(run, path, row)).length;
      return [
        judgeGate('errors', Math.max(openLoopShare, failedShare(slices[index]))),
        judgeGate('dropped', count('dropped')),
        judgeGate('misrouted', misrouted + (slices[index]?.misrouted ?? 0)),
      ].map((gate) => ({ ...gate, scope: scopeOf(path.id) }));
    }),
  ];
}

/** Right answers that came before the plan's end, give or take `RATE_GRACE_MS`. */
function completedInTime(run: ForwardingRun): number {
  const { plan, result } = run;
  const endNs = (plan.durationMs + RATE_GRACE_MS) * 1e6;
  let completed = 0;
  for (let row = 0; row < plan.length; row++) {
    const isInTime = (result.samples.completionNs[row] ?? Number.NaN) <= endNs;
    if (isInTime && outcomeOf(run, row) === 'ok') completed++;
  }
  return completed;
}

function failedShare(slices: PathSlices | undefined): number {
  if (slices === undefined) return 0;
  const failed = slices.unanswered + sum(slices.intervals.map((interval) => interval.failed));
  return failed / Math.max(1, failed + sum(slices.intervals.map(({ completed }) => completed)));
}

/** Only a right answer can have come from the wrong node; what got none is judged elsewhere. */
function isMisrouted(run: ForwardingRun, path: PathSpec, row: number): boolean {
  if (outcomeOf(run, row) !== 'ok') return false;
  return run.observed.servedBy[row] !== run.nodes[path.servedBy].id;
}

function measurePath(
  run: ForwardingRun,
  { id, description }: PathSpec,
  index: number,
  gates: readonly ScopedGate[],
): ForwardingPath {
  const rows = rowsOf(run.plan, index);
  const guarded = (latency: Latency): Latency => {
    const [reason] = reasons(gates, [id], LATENCY_EFFECTS);
    if (reason === undefined) return latency;
    // The raw histogram stays: it is the evidence.
    return {
      ...latency,
      p50: { refused: reason },
      p90: { refused: reason },
      p99: { refused: reason },
    };
  };
  const cpu = (node: AskedNode): Measured => {
    const [reason] = reasons(gates, [id], CPU_EFFECTS);
    if (reason !== undefined) return { refused: reason };
    return demandOf(run.slices[index]?.intervals ?? [], node.position);
  };
  return {
    id,
    description,
    response: guarded(latencyOf(seriesOf(run, rows, responseUs), PRECISION)),
    service: guarded(latencyOf(seriesOf(run, rows, serviceUs), PRECISION)),
    activeCpuUs: cpu(run.nodes[ACTIVE]),
    standbyCpuUs: cpu(run.nodes[STANDBY]),
  };
}

/** CPU microseconds of one node per completed request. */
function demandOf(intervals: readonly Interval[], node: number): Measured {
  return measuredRatioOfSums(
    intervals.map(({ perNode, completed }) => ({
      numerator: (perNode[node]?.cpuNs ?? 0) / 1e3,
      denominator: completed,
    })),
    { unit: 'us', units: 'intervals of CPU time' },
  );
}

function compare(
  run: ForwardingRun,
  subject: ForwardingPath,
  reference: ForwardingPath,
  gates: readonly ScopedGate[],
): ForwardingDifference {
  const series = pairedSeries(run, subject.id, reference.id);
  const [p50, p99] = quantiles(series, [0.5, 0.99], { ...PRECISION, cleanTails: 'both' });
  const [reason] = reasons(gates, [subject.id, reference.id], DIFFERENCE_EFFECTS);
  const guarded = (name: 'p50' | 'p99', measured: Measured | undefined): Measured => {
    const part =
      partRefusal(subject.id, subject.response[name]) ??
      partRefusal(reference.id, reference.response[name]);
    return part ?? (reason === undefined ? (measured ?? NOT_MEASURED) : { refused: reason });
  };
  const cpu = (name: 'activeCpuUs' | 'standbyCpuUs'): Measured =>
    partRefusal(subject.id, subject[name]) ??
    partRefusal(reference.id, reference[name]) ??
    minus(subject[name], reference[name]);
  return {
    subject: subject.id,
    reference: reference.id,
    pairs: series.values.length,
    responseP50Us: guarded('p50', p50),
    responseP99Us: guarded('p99', p99),
    activeCpuUs: cpu('activeCpuUs'),
    standbyCpuUs: cpu('standbyCpuUs'),
  };
}

function partRefusal(id: ForwardingPathId, part: Measured): Measured | undefined {
  return 'refused' in part ? { refused: `${id}: ${part.refused}` } : undefined;
}

/** Independent figures: half-widths add in squares. */
function minus(left: Measured, right: Measured): Measured {
  if ('refused' in left) return left;
  if ('refused' in right) return right;
  const value = left.value - right.value;
  const half = Math.hypot(halfWidth(left), halfWidth(right));
  return { value, unit: left.unit, low: value - half, high: value + half };
}

function halfWidth({ low, high }: { readonly low?: number; readonly high?: number }): number {
  return low === undefined || high === undefined ? 0 : (high - low) / 2;
}

/**
 * Response of `subject` minus that of `reference`, block by block. Left out are blocks in which
 * either failed outright, which the errors gate bounds, or was dropped, which no difference survives.
 */
function pairedSeries(
  run: ForwardingRun,
  subject: ForwardingPathId,
  reference: ForwardingPathId,
): QuantileSeries {
  const [subjectRows = [], referenceRows = []] = [subject, reference].map((id) =>
    rowsOf(
      run.plan,
      PATHS.findIndex((path) => path.id === id),
    ),
  );
  assert(subjectRows.length === referenceRows.length, 'a block without one of its paths');
  const pairs = subjectRows
    .map((row, block) => [row, referenceRows[block] ?? row] as const)
    .filter((pair) => pair.every((row) => hasTime(run, row)));
  return {
    values: pairs.map(([row, other]) => responseUs(run, row) - responseUs(run, other)),
    unit: 'us',
    isCensored: pairs.map(([row]) => (isBound(run, row) ? 1 : 0)),
    isUpperBound: pairs.map(([, other]) => (isBound(run, other) ? 1 : 0)),
    isClean: pairs.map((pair) => (pair.every((row) => isClean(run, row)) ? 1 : 0)),
  };
}

function seriesOf(
  run: ForwardingRun,
  rows: readonly number[],
  timeUs: (run: ForwardingRun, row: number) => number,
): Omit<QuantileSeries, 'unit'> {
  const timed = rows.filter((row) => hasTime(run, row));
  return {
    values: timed.map((row) => timeUs(run, row)),
    isCensored: timed.map((row) => (isBound(run, row) ? 1 : 0)),
    isClean: timed.map((row) => (isClean(run, row) ? 1 : 0)),
    droppedCount: rows.filter((row) => outcomeOf(run, row) === 'dropped').length,
  };
}

function responseUs({ result }: ForwardingRun, row: number): number {
  return (result.samples.responseNs[row] ?? Number.NaN) / 1e3;
}

/** Of a timed-out request: since it was written, or nothing where it never was. */
function serviceUs(run: ForwardingRun, row: number): number {
  const { result, observed } = run;
  if (!isBound(run, row)) return (result.samples.serviceNs[row] ?? Number.NaN) / 1e3;
  const endNs = result.startNs + (result.samples.completionNs[row] ?? Number.NaN);
  const sinceWrittenNs = endNs - (observed.writtenNs[row] ?? Number.NaN);
  return Number.isNaN(sinceWrittenNs) ? 0 : Math.max(0, sinceWrittenNs) / 1e3;
}

function hasTime(run: ForwardingRun, row: number): boolean {
  return outcomeOf(run, row) === 'ok' || isBound(run, row);
}

function isBound(run: ForwardingRun, row: number): boolean {
  return outcomeOf(run, row) === 'timedOut';
}

function isClean({ result: { samples } }: ForwardingRun, row: number): boolean {
  return isCleanSample(samples.lagNs[row] ?? 0, samples.responseNs[row] ?? 0);
}

function outcomeOf({ result }: ForwardingRun, row: number): Outcome {
  return OUTCOMES[result.samples.outcome[row] ?? 0] ?? 'unstarted';
}

/** The row of a path in every block after the warm-up: position b belongs to block b. */
function rowsOf(plan: Plan, path: number): number[] {
  const rows: number[] = [];
  for (let row = WARMUP_BLOCKS * PATHS.length; row < plan.length; row++) {
    if (plan.operation[row] === path) rows.push(row);
  }
  return rows;
}

function scopeOf(id: ForwardingPathId): string {
  return `forwarding/${id}`;
}

/** Why figures of the paths `ids` are refused; one that guards them all comes first. */
function reasons(
  gates: readonly ScopedGate[],
  ids: readonly ForwardingPathId[],
  effects: readonly GateEffect[],
): string[] {
  const scopes = ['forwarding', ...ids.map(scopeOf)];
  return scopes.flatMap((scope) =>
    refusals(
      gates.filter((gate) => gate.scope === scope),
      effects,
    ),
  );
}

function pathOf(paths: readonly ForwardingPath[], id: ForwardingPathId): ForwardingPath {
  const found = paths.find((path) => path.id === id);
  assert(found !== undefined, `no path ${id}`);
  return found;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
