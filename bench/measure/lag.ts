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
 * not samples, and counted. Between markers the loop rests for a random while, so that every write
 * meets a cluster that is idle but for the background load, and no rhythm of the cluster is in step
 * with it.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { Cluster } from '../cluster/reference-cluster.ts';
import { expectOk } from '../cluster/admin-api.ts';
import { connectTargets } from '../load/client.ts';
import { monotonicNs } from '../load/clock.ts';
import type { Target } from '../load/exchange.ts';
import { createRandom } from '../random.ts';
import type { LagCurve, LagMethod, LagPoint, ScopedGate } from '../run.ts';
import { targetOf } from './drive.ts';
import { connectBackground } from './lag-background.ts';
import { judgeLag, lagPoints, lagScope, type Marker, type Markers } from './lag-figures.ts';
import { createProber, type Prober } from './lag-prober.ts';

const MOUNT = 'lag';
const REST_MS_MIN = 3;
const REST_MS_MAX = 10;
/** The isolated write is the headline; while one is awaited there are few, more of them take long. */
export const IDLE_TIMES = { push: 5, piggyback: 2 } as const;
const WARMUP_MARKERS = 100;
/** Of a cluster whose markers time out there is nothing to warm. */
const WARMUP_MS_MAX = 15_000;

export type LagOptions = {
  readonly cluster: Cluster;
  readonly commitNotify: 'push' | 'piggyback';
  readonly rates: readonly number[];
  readonly durationMs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
};

export async function measureLag(
  options: LagOptions,
): Promise<{ readonly curve: LagCurve; readonly gates: readonly ScopedGate[] }> {
  const { cluster, commitNotify, signal } = options;
  const active = await cluster.active();
  const standbys = cluster.nodes().filter(({ id }) => id !== active.id);
  const targets: Phase['targets'] = [
    targetOf(active, active.id),
    ...standbys.map((node) => targetOf(node, active.id)),
  ];
  await expectOk('POST', `sys/mounts/${MOUNT}`, {
    address: active.address,
    token: cluster.token,
    body: { type: 'kv', options: { version: '1' } },
  });
  // One marker is under way at a time: one socket each.
  const client = connectTargets({
    targets,
    socketsPerTarget: 1,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  const { ask } = client;
  const prober = createProber({
    ask,
    nowNs: monotonicNs,
    targets,
    token: cluster.token,
    mount: MOUNT,
  });
  try {
    const warmUntilMs = performance.now() + WARMUP_MS_MAX;
    for (let turn = 0; turn < WARMUP_MARKERS && performance.now() < warmUntilMs; turn++) {
      signal.throwIfAborted();
      await prober.mark(turn % 2 === 0 ? 'probe' : 'index');
    }
    const points: LagPoint[] = [];
    const gates: ScopedGate[] = [];
    for (const rate of options.rates) {
      const measured = await measureAtRate({ ...options, rate, targets, prober });
      points.push(...measured.points);
      gates.push(...measured.gates);
    }
    return { curve: { commitNotify, points }, gates };
  } finally {
    await client.close();
  }
}

type Phase = LagOptions & {
  readonly rate: number;
  /** The active node, then the standbys. */
  readonly targets: readonly [Target, ...Target[]];
  readonly prober: Prober;
};

async function measureAtRate(
  phase: Phase,
): Promise<{ readonly points: readonly LagPoint[]; readonly gates: readonly ScopedGate[] }> {
  const { rate, commitNotify, cluster, signal, targets } = phase;
  const [active, ...standbys] = targets;
  // The isolated write is the headline, and nothing runs beside it: it gets more time.
  const durationMs = phase.durationMs * (rate === 0 ? IDLE_TIMES[commitNotify] : 1);
  const background =
    rate === 0
      ? undefined
      : await connectBackground({
          active,
          token: cluster.token,
          mount: MOUNT,
          rate,
          durationMs,
          seed: phase.seed,
          signal,
        });
  try {
    const [tally, markers] = await Promise.all([
      background?.write(),
      // Other draws than the background's, or the rests would be in step with its arrivals.
      writeMarkers({ ...phase, seed: phase.seed + rate, durationMs }),
    ]);
    const gates = judgeLag(markers, tally);
    const standbyIds = standbys.map(({ name }) => name);
    const scope = lagScope(commitNotify, rate);
    return {
      points: lagPoints({ rate, standbyIds, markers, gates }),
      gates: gates.map((gate) => ({ ...gate, scope })),
    };
  } finally {
    await background?.close();
  }
}

async function writeMarkers(
  phase: Pick<Phase, 'prober' | 'durationMs' | 'seed' | 'signal'>,
): Promise<Markers> {
  const random = createRandom(phase.seed, 'arrival');
  const markers: { readonly [method in LagMethod]: Marker[] } = { probe: [], index: [] };
  const endMs = performance.now() + phase.durationMs;
  for (let turn = 0; performance.now() < endMs; turn++) {
    phase.signal.throwIfAborted();
    const method = turn % 4 === 3 ? 'index' : 'probe';
    markers[method].push(await phase.prober.mark(method));
    await delay(REST_MS_MIN + random.next() * (REST_MS_MAX - REST_MS_MIN));
  }
  return markers;
}
