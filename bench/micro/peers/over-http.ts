/**
 * What a client of a cluster sees: reads that miss a write, what a linearizable read costs on a
 * standby, and how long nobody takes writes when the active node dies or hands over.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'undici';

import type { Measured } from '../../analysis/gates.ts';
import { measuredDifference } from '../../analysis/paired.ts';
import { call, expectOk } from '../../cluster/admin-api.ts';
import { startReferenceCluster, type Cluster } from '../../cluster/reference-cluster.ts';
import { createRandom } from '../../random.ts';
import { middle } from './library.ts';
import { TARGETS, type Row, type Target } from './target.ts';

export type HttpOptions = {
  readonly kills: number;
  readonly fsmMode: 'sync' | 'overlay';
  readonly report: (progress: string) => void;
};

const NODES = 3;
const READS = 400;
const WRITE_TIMEOUT_MS = 1_500;
const GIVE_UP_MS = 15_000;
const STEP_DOWNS = 10;
/** Before a hand-over: the writer is at its pace, and an earlier change is over. */
const SETTLED_MS = 1_500;

/** P7, P8, P10 and P11; between nodes TLS is always on. */
export async function measureOverHttp({ kills, fsmMode, report }: HttpOptions): Promise<Row[]> {
  const storage = { fsm_mode: fsmMode };
  const cluster = await startReferenceCluster({ name: 't', mode: 'standby-reads', storage });
  const row = (target: Target, measured: Measured): Row => ({ target, tls: true, measured });
  try {
    await cluster.grow(NODES);
    const { address } = await cluster.active();
    const { token } = cluster;
    await expectOk('PUT', 'sys/mounts/kv', { address, token, body: { type: 'kv' } });
    report('reads after writes');
    const missed = await missedReads(cluster, {});
    const awaited = await missedReads(cluster, { awaitIndex: true });
    report('linearizable reads');
    const added = await linearizableOverhead(cluster);
    report('step-downs');
    const gaps = await stepDownGaps(cluster);
    report('kills');
    const outages = await killOutages(cluster, kills);
    return [
      row(TARGETS.P7a, { value: missed / READS, unit: 'share', samples: READS }),
      row(TARGETS.P7b, { value: awaited / READS, unit: 'share', samples: READS }),
      row(TARGETS.P8, added),
      row(TARGETS.P10a, { value: middle(outages), unit: 'us', samples: outages.length }),
      row(TARGETS.P10b, { value: Math.max(...outages), unit: 'us', samples: outages.length }),
      row(TARGETS.P11, { value: Math.max(...gaps), unit: 'us', samples: gaps.length }),
    ];
  } finally {
    await cluster.stop();
  }
}

/** Each read is sent to a standby in the moment in which the active node's answer is there. */
async function missedReads(cluster: Cluster, options: { awaitIndex?: boolean }): Promise<number> {
  const active = await cluster.active();
  const standby = cluster.nodes().find(({ id }) => id !== active.id);
  assert(standby !== undefined);
  const writer = new Client(active.address);
  const reader = new Client(standby.address);
  const headers = { 'x-vault-token': cluster.token };
  let missed = 0;
  try {
    for (let number = 0; number < READS; number += 1) {
      const value = `${options.awaitIndex === true ? 'a' : 'm'}${number}`;
      const body = JSON.stringify({ value });
      const path = '/v1/kv/missed';
      const written = await writer.request({ method: 'PUT', path, headers, body });
      await written.body.dump();
      assert.equal(written.statusCode, 204);
      const index = String(written.headers['x-vault-index']);
      // A standby that is not there in time sends the read on, and never answers with less.
      const inconsistent = ['await-state', 'forward-active-node'];
      const asked = { 'x-vault-index': index, 'x-vault-inconsistent': inconsistent };
      const read = await reader.request({
        method: 'GET',
        path,
        headers: options.awaitIndex === true ? { ...headers, ...asked } : headers,
      });
      const text = await read.body.text();
      // Before the first write has arrived there is nothing to find.
      assert(read.statusCode === 200 || read.statusCode === 404, text);
      if (!text.includes(`"${value}"`)) missed += 1;
      await delay(5);
    }
  } finally {
    await Promise.all([writer.destroy(), reader.destroy()]);
  }
  return missed;
}

/** Pairs of a local and a linearizable read of the same key on the same standby. */
async function linearizableOverhead(cluster: Cluster): Promise<Measured> {
  const active = await cluster.active();
  const standby = cluster.nodes().find(({ id }) => id !== active.id);
  assert(standby !== undefined);
  const client = new Client(standby.address);
  const read = async (asked: Readonly<Record<string, string>>): Promise<number> => {
    const startMs = performance.now();
    const answer = await client.request({
      method: 'GET',
      path: '/v1/kv/missed',
      headers: { 'x-vault-token': cluster.token, 'x-bao-consistency-info': '1', ...asked },
    });
    await answer.body.dump();
    assert.equal(answer.statusCode, 200);
    assert.equal(answer.headers['x-vault-raft-node-id'], standby.id);
    assert.equal(answer.headers['x-bao-consistency'], asked['x-bao-consistency'] ?? 'stale');
    return 1000 * (performance.now() - startMs);
  };
  const linearizable = { 'x-bao-consistency': 'linearizable' };
  const differencesUs: number[] = [];
  try {
    for (let number = 0; number < READS; number += 1) {
      const isFirst = number % 2 === 0;
      const first = await read(isFirst ? linearizable : {});
      const second = await read(isFirst ? {} : linearizable);
      // The first hundred warm up.
      if (READS / 4 <= number) differencesUs.push(isFirst ? first - second : second - first);
    }
  } finally {
    await client.destroy();
  }
  return measuredDifference(differencesUs, 'us', createRandom(1, 'resample'));
}

/** The longest time between two acknowledged writes around each step-down, in microseconds. */
async function stepDownGaps(cluster: Cluster): Promise<number[]> {
  const gapsUs: number[] = [];
  for (let round = 0; round < STEP_DOWNS; round += 1) {
    const done = new AbortController();
    const acksMs: number[] = [];
    const writing = writeUntil(cluster, done.signal, acksMs);
    await delay(SETTLED_MS);
    const active = await cluster.active();
    const startMs = performance.now();
    await expectOk('PUT', 'sys/step-down', { address: active.address, token: cluster.token });
    await delay(SETTLED_MS);
    done.abort();
    await writing;
    const around = acksMs.filter((ms) => startMs - 100 <= ms);
    assert(around.length > 1, 'no writes after a step-down');
    gapsUs.push(1000 * Math.max(...around.slice(1).map((ms, i) => ms - (around[i] ?? ms))));
  }
  return gapsUs;
}

async function writeUntil(cluster: Cluster, signal: AbortSignal, acksMs: number[]): Promise<void> {
  for (let number = 0; !signal.aborted; number += 1) {
    if (await tryWrite(cluster, number, `gap-${number}`)) acksMs.push(performance.now());
    await delay(2);
  }
}

/** How long after a kill of the active node the next write was acknowledged, in microseconds. */
async function killOutages(cluster: Cluster, kills: number): Promise<number[]> {
  const outagesUs: number[] = [];
  for (let kill = 0; kill < kills; kill += 1) {
    const active = await cluster.active();
    active.kill('SIGKILL');
    const killedMs = performance.now();
    let isAccepted = false;
    for (let attempt = 0; !isAccepted; attempt += 1) {
      assert(performance.now() - killedMs < GIVE_UP_MS, 'no write was accepted after a kill');
      isAccepted = await tryWrite(cluster, attempt, `kill-${kill}-${attempt}`);
    }
    outagesUs.push(1000 * (performance.now() - killedMs));
    await cluster.restart(active.id);
  }
  return outagesUs;
}

/** Through one living node after the other. */
async function tryWrite(cluster: Cluster, attempt: number, key: string): Promise<boolean> {
  const living = cluster.nodes().filter((node) => node.isRunning());
  const through = living[attempt % living.length];
  const answer = await call('PUT', `kv/${key}`, {
    address: through?.address ?? '',
    token: cluster.token,
    body: { value: key },
    timeoutMs: WRITE_TIMEOUT_MS,
  }).catch(() => undefined); // A node that has just died refuses the connection.
  return answer?.status === 204;
}
