/**
 * Forwarding overhead: the same operation on several paths, paired.
 *
 * An open loop of blocks: each block holds one request of every path, in random order, on keys of
 * one distribution, so that whatever disturbs the machine disturbs all paths alike; differences
 * are taken within a block. CPU per operation cannot be told apart in a mix, so it comes from
 * closed-loop slices of one path each, taken in turn and back again (A B C D D C B A).
 */

import assert from 'node:assert/strict';

import { bootstrapIntervals } from '../analysis/bootstrap.ts';
import { judgeGate, type Gate, type Measured } from '../analysis/gates.ts';
import { littlesLaw } from '../analysis/laws.ts';
import { measuredDifference } from '../analysis/paired.ts';
import { quantiles } from '../analysis/quantiles.ts';
import type { Cluster } from '../cluster/reference-cluster.ts';
import { connectTargets } from '../load/client.ts';
import { monotonicNs, systemClock } from '../load/clock.ts';
import { ROUTES, type Target } from '../load/exchange.ts';
import { openLoop, OUTCOMES, type OpenLoopResult, type Samples } from '../load/open-loop.ts';
import type { Plan } from '../load/plan.ts';
import { isCleanSample } from '../load/recorder.ts';
import { createSchedule, type ScheduleSpec } from '../load/schedule.ts';
import { createRandom } from '../random.ts';
import type {
  Forwarding,
  ForwardingDifference,
  ForwardingPath,
  ForwardingPathId,
  ScopedGate,
} from '../run.ts';
import type { BoundWorkload } from '../../workloads/workload.ts';
import { drive, targetOf, type Interval } from './drive.ts';
import { latencyOf } from './latency.ts';
import type { Preset } from './preset.ts';

const SOCKETS_PER_TARGET = 16;
const IN_FLIGHT_MAX = 512;
const TIMEOUT_MS = 5_000;
/** Requests of the open loop before its figures count: connections, lazily compiled code. */
const WARMUP_BLOCKS = 100;
const BLOCK_INTERVALS = 2;
/**
 * A short run names p90 from two hundred samples, with the interval that this deserves, where a
 * load test would want a thousand.
 */
const PRECISION = { exceedancesMin: 20 };

/** The order is that of `operations`: index of the operation in the workload, and who is asked. */
const PATHS: readonly {
  readonly id: ForwardingPathId;
  readonly operation: number;
  readonly target: number;
  readonly description: string;
}[] = [
  {
    id: 'read-active',
    operation: 0,
    target: 0,
    description: 'the active node reads its own state',
  },
  { id: 'read-standby', operation: 0, target: 1, description: 'a standby reads its own state' },
  { id: 'write-active', operation: 1, target: 0, description: 'a write sent to the active node' },
  {
    id: 'write-forwarded',
    operation: 1,
    target: 1,
    description: 'a write sent to a standby, which forwards it and answers when it has applied it',
  },
];

const DIFFERENCES: readonly (readonly [ForwardingPathId, ForwardingPathId])[] = [
  ['write-forwarded', 'write-active'],
  ['read-standby', 'read-active'],
];

export type ForwardingOptions = {
  readonly cluster: Cluster;
  /** A workload whose first operation reads and whose second writes. */
  readonly workload: BoundWorkload;
  readonly valueBytes: number;
  readonly preset: Preset;
  readonly seed: number;
  readonly signal: AbortSignal;
};

type Demand = { readonly active: Measured; readonly standby: Measured };

export async function measureForwarding(
  options: ForwardingOptions,
): Promise<{ readonly forwarding: Forwarding; readonly gates: readonly ScopedGate[] }> {
  const { cluster, preset } = options;
  const active = await cluster.active();
  const standby = cluster.nodes().find(({ id }) => id !== active.id);
  assert(standby !== undefined, 'forwarding needs a standby');
  const targets = [active, standby].map((node) => targetOf(node, active.id));

  const { plan, result } = await runBlocks(options, targets);
  const demands = await measureDemands(options, active.id, standby.id);
  const gates = judge(plan, result, targets);

  const paths = PATHS.map(({ id, description }, index): ForwardingPath => {
    const rows = rowsOf(plan, index);
    return {
      id,
      description,
      response: latencyOf(seriesOf(result.samples, rows, result.samples.responseNs), PRECISION),
      service: latencyOf(seriesOf(result.samples, rows, result.samples.serviceNs), PRECISION),
      activeCpuUs: demands[index]?.active ?? NOT_MEASURED,
      standbyCpuUs: demands[index]?.standby ?? NOT_MEASURED,
    };
  });
  return {
    gates: gates.map((gate) => ({ ...gate, scope: 'forwarding' })),
    forwarding: {
      nodes: cluster.nodes().length,
      offeredRate: preset.forwardingBlocksPerSecond * PATHS.length,
      valueBytes: options.valueBytes,
      paths,
      differences: DIFFERENCES.map(([subject, reference]) =>
        compare({ plan, samples: result.samples, demands, subject, reference, seed: options.seed }),
      ),
    },
  };
}

const NOT_MEASURED = { refused: 'not measured' };

async function runBlocks(
  options: ForwardingOptions,
  targets: readonly Target[],
): Promise<{ readonly plan: Plan; readonly result: OpenLoopResult }> {
  const { preset, workload } = options;
  const plan = buildBlocks({
    seed: options.seed,
    workload,
    blocks:
      WARMUP_BLOCKS + Math.round((preset.forwardingMs / 1e3) * preset.forwardingBlocksPerSecond),
    schedule: { kind: 'poisson', rate: preset.forwardingBlocksPerSecond * PATHS.length },
  });
  const client = connectTargets({
    targets,
    socketsPerTarget: SOCKETS_PER_TARGET,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  const rowAt = (index: number) => ({
    key: plan.key[index] ?? 0,
    valueBytes: plan.valueBytes[index] ?? 0,
    seq: index,
  });
  const operationAt = (index: number) => PATHS[plan.operation[index] ?? 0]?.operation ?? 0;
  try {
    const result = await openLoop({
      plan,
      targets,
      sender: client,
      clock: systemClock('precise'),
      requestOf: (index) => workload.request(operationAt(index), rowAt(index)),
      verify: (index, status, body) =>
        workload.verify(operationAt(index), rowAt(index), status, body),
      inFlightMax: IN_FLIGHT_MAX,
      timeoutMs: TIMEOUT_MS,
      signal: options.signal,
    });
    return { plan, result };
  } finally {
    await client.close();
  }
}

/** Rows 4b to 4b + 3 are block b; `operation` is the index of a path. */
function buildBlocks(options: {
  readonly seed: number;
  readonly workload: BoundWorkload;
  readonly blocks: number;
  readonly schedule: ScheduleSpec;
}): Plan {
  const { seed, workload, blocks, schedule } = options;
  const length = blocks * PATHS.length;
  const arrivals = createSchedule(schedule, createRandom(seed, 'arrival'));
  const keys = workload.chooseKeys(createRandom(seed, 'key'));
  const nextValueBytes = workload.chooseValueBytes(createRandom(seed, 'size'));
  const order = createRandom(seed, 'order');
  const intendedStartNs = Float64Array.from({ length }, () => arrivals.nextNs());
  const operation = new Uint8Array(length);
  const target = new Uint8Array(length);
  for (let block = 0; block < blocks; block++) {
    for (const [position, path] of shuffled(PATHS.length, (count) =>
      order.below(count),
    ).entries()) {
      operation[block * PATHS.length + position] = path;
      target[block * PATHS.length + position] = PATHS[path]?.target ?? 0;
    }
  }
  return {
    length,
    seed,
    schedule,
    durationMs: (intendedStartNs.at(-1) ?? 0) / 1e6,
    operationNames: PATHS.map(({ id }) => id),
    intendedStartNs,
    operation,
    target,
    key: Uint32Array.from({ length }, () => keys.next(false)),
    valueBytes: Uint32Array.from({ length }, () => nextValueBytes()),
  };
}

function shuffled(count: number, below: (count: number) => number): number[] {
  const items = Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = below(last + 1);
    [items[last], items[other]] = [items[other] ?? 0, items[last] ?? 0];
  }
  return items;
}

/** CPU per operation of every path, on the active node and on the standby that is asked. */
async function measureDemands(
  options: ForwardingOptions,
  activeId: string,
  standbyId: string,
): Promise<Demand[]> {
  const { cluster, workload, preset } = options;
  const nodes = cluster.nodes();
  const activeIndex = nodes.findIndex(({ id }) => id === activeId);
  const standbyIndex = nodes.findIndex(({ id }) => id === standbyId);
  const intervals: Interval[][] = PATHS.map(() => []);
  const there = PATHS.map((_, index) => index);
  // The first round warms each path up and does not count.
  for (const [turn, index] of [...there, ...there, ...there.toReversed()].entries()) {
    const path = PATHS[index];
    const operation = workload.operations[path?.operation ?? 0];
    assert(path !== undefined && operation !== undefined, 'a path without an operation');
    const single: BoundWorkload = {
      ...workload,
      operations: [operation],
      request: (_operation, row) => workload.request(path.operation, row),
      verify: (_operation, row, status, body) => workload.verify(path.operation, row, status, body),
    };
    const asked = path.target === 0 ? activeIndex : standbyIndex;
    const result = await drive({
      parties: [{ cluster, nodes: [asked], activeId, workload: single }],
      seed: options.seed + turn,
      connectionsPerNode: preset.connectionsPerNode,
      durationMs: preset.forwardingCpuSliceMs,
      signal: options.signal,
    });
    for (const histogram of result.responses) histogram.destroy();
    if (turn >= there.length) intervals[index]?.push(...(result.intervals[0] ?? []));
  }
  return intervals.map((list) => demandOf(list, activeIndex, standbyIndex, options.seed));
}

function demandOf(
  intervals: readonly Interval[],
  active: number,
  standby: number,
  seed: number,
): Demand {
  const statistics = (units: readonly Interval[]): readonly [number, number] => {
    const completed = units.reduce((sum, unit) => sum + unit.completed, 0);
    const cpuUs = (node: number) =>
      units.reduce((sum, unit) => sum + (unit.perNode[node]?.cpuNs ?? 0), 0) / 1e3;
    return [cpuUs(active) / completed, cpuUs(standby) / completed];
  };
  const values = statistics(intervals);
  const bounds = bootstrapIntervals({
    units: intervals,
    statistics,
    blockLength: BLOCK_INTERVALS,
    random: createRandom(seed, 'resample'),
  });
  const measured = (column: 0 | 1): Measured => ({
    value: values[column],
    unit: 'us',
    low: bounds[column]?.low ?? values[column],
    high: bounds[column]?.high ?? values[column],
    samples: intervals.length,
  });
  return { active: measured(0), standby: measured(1) };
}

function compare(options: {
  readonly plan: Plan;
  readonly samples: Samples;
  readonly demands: readonly Demand[];
  readonly subject: ForwardingPathId;
  readonly reference: ForwardingPathId;
  readonly seed: number;
}): ForwardingDifference {
  const { plan, samples, demands, subject, reference } = options;
  const [subjectIndex, referenceIndex] = [subject, reference].map((id) =>
    PATHS.findIndex((path) => path.id === id),
  );
  const subjectRows = rowsOf(plan, subjectIndex ?? 0);
  const referenceRows = rowsOf(plan, referenceIndex ?? 0);
  const differences = subjectRows.flatMap((row, block) => {
    const other = referenceRows[block];
    if (other === undefined || !isOk(samples, row) || !isOk(samples, other)) return [];
    return [((samples.responseNs[row] ?? 0) - (samples.responseNs[other] ?? 0)) / 1e3];
  });
  return {
    subject,
    reference,
    pairs: differences.length,
    responseP50Us: measuredDifference(differences, 'us', createRandom(options.seed, 'resample')),
    responseP99Us: quantiles({ values: differences, unit: 'us' }, [0.99])[0] ?? NOT_MEASURED,
    activeCpuUs: minus(demands[subjectIndex ?? 0]?.active, demands[referenceIndex ?? 0]?.active),
    standbyCpuUs: minus(demands[subjectIndex ?? 0]?.standby, demands[referenceIndex ?? 0]?.standby),
  };
}

/** Independent figures: half-widths add in squares. */
function minus(left: Measured | undefined, right: Measured | undefined): Measured {
  if (left === undefined || right === undefined) return NOT_MEASURED;
  if ('refused' in left) return left;
  if ('refused' in right) return right;
  const value = left.value - right.value;
  const half = Math.hypot(halfWidth(left), halfWidth(right));
  return { value, unit: left.unit, low: value - half, high: value + half };
}

function halfWidth({ low, high }: { readonly low?: number; readonly high?: number }): number {
  return low === undefined || high === undefined ? 0 : (high - low) / 2;
}

function judge(plan: Plan, result: OpenLoopResult, targets: readonly Target[]): Gate[] {
  const { counts, samples } = result;
  const seconds = (result.endNs - result.startNs) / 1e9;
  const ended = plan.length - counts.unstarted - counts.dropped;
  const answered = counts.ok + counts.invalid + counts.failed;
  const inFlightSeconds = sumOf(plan, samples);
  const forwarded = PATHS.findIndex(({ id }) => id === 'write-forwarded');
  const misrouted = rowsOf(plan, forwarded).filter(
    (row) => samples.route[row] !== ROUTE_FORWARDED,
  ).length;
  assert(targets.length === 2, 'forwarding drives two nodes');
  return [
    judgeGate('dropped', counts.dropped),
    judgeGate('errors', (counts.failed + counts.timedOut) / Math.max(1, ended)),
    judgeGate('invalid-answers', counts.invalid + misrouted),
    judgeGate('accounting', counts.unstarted + counts.abandoned),
    judgeGate('rate-sustained', answered / plan.length),
    judgeGate(
      'littles-law',
      littlesLaw({
        inFlightMean: result.inFlightSeconds / seconds,
        throughputPerSecond: ended / seconds,
        responseSeconds: inFlightSeconds / Math.max(1, ended),
      }).mismatch,
    ),
  ];
}

const ROUTE_FORWARDED = ROUTES.indexOf('forwarded');

/** Seconds that all started requests spent in flight: response time without the generator's lag. */
function sumOf(plan: Plan, samples: Samples): number {
  let totalNs = 0;
  for (let row = 0; row < plan.length; row++) {
    const responseNs = samples.responseNs[row] ?? Number.NaN;
    if (!Number.isNaN(responseNs)) totalNs += responseNs - (samples.lagNs[row] ?? 0);
  }
  return totalNs / 1e9;
}

/** The row of a path in every block after the warm-up: position b belongs to block b. */
function rowsOf(plan: Plan, path: number): number[] {
  const rows: number[] = [];
  for (let row = WARMUP_BLOCKS * PATHS.length; row < plan.length; row++) {
    if (plan.operation[row] === path) rows.push(row);
  }
  return rows;
}

function isOk(samples: Samples, row: number): boolean {
  return OUTCOMES[samples.outcome[row] ?? 0] === 'ok';
}

function seriesOf(samples: Samples, rows: readonly number[], column: Float64Array) {
  const ended = rows.filter((row) => isOk(samples, row));
  return {
    values: ended.map((row) => (column[row] ?? 0) / 1e3),
    isClean: ended.map((row) =>
      isCleanSample(samples.lagNs[row] ?? 0, samples.responseNs[row] ?? 0) ? 1 : 0,
    ),
    droppedCount: rows.filter((row) => OUTCOMES[samples.outcome[row] ?? 0] === 'dropped').length,
  };
}
