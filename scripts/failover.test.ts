/**
 * Kills the active node of clusters of real processes, again and again, under reads and writes.
 *
 * After each kill: writes work again within two seconds, reads on the survivors never fail, and
 * every write that was ever acknowledged is there. The killed node comes back before the next
 * kill, so the cluster always has a quorum to lose one from.
 */

import { Client } from 'undici';
import { describe, expect, test } from 'vitest';

import { call } from '../bench/cluster/admin-api.ts';
import { startReferenceCluster, type Cluster } from '../bench/cluster/reference-cluster.ts';

const WRITES_AGAIN_MS = 2_000;
const WRITE_TIMEOUT_MS = 1_500;
const GIVE_UP_MS = 15_000;

describe('failover', () => {
  test.each([
    { nodes: 3, kills: 14 },
    { nodes: 5, kills: 6 },
  ])(
    '$nodes nodes survive $kills kills of the active one',
    async ({ nodes, kills }) => {
      const cluster = await startReferenceCluster({ name: 'f', mode: 'standby-reads' });
      try {
        await cluster.grow(nodes);
        await put(cluster, 'sys/mounts/kv', { type: 'kv' });
        const acknowledged = new Map<string, string>();
        await write(cluster, 'anchor', 'still here', acknowledged);
        // Each reader reads from one node, which has to have it first.
        await expectAllThere(cluster, acknowledged);

        const outagesMs: number[] = [];
        for (let kill = 0; kill < kills; kill++) {
          outagesMs.push(await killAndRecover(cluster, kill, acknowledged));
        }

        await expectAllThere(cluster, acknowledged);
        const sorted = outagesMs.map((ms) => Math.round(ms)).toSorted((a, b) => a - b);
        const median = sorted[Math.floor(sorted.length / 2)];
        process.stderr.write(
          `failover, ${nodes} nodes, ${kills} kills: writes again after ${median} ms (median), ` +
            `${sorted.at(-1)} ms (longest); ${acknowledged.size} writes acknowledged, all there\n`,
        );
        expect(sorted.at(-1)).toBeLessThanOrEqual(WRITES_AGAIN_MS);
      } finally {
        await cluster.stop();
      }
    },
    180_000,
  );
});

/** Returns how long no write was accepted, in milliseconds. */
async function killAndRecover(
  cluster: Cluster,
  round: number,
  acknowledged: Map<string, string>,
): Promise<number> {
  const active = await cluster.active();
  const survivors = cluster.nodes().filter((node) => node.id !== active.id);
  const readers = survivors.map((node) => readUntilStopped(cluster, node.address));

  active.kill('SIGKILL');
  const killedMs = performance.now();
  let attempt = 0;
  let accepted = false;
  while (!accepted && performance.now() - killedMs < GIVE_UP_MS) {
    const through = survivors[attempt++ % survivors.length];
    const key = `round-${round}-${attempt}`;
    const answer = await call('PUT', `kv/${key}`, {
      address: through?.address ?? '',
      token: cluster.token,
      body: { value: key },
      timeoutMs: WRITE_TIMEOUT_MS,
    }).catch(() => undefined);
    accepted = answer?.status === 204;
    if (accepted) acknowledged.set(key, key);
  }
  const outageMs = performance.now() - killedMs;

  for (let i = 0; i < 10; i++)
    await write(cluster, `round-${round}-after-${i}`, `${i}`, acknowledged);
  for (const reader of readers) {
    const { reads, failures } = await reader.stop();
    expect(failures).toEqual([]);
    expect(reads).toBeGreaterThan(0);
  }
  await cluster.restart(active.id);
  return outageMs;
}

/** Reads one key from one node, one request after the other, until told to stop. */
function readUntilStopped(cluster: Cluster, address: string) {
  const client = new Client(address);
  const failures: string[] = [];
  let reads = 0;
  const stopping = new AbortController();
  const loop = (async () => {
    while (!stopping.signal.aborted) {
      const answer = await client
        .request({
          method: 'GET',
          path: '/v1/kv/anchor',
          headers: { 'x-vault-token': cluster.token },
        })
        .catch((error: unknown) => String(error));
      if (typeof answer === 'string') {
        failures.push(answer);
        break;
      }
      const text = await answer.body.text();
      reads++;
      if (answer.statusCode !== 200 || !text.includes('still here')) {
        failures.push(`${address}: ${answer.statusCode} ${text}`);
      }
    }
    await client.close();
  })();
  return {
    async stop() {
      stopping.abort();
      await loop;
      return { reads, failures };
    },
  };
}

async function put(cluster: Cluster, path: string, body: Record<string, unknown>): Promise<void> {
  const active = await cluster.active();
  const answer = await call('PUT', path, { address: active.address, token: cluster.token, body });
  expect(answer.status, JSON.stringify(answer.body)).toBe(204);
}

async function write(
  cluster: Cluster,
  key: string,
  value: string,
  acknowledged: Map<string, string>,
): Promise<void> {
  await put(cluster, `kv/${key}`, { value });
  acknowledged.set(key, value);
}

/** On every node: a read that this node answers itself, after it has caught up. */
async function expectAllThere(
  cluster: Cluster,
  acknowledged: ReadonlyMap<string, string>,
): Promise<void> {
  const active = await cluster.active();
  const last = await call('PUT', 'kv/last', {
    address: active.address,
    token: cluster.token,
    body: { value: 'last' },
  });
  const index = String(last.headers['x-vault-index']);
  for (const node of cluster.nodes()) {
    for (const [key, value] of acknowledged) {
      const answer = await call('GET', `kv/${key}`, {
        address: node.address,
        token: cluster.token,
        headers: { 'x-vault-index': index, 'x-vault-inconsistent': 'forward-active-node' },
      });
      expect(answer.body['data'], `${key} on ${node.id}`).toEqual({ value });
    }
  }
}
