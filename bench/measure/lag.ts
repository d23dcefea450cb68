/**
 * Replication lag: how long after its acknowledgement a write shows on each standby.
 *
 * One process writes and reads, so there is one clock. Two methods, taken in turn:
 *
 * - *probe* (black box): after the acknowledgement of marker v, read it from each standby, on a
 *   socket of its own, again and again until v shows. The lag lies between the start of the last
 *   stale read and the end of the first fresh one; both ends are kept, never a midpoint.
 * - *index*: ask the standby to answer when it has applied the write's index (`X-Vault-Index` with
 *   `X-Vault-Inconsistent: await-state`). One round trip, no polling; an upper bound only.
 *
 * A standby that forwards its answer would look fresh at once: answers that another node gave are
 * not samples. Between markers the loop rests for a random while, so that every write meets a
 * cluster that is idle but for the background load, and no rhythm of the cluster is in step with it.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

import type { Cluster } from '../cluster/reference-cluster.ts';
import { expectOk } from '../cluster/admin-api.ts';
import { connectTargets, type HttpClient } from '../load/client.ts';
import { monotonicNs, systemClock } from '../load/clock.ts';
import type { Request, Target } from '../load/exchange.ts';
import { openLoop } from '../load/open-loop.ts';
import { buildPlan } from '../load/plan.ts';
import { createRandom } from '../random.ts';
import type { LagCurve, LagMethod, LagNode, LagPoint } from '../run.ts';
import { targetOf } from './drive.ts';
import { latencyOf } from './latency.ts';

const MOUNT = 'lag';
const MARKER = 'marker';
const ASK_TIMEOUT_MS = 5_000;
const VISIBLE_TIMEOUT_MS = 5_000;
/** After so many polls a millisecond between them is exact enough and leaves the nodes in peace. */
const EAGER_POLLS = 20;
const REST_MS_MIN = 4;
const REST_MS_MAX = 14;
const WARMUP_MARKERS = 100;
const BACKGROUND_KEYS = 200;
const BACKGROUND_VALUE_BYTES = 256;
/**
 * Isolated writes are slow to collect: a p99 is named from some hundred of them, with its wide
 * interval, instead of the ten thousand that a load test must have.
 */
const EXCEEDANCES_MIN = 4;

export type LagOptions = {
  readonly cluster: Cluster;
  readonly commitNotify: 'push' | 'piggyback';
  readonly rates: readonly number[];
  readonly durationMs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
};

type Sample = { readonly upperUs: number; readonly lowerUs: number | null };

export async function measureLag(options: LagOptions): Promise<LagCurve> {
  const { cluster } = options;
  const active = await cluster.active();
  const standbys = cluster.nodes().filter(({ id }) => id !== active.id);
  const targets = [active, ...standbys].map((node) => targetOf(node, active.id));
  await expectOk('POST', `sys/mounts/${MOUNT}`, {
    address: active.address,
    token: cluster.token,
    body: { type: 'kv', options: { version: '1' } },
  });
  const client = connectTargets({
    targets,
    socketsPerTarget: 2,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  const prober = createProber(client, targets, cluster.token);
  try {
    for (let i = 0; i < WARMUP_MARKERS; i++) await prober.sample(i % 2 === 0 ? 'probe' : 'index');
    const points: LagPoint[] = [];
    for (const rate of options.rates) {
      points.push(...(await measureAtRate({ ...options, rate, client, targets, prober })));
    }
    return { commitNotify: options.commitNotify, points };
  } finally {
    await client.close();
  }
}

async function measureAtRate(
  options: LagOptions & {
    readonly rate: number;
    readonly client: HttpClient;
    readonly targets: readonly Target[];
    readonly prober: Prober;
  },
): Promise<LagPoint[]> {
  const { rate, durationMs, targets, prober, signal } = options;
  const random = createRandom(options.seed + rate, 'arrival');
  const samples: { readonly [method in LagMethod]: (Sample | undefined)[][] } = {
    probe: [],
    index: [],
  };
  const background = rate === 0 ? undefined : writeInBackground(options);

  // The isolated write is the headline, and nothing runs beside it: it gets twice the time.
  const endMs = performance.now() + durationMs * (rate === 0 ? 2 : 1);
  for (let turn = 0; performance.now() < endMs; turn++) {
    signal.throwIfAborted();
    const method = turn % 4 === 3 ? 'index' : 'probe';
    samples[method].push(await prober.sample(method));
    await delay(REST_MS_MIN + random.next() * (REST_MS_MAX - REST_MS_MIN));
  }
  await background;

  return (['probe', 'index'] as const).map((method) => {
    const perStandby = targets.slice(1).map((_, index) =>
      samples[method].flatMap((row) => {
        const sample = row[index];
        return sample === undefined ? [] : [sample];
      }),
    );
    return {
      writesPerSecond: rate,
      method,
      perNode: perStandby.map((list, index) =>
        nodeLag(targets[index + 1]?.name ?? '', list, method),
      ),
      upper: lagLatency(perStandby.flat().map(({ upperUs }) => upperUs)),
    };
  });
}

function nodeLag(id: string, samples: readonly Sample[], method: LagMethod): LagNode {
  return {
    id,
    upper: lagLatency(samples.map(({ upperUs }) => upperUs)),
    lower: method === 'probe' ? lagLatency(samples.flatMap(({ lowerUs }) => lowerUs ?? [])) : null,
  };
}

function lagLatency(values: readonly number[]) {
  return latencyOf({ values }, { exceedancesMin: EXCEEDANCES_MIN });
}

/** Writes to other keys of the active node at a Poisson rate, until the phase is over. */
async function writeInBackground(options: {
  readonly rate: number;
  readonly durationMs: number;
  readonly seed: number;
  readonly cluster: Cluster;
  readonly client: HttpClient;
  readonly targets: readonly Target[];
  readonly signal: AbortSignal;
}): Promise<void> {
  const plan = buildPlan({
    seed: options.seed,
    schedule: { kind: 'poisson', rate: options.rate },
    durationMs: options.durationMs,
    workload: {
      operations: [{ name: 'write', weight: 1, writes: true }],
      chooseKeys: (random) => ({ next: () => random.below(BACKGROUND_KEYS) }),
      chooseValueBytes: () => () => BACKGROUND_VALUE_BYTES,
    },
    routing: { reads: [1], writes: [1] },
  });
  const headers = writeHeaders(options.cluster.token);
  await openLoop({
    plan,
    targets: options.targets,
    sender: options.client,
    clock: systemClock('coarse'),
    requestOf: (index) => ({
      method: 'POST',
      path: `/v1/${MOUNT}/background-${plan.key[index] ?? 0}`,
      headers,
      body: JSON.stringify({ value: 'x'.repeat(BACKGROUND_VALUE_BYTES), row: index }),
    }),
    verify: (_index, status) => status === 204,
    inFlightMax: 256,
    timeoutMs: ASK_TIMEOUT_MS,
    signal: options.signal,
  });
}

type Prober = {
  /** Writes one marker; returns a sample per standby, or undefined where another node answered. */
  sample(method: LagMethod): Promise<(Sample | undefined)[]>;
};

function createProber(client: HttpClient, targets: readonly Target[], token: string): Prober {
  let marker = 0;
  const readHeaders = ['x-vault-token', token];
  const read: Request = {
    method: 'GET',
    path: `/v1/${MOUNT}/${MARKER}`,
    headers: readHeaders,
    body: undefined,
  };

  async function probe(target: number, wanted: number, ackNs: number): Promise<Sample | undefined> {
    let lastStaleStartNs = ackNs;
    const deadlineNs = ackNs + VISIBLE_TIMEOUT_MS * 1e6;
    for (let polls = 0; monotonicNs() < deadlineNs; polls++) {
      if (polls >= EAGER_POLLS) await delay(1);
      const answer = await client.ask(target, read, ASK_TIMEOUT_MS);
      if (answer.servedBy !== targets[target]?.nodeId) return undefined;
      if (answer.status === 200 && markerOf(answer.body) >= wanted) {
        return {
          upperUs: (answer.completionNs - ackNs) / 1_000,
          lowerUs: Math.max(0, lastStaleStartNs - ackNs) / 1_000,
        };
      }
      lastStaleStartNs = answer.writtenNs;
    }
    throw new Error(
      `marker ${wanted} is not visible on ${targets[target]?.name} after ${VISIBLE_TIMEOUT_MS} ms`,
    );
  }

  async function awaitIndex(
    target: number,
    index: string,
    ackNs: number,
  ): Promise<Sample | undefined> {
    const answer = await client.ask(
      target,
      {
        ...read,
        headers: [
          ...readHeaders,
          'x-vault-index',
          index,
          'x-vault-inconsistent',
          'await-state,fail',
        ],
      },
      ASK_TIMEOUT_MS,
    );
    if (answer.servedBy !== targets[target]?.nodeId) return undefined;
    if (answer.status !== 200) throw new Error(`await-state was answered ${answer.status}`);
    return { upperUs: (answer.completionNs - ackNs) / 1_000, lowerUs: null };
  }

  return {
    async sample(method) {
      const wanted = ++marker;
      const written = await client.ask(
        0,
        {
          method: 'POST',
          path: `/v1/${MOUNT}/${MARKER}`,
          headers: writeHeaders(token),
          body: `{"marker":"m${wanted}."}`,
        },
        ASK_TIMEOUT_MS,
      );
      assert(written.status === 204, `a marker write was answered ${written.status}`);
      const index = written.headers.get('x-vault-index');
      assert(index !== undefined, 'the write was answered without an index');
      return Promise.all(
        targets
          .slice(1)
          .map((_, position) =>
            method === 'probe'
              ? probe(position + 1, wanted, written.completionNs)
              : awaitIndex(position + 1, index, written.completionNs),
          ),
      );
    },
  };
}

/** Returns the number in `"marker":"m17."`, or 0 before the first marker. */
function markerOf(body: Buffer): number {
  const start = body.indexOf('"marker":"m');
  if (start < 0) return 0;
  const from = start + '"marker":"m'.length;
  return Number(body.toString('latin1', from, body.indexOf('.', from)));
}

function writeHeaders(token: string): readonly string[] {
  return ['x-vault-token', token, 'content-type', 'application/json'];
}
