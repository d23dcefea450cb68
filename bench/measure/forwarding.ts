/**
 * Forwarding overhead: the same operation on several paths, paired.
 *
 * An open loop of blocks: each block holds one request of every path, in random order, on keys of
 * one distribution, so that whatever disturbs the machine disturbs all paths alike; differences
 * are taken within a block. CPU per operation cannot be told apart in a mix, so it comes from
 * closed-loop slices of one path each, taken in turn and back again (A B C D D C B A).
 */

import assert from 'node:assert/strict';

import type { Cluster } from '../cluster/reference-cluster.ts';
import { connectTargets } from '../load/client.ts';
import { monotonicNs, systemClock } from '../load/clock.ts';
import type { Request, Sender, Target } from '../load/exchange.ts';
import { openLoop, type OpenLoopResult } from '../load/open-loop.ts';
import type { Plan } from '../load/plan.ts';
import { CLOCKS, defaultTag, intervalEntries } from '../load/recorder.ts';
import { createSchedule, type ScheduleSpec } from '../load/schedule.ts';
import { createRandom } from '../random.ts';
import type { Forwarding, ScopedGate } from '../run.ts';
import type { BoundWorkload } from '../../workloads/workload.ts';
import { drive, targetOf, type Drive, type DriveOptions } from './drive.ts';
import {
  forwardingFigures,
  PATHS,
  WARMUP_BLOCKS,
  type Observed,
  type PathSlices,
} from './forwarding-figures.ts';
import type { Preset } from './preset.ts';
import type { Recorder } from './recorder.ts';

const SOCKETS_PER_TARGET = 16;
const IN_FLIGHT_MAX = 512;
const TIMEOUT_MS = 5_000;

export type ForwardingOptions = {
  readonly cluster: Cluster;
  /** A workload whose first operation reads and whose second writes. */
  readonly workload: BoundWorkload;
  readonly valueBytes: number;
  readonly preset: Preset;
  readonly seed: number;
  readonly recorder: Pick<Recorder, 'add'>;
  readonly signal: AbortSignal;
};

type Slice = Pick<Drive, 'intervals' | 'responses' | 'unanswered' | 'wrongAnswers' | 'misrouted'>;

/** How slices and blocks are taken; a test gives its own. */
export type Engines = {
  readonly drive: (options: DriveOptions) => Promise<Slice>;
  readonly runBlocks: typeof runBlocks;
};

export async function measureForwarding(
  options: ForwardingOptions,
  engines: Engines = { drive, runBlocks },
): Promise<{ readonly forwarding: Forwarding; readonly gates: readonly ScopedGate[] }> {
  const { cluster, preset } = options;
  const active = await cluster.active();
  const nodes = cluster.nodes();
  const standby = nodes.find(({ id }) => id !== active.id);
  assert(standby !== undefined, 'forwarding needs a standby');
  const asked = [active, standby].map(({ id }) => ({
    id,
    position: nodes.findIndex((node) => node.id === id),
  }));
  const [activeNode, standbyNode] = asked;
  assert(activeNode !== undefined && standbyNode !== undefined);

  // The slices drive every path hard, so that the latencies are taken warm.
  const slices = await measureSlices(options, active.id, asked, engines.drive);
  options.signal.throwIfAborted();
  const targets = [active, standby].map((node) => targetOf(node, active.id));
  const blocks = await engines.runBlocks(options, targets);
  options.signal.throwIfAborted();
  // All four clocks: the generator's own lateness is part of the record.
  options.recorder.add(
    intervalEntries({
      plan: blocks.plan,
      targets,
      samples: blocks.result.samples,
      startTimeMs: Math.round(Date.now() - (monotonicNs() - blocks.result.startNs) / 1e6),
      clocks: CLOCKS,
      tagOf: (label) => `forwarding.${defaultTag(label)}`,
    }),
  );

  const { gates, paths, differences } = forwardingFigures({
    ...blocks,
    slices,
    nodes: [activeNode, standbyNode],
  });
  return {
    gates,
    forwarding: {
      nodes: nodes.length,
      offeredRate: preset.forwardingBlocksPerSecond * PATHS.length,
      valueBytes: options.valueBytes,
      paths,
      differences,
    },
  };
}

async function runBlocks(
  options: ForwardingOptions,
  targets: readonly Target[],
): Promise<{ readonly plan: Plan; readonly result: OpenLoopResult; readonly observed: Observed }> {
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
  const { sender, requestOf, observed } = observe(client, plan.length, (index) =>
    workload.request(operationAt(index), rowAt(index)),
  );
  try {
    const result = await openLoop({
      plan,
      targets,
      sender,
      clock: systemClock('precise'),
      requestOf,
      verify: (index, status, body) =>
        workload.verify(operationAt(index), rowAt(index), status, body),
      inFlightMax: IN_FLIGHT_MAX,
      timeoutMs: TIMEOUT_MS,
      signal: options.signal,
    });
    return { plan, result, observed };
  } finally {
    await client.close();
  }
}

/**
 * Notes for each row who answered it and when it was written. The open loop builds a request just
 * before it sends it, so what is sent belongs to the row that was built last.
 */
export function observe(
  inner: Sender,
  length: number,
  build: (index: number) => Request,
): {
  readonly sender: Sender;
  readonly requestOf: (index: number) => Request;
  readonly observed: Observed;
} {
  const servedBy: (string | undefined)[] = Array.from({ length }, () => undefined);
  const writtenNs = new Float64Array(length).fill(Number.NaN);
  let built = 0;
  return {
    observed: { servedBy, writtenNs },
    requestOf: (index) => {
      built = index;
      return build(index);
    },
    sender: {
      send: (target, request, settle) => {
        const row = built;
        return inner.send(target, request, (answer) => {
          if (answer.kind === 'answered') servedBy[row] = answer.servedBy;
          writtenNs[row] = answer.writtenNs ?? Number.NaN;
          settle(answer);
        });
      },
    },
  };
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

/** Closed-loop slices of one path each, which say what an operation costs in CPU. */
async function measureSlices(
  options: ForwardingOptions,
  activeId: string,
  asked: readonly { readonly position: number }[],
  driveSlice: Engines['drive'],
): Promise<PathSlices[]> {
  const { cluster, workload, preset } = options;
  const drives: Slice[][] = PATHS.map(() => []);
  const there = PATHS.map((_, index) => index);
  // The first round warms each path up and does not count.
  for (const [turn, index] of [...there, ...there, ...there.toReversed()].entries()) {
    options.signal.throwIfAborted();
    const path = PATHS[index];
    const operation = workload.operations[path?.operation ?? 0];
    assert(path !== undefined && operation !== undefined, 'a path without an operation');
    const single: BoundWorkload = {
      ...workload,
      operations: [operation],
      request: (_operation, row) => workload.request(path.operation, row),
      verify: (_operation, row, status, body) => workload.verify(path.operation, row, status, body),
    };
    const result = await driveSlice({
      parties: [
        { cluster, nodes: [asked[path.target]?.position ?? 0], activeId, workload: single },
      ],
      seed: options.seed + turn,
      connectionsPerNode: preset.connectionsPerNode,
      durationMs: preset.forwardingCpuSliceMs,
      signal: options.signal,
    });
    for (const histogram of result.responses) histogram.destroy();
    if (turn >= there.length) drives[index]?.push(result);
  }
  return drives.map((list) => ({
    intervals: list.flatMap(({ intervals }) => intervals[0] ?? []),
    unanswered: sum(list.map(({ unanswered }) => unanswered)),
    wrongAnswers: sum(list.map(({ wrongAnswers }) => wrongAnswers)),
    misrouted: sum(list.map(({ misrouted }) => misrouted)),
  }));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
