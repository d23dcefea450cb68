/**
 * The whole of an open-loop phase, decided before its first request.
 *
 * Arrival time, operation, key, value size, and target of every request come from one seed, each
 * from a stream of its own: two modes or two builds given the same plan get exactly the same load.
 * A plan is columns of numbers; what a request looks like on the wire is the workload's business.
 */

import assert from 'node:assert/strict';
import { createRandom, type Random } from '../random.ts';
import { createSchedule, meanRate, type ScheduleSpec } from './schedule.ts';

const NS_PER_MS = 1_000_000;

/** 4 M arrivals: 250 MB of samples. A longer run is several phases. */
export const PLAN_ARRIVALS_MAX = 4_000_000;

export type PlannedOperation = {
  readonly name: string;
  /** Share of the mix, relative to the other operations. */
  readonly weight: number;
  readonly writes: boolean;
};

export type KeyChooser = {
  /** Returns the next key, in [0, key count). */
  next(writes: boolean): number;
};

/** What a plan needs to know of a workload. */
export type PlannedWorkload = {
  readonly operations: readonly PlannedOperation[];
  chooseKeys(random: Random): KeyChooser;
  chooseValueBytes(random: Random): () => number;
};

/** Relative share of each target, by index, for reads and for writes. */
export type Routing = {
  readonly reads: readonly number[];
  readonly writes: readonly number[];
};

/** Columns of equal length; row i is the i-th request in order of intended start. */
export type Draw = {
  readonly length: number;
  /** Index into the workload's operations. */
  readonly operation: Uint8Array;
  readonly key: Uint32Array;
  readonly valueBytes: Uint32Array;
  /** Index into the targets. */
  readonly target: Uint8Array;
};

export type Plan = Draw & {
  readonly seed: number;
  readonly durationMs: number;
  readonly schedule: ScheduleSpec;
  readonly operationNames: readonly string[];
  /** From the start of the phase; strictly increasing. */
  readonly intendedStartNs: Float64Array;
};

/** Every target alike, for reads and writes. */
export function evenRouting(targetCount: number): Routing {
  const even = Array.from({ length: targetCount }, () => 1);
  return { reads: even, writes: even };
}

export function buildPlan(options: {
  seed: number;
  schedule: ScheduleSpec;
  durationMs: number;
  workload: PlannedWorkload;
  routing: Routing;
}): Plan {
  const { seed, schedule, durationMs, workload, routing } = options;
  const arrivals = createSchedule(schedule, createRandom(seed, 'arrival'));
  const durationNs = durationMs * NS_PER_MS;
  const expectedCount = (meanRate(schedule, durationMs) * durationMs) / 1000;
  assert(expectedCount <= PLAN_ARRIVALS_MAX, 'plan exceeds PLAN_ARRIVALS_MAX: shorten the phase');

  const starts: number[] = [];
  for (let next = arrivals.nextNs(); next < durationNs; next = arrivals.nextNs()) {
    starts.push(next);
  }

  return {
    ...drawOperations({ seed, count: starts.length, workload, routing }),
    seed,
    durationMs,
    schedule,
    operationNames: workload.operations.map((operation) => operation.name),
    intendedStartNs: Float64Array.from(starts),
  };
}

/** Draws `count` requests without arrival times, as a closed loop sends them. */
export function drawOperations(options: {
  seed: number;
  count: number;
  workload: PlannedWorkload;
  routing: Routing;
}): Draw {
  const { seed, count, workload, routing } = options;
  const { operations } = workload;
  assert(0 < operations.length, 'a workload needs an operation');
  assert(operations.length <= 256, `operation index exceeds a byte: ${operations.length}`);

  const chooseOperation = weighted(operations.map((operation) => operation.weight));
  const chooseReader = weighted(routing.reads);
  const chooseWriter = weighted(routing.writes);
  const keys = workload.chooseKeys(createRandom(seed, 'key'));
  const nextValueBytes = workload.chooseValueBytes(createRandom(seed, 'size'));
  const operationRandom = createRandom(seed, 'operation');
  const routeRandom = createRandom(seed, 'route');

  const draw: Draw = {
    length: count,
    operation: new Uint8Array(count),
    key: new Uint32Array(count),
    valueBytes: new Uint32Array(count),
    target: new Uint8Array(count),
  };
  for (let index = 0; index < count; index++) {
    const operation = chooseOperation(operationRandom.next());
    const writes = operations[operation]?.writes === true;
    draw.operation[index] = operation;
    draw.key[index] = keys.next(writes);
    // Reads draw a size too: the streams then stay in step whatever the mix.
    draw.valueBytes[index] = nextValueBytes();
    draw.target[index] = (writes ? chooseWriter : chooseReader)(routeRandom.next());
  }
  return draw;
}

/** Returns a function from [0, 1) to an index, each index as often as its weight says. */
function weighted(weights: readonly number[]): (uniform: number) => number {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  assert(0 < total, 'weights must sum to more than zero');
  assert(
    weights.every((weight) => 0 <= weight),
    'a weight must not be negative',
  );
  const bounds: number[] = [];
  let sum = 0;
  for (const weight of weights) bounds.push((sum += weight / total));
  const lastUsed = weights.findLastIndex((weight) => 0 < weight);

  return (uniform) => {
    for (let index = 0; index < lastUsed; index++) {
      if (uniform < (bounds[index] ?? 1)) return index;
    }
    return lastUsed;
  };
}
