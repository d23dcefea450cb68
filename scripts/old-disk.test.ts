/**
 * A node of real processes is replaced under its id and its address; then the old disk is started
 * again in its place, where the leader dials it and it dials the leader.
 */

import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';

import { call, expectOk } from '../bench/cluster/admin-api.ts';
import { startNode, type NodeProcess, type NodeSettings } from '../bench/cluster/node-process.ts';
import { startReferenceCluster, type Cluster } from '../bench/cluster/reference-cluster.ts';

const DEADLINE_MS = 30_000;

test.each(['inline', 'worker'])(
  'an old disk is refused, says so and ends: raft_threads = %s',
  async (threads) => {
    const places = new Map<string, NodeSettings>();
    const processes: NodeProcess[] = [];
    const cluster = await startReferenceCluster({
      ...{ name: 'o', mode: 'standby-reads', storage: { raft_threads: threads } },
      place: async (settings) => {
        places.set(settings.id, settings);
        return settings;
      },
    });
    try {
      await cluster.grow(3);
      const active = await cluster.active();
      const [replaced, third] = cluster.nodes().filter(({ id }) => id !== active.id);
      assert(replaced !== undefined && third !== undefined);
      const place = places.get(replaced.id);
      assert(place !== undefined);
      const start = async (): Promise<NodeProcess> => {
        const node = await startNode(place);
        processes.push(node);
        return node;
      };
      await replaced.stop();
      await rename(place.directory, `${place.directory}-old`);

      const fresh = await start();
      const body = { leader_api_addr: active.address };
      await expectOk('POST', 'sys/storage/raft/join', { address: fresh.address, body });
      await unseal(cluster, fresh);
      const { token } = cluster;
      await until(
        async () => (await writes(active, token)) && (await isVoter(active, token, fresh)),
      );
      await fresh.stop();
      await third.stop();

      await rename(place.directory, `${place.directory}-fresh`);
      await rename(`${place.directory}-old`, place.directory);
      const old = await start();
      const unsealed = unseal(cluster, old).catch(() => undefined);
      await Promise.race([old.exited, delay(DEADLINE_MS)]);
      await unsealed;
      expect(old.isRunning()).toBe(false);
      expect(old.errorOutput()).toContain('node was replaced');
      // With it there would be a majority.
      expect(await writes(active, token)).toBe(false);

      await rename(place.directory, `${place.directory}-old`);
      await rename(`${place.directory}-fresh`, place.directory);
      await unseal(cluster, await start());
      await until(async () => (await writes(fresh, token)) || (await writes(active, token)));
    } finally {
      for (const node of processes) await node.stop();
      await cluster.stop();
    }
  },
  120_000,
);

async function unseal({ unsealKey }: Cluster, { address }: NodeProcess): Promise<void> {
  await expectOk('PUT', 'sys/unseal', { address, body: { key: unsealKey } });
}

async function isVoter({ address }: NodeProcess, token: string, { id }: NodeProcess) {
  const { body } = await call('GET', 'sys/storage/raft/configuration', { address, token });
  const { config } = body['data'] as { config: { servers: { node_id: string; voter: boolean }[] } };
  return config.servers.some((server) => server.node_id === id && server.voter);
}

/** Whether a write is acknowledged: a token, which is stored before it is given out. */
async function writes({ address }: NodeProcess, token: string): Promise<boolean> {
  const body = { ttl: '1h' };
  try {
    const { status } = await call('POST', 'auth/token/create', { address, token, body });
    return status === 200;
  } catch {
    // No answer in time is none either.
    return false;
  }
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!(await isSo())) {
    assert(performance.now() < deadlineMs, `not reached: ${String(isSo)}`);
    await delay(50);
  }
}
