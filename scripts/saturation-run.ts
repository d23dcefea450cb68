/**
 * Three real processes with more HTTP requests than they can serve, and main threads that are kept
 * busy for `BLOCK_MS` every second: whatever else suffers, nobody may take the leader for dead.
 *
 * Terms are what is judged. A term changes with every election that is more than a pre-vote, so a
 * leader that was deposed and elected again between two looks is seen as well.
 */

import { setTimeout as delay } from 'node:timers/promises';

import autocannon from 'autocannon';
import { request } from 'undici';

import { expectOk } from '../bench/cluster/admin-api.ts';
import { startReferenceCluster, type Cluster } from '../bench/cluster/reference-cluster.ts';

export type SaturationOptions = {
  readonly seconds: number;
  readonly raftThreads: 'inline' | 'worker';
  readonly connectionsPerNode: number;
};

export type NodeReport = {
  readonly id: string;
  readonly isActive: boolean;
  readonly blocks: number;
  readonly answers: number;
  readonly failures: number;
  /** Elections that it stood for during the run. */
  readonly elections: number;
  /** The latest tick of raft, and what its event loop and that of HTTP suffered. */
  readonly tickLatenessMsMax: number;
  readonly mainDelayMsMax: number;
  readonly mainDelayMsP99: number;
  readonly raftDelayMsMax: number;
};

export type SaturationReport = {
  readonly seconds: number;
  readonly leaderChanges: number;
  readonly termBefore: number;
  readonly termAfter: number;
  readonly nodes: readonly NodeReport[];
};

const NODES = 3;
/** Each node in turn: one block a second for each. */
const BLOCK_INTERVAL_MS = 1000 / NODES;
const READS_PER_WRITE = 4;
const KEYS = 64;
const VALUE_BYTES = 256;
/** After the load, so that what is asked then is not one of many. */
const SETTLE_MS = 1_000;

export async function saturate(options: SaturationOptions): Promise<SaturationReport> {
  const cluster = await startReferenceCluster({
    name: 'w',
    mode: 'standby-reads',
    server: { introspection: true },
    storage: { raft_threads: options.raftThreads },
  });
  try {
    await cluster.grow(NODES);
    const { address } = await cluster.active();
    await expectOk('PUT', 'sys/mounts/kv', { ...of(cluster, address), body: { type: 'kv' } });
    for (let key = 0; key < KEYS; key += 1) {
      const body = { value: 'x'.repeat(VALUE_BYTES) };
      await expectOk('PUT', `kv/${key}`, { ...of(cluster, address), body });
    }
    return await loadAndBlock(cluster, options);
  } finally {
    await cluster.stop();
  }
}

async function loadAndBlock(
  cluster: Cluster,
  { seconds, connectionsPerNode }: SaturationOptions,
): Promise<SaturationReport> {
  const active = await cluster.active();
  const before = await readAll(cluster);
  const loads = cluster
    .nodes()
    .map((node) => load(node.address, cluster.token, { seconds, connectionsPerNode }));
  const blocks = await blockInTurn(cluster, seconds);
  const loaded = await Promise.all(loads);
  await delay(SETTLE_MS);
  const after = await readAll(cluster);
  const termBefore = Math.max(
    ...before.map((metrics) => metrics.value('vault_raft_storage_stats_term')),
  );
  const termAfter = Math.max(
    ...after.map((metrics) => metrics.value('vault_raft_storage_stats_term')),
  );
  const nodes = cluster.nodes().map(({ id }, i): NodeReport => {
    const [start, end, result] = [before[i], after[i], loaded[i]];
    if (start === undefined || end === undefined || result === undefined) throw new Error(id);
    const stood = 'vault_raft_state_candidate';
    return {
      id,
      isActive: id === active.id,
      blocks: blocks.get(id) ?? 0,
      answers: result['2xx'],
      failures: result.non2xx + result.errors + result.timeouts,
      elections: end.value(stood) - start.value(stood),
      tickLatenessMsMax: end.value('baobench_raft_tick_lateness_max_ms'),
      mainDelayMsMax: end.delayMs('main', 'max'),
      mainDelayMsP99: end.delayMs('main', 'p99'),
      raftDelayMsMax: end.delayMs('raft', 'max'),
    };
  });
  return { seconds, leaderChanges: termAfter - termBefore, termBefore, termAfter, nodes };
}

/** Reads and writes in a closed loop, on as many connections as keep a node from ever resting. */
function load(
  address: string,
  token: string,
  { seconds, connectionsPerNode }: { seconds: number; connectionsPerNode: number },
): Promise<autocannon.Result> {
  const headers = { 'x-vault-token': token, 'content-type': 'application/json' };
  const body = JSON.stringify({ value: 'x'.repeat(VALUE_BYTES) });
  const requests: autocannon.Request[] = [];
  for (let key = 0; key < KEYS; key += 1) {
    const isWrite = key % (READS_PER_WRITE + 1) === 0;
    const path = `/v1/kv/${key}`;
    requests.push(isWrite ? { method: 'PUT', path, headers, body } : { path, headers });
  }
  const duration = seconds;
  return autocannon({ url: address, connections: connectionsPerNode, duration, requests });
}

async function blockInTurn(cluster: Cluster, seconds: number): Promise<Map<string, number>> {
  const blocks = new Map<string, number>();
  const endMs = performance.now() + seconds * 1000;
  for (let turn = 0; performance.now() < endMs; turn += 1) {
    const node = cluster.nodes()[turn % NODES];
    if (node === undefined) continue;
    node.kill('SIGUSR2');
    blocks.set(node.id, (blocks.get(node.id) ?? 0) + 1);
    await delay(BLOCK_INTERVAL_MS);
  }
  return blocks;
}

type Metrics = {
  value(name: string): number;
  delayMs(thread: 'main' | 'raft', statistic: 'max' | 'p99'): number;
};

function readAll(cluster: Cluster): Promise<Metrics[]> {
  return Promise.all(cluster.nodes().map((node) => readMetrics(of(cluster, node.address))));
}

async function readMetrics({ address, token }: ReturnType<typeof of>): Promise<Metrics> {
  const answer = await request(`${address}/v1/sys/metrics?format=prometheus`, {
    headers: { 'x-vault-token': token },
  });
  const text = await answer.body.text();
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name, value] = line.split(' ');
    if (name !== undefined && !name.startsWith('#')) values.set(name, Number(value));
  }
  const value = (name: string): number => {
    const found = values.get(name);
    if (found === undefined) throw new Error(`${address} has no metric ${name}: ${text}`);
    return found;
  };
  return {
    value,
    delayMs: (thread, statistic) => {
      const name = `baobench_event_loop_delay_seconds{thread="${thread}",statistic="${statistic}"}`;
      return 1000 * (values.get(name) ?? 0);
    },
  };
}

function of(cluster: Cluster, address: string): { address: string; token: string } {
  return { address, token: cluster.token };
}
