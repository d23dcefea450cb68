/**
 * The levels of `docs/consistency.md` on clusters of real processes: what each gives while all is
 * well, and what it answers when it cannot be had. Cutting a node off is stopping the others; a
 * leader that is deposed without knowing it is one that was stopped itself.
 */

import { afterEach, describe, expect, test } from 'vitest';

import { call, expectOk, type Answer } from '../bench/cluster/admin-api.ts';
import {
  startReferenceCluster,
  type Cluster,
  type ClusterNode,
} from '../bench/cluster/reference-cluster.ts';

const PATIENCE_MS = 15_000;
const LINEARIZABLE = { 'x-bao-consistency': 'linearizable' };
const LEADER = { 'x-bao-consistency': 'leader' };
const BOUNDED = { 'x-bao-max-staleness': '300ms' };
const INFO = { 'x-bao-consistency-info': '1' };

const clusters: Cluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) {
    for (const node of cluster.nodes()) node.kill('SIGCONT');
    await cluster.stop();
  }
});

async function start(storage: { readonly [key: string]: string } = {}): Promise<Cluster> {
  const cluster = await startReferenceCluster({
    name: 'c',
    mode: 'standby-reads',
    server: { leader_wait: '500ms' },
    storage,
  });
  clusters.push(cluster);
  await cluster.grow(3);
  await write(cluster, await cluster.active(), 'sys/mounts/kv', { type: 'kv' });
  await write(cluster, await cluster.active(), 'kv/a', { value: 'old' });
  return cluster;
}

function write({ token }: Cluster, { address }: ClusterNode, path: string, body: object) {
  return expectOk('PUT', path, { address, token, body: { ...body } });
}

function read(
  { token }: Cluster,
  { address }: ClusterNode,
  headers: { readonly [name: string]: string } = {},
): Promise<Answer> {
  return call('GET', 'kv/a', { address, token, headers, timeoutMs: PATIENCE_MS });
}

function valueOf({ body }: Answer): unknown {
  return (body['data'] as { readonly value?: unknown } | undefined)?.value;
}

function standbysOf(cluster: Cluster, active: ClusterNode): ClusterNode[] {
  return cluster.nodes().filter(({ id }) => id !== active.id);
}

describe('a cluster that is well', () => {
  test('every level sees the last write on every node, stale ones with its index', async () => {
    const cluster = await start();
    const active = await cluster.active();
    for (let round = 0; round < 20; round += 1) {
      const value = `v${round}`;
      const { headers } = await write(cluster, active, 'kv/a', { value });
      const index = String(headers['x-vault-index'] ?? '');
      for (const node of cluster.nodes()) {
        const session = {
          'x-vault-index': index,
          'x-vault-inconsistent': 'await-state,forward-active-node',
        };
        const bounded = { 'x-bao-max-staleness': '1us' };
        for (const level of [LINEARIZABLE, LEADER, bounded, session]) {
          const answer = await read(cluster, node, level);
          expect([node.id, level, answer.status, valueOf(answer)]).toEqual([
            node.id,
            level,
            200,
            value,
          ]);
        }
      }
    }
  });

  test('an answer tells what it rests on', async () => {
    const cluster = await start();
    const active = await cluster.active();
    const [standby] = standbysOf(cluster, active);
    const told = async (node: ClusterNode | undefined, level: object): Promise<unknown[]> => {
      const { headers } = await read(cluster, node ?? active, { ...INFO, ...level });
      return ['consistency', 'served-by', 'node', 'role', 'known-leader'].map(
        (name) => headers[`x-bao-${name}`],
      );
    };
    // A stale read may come before the very mount has arrived.
    await read(cluster, standby ?? active, LINEARIZABLE);
    const local = [standby?.id, 'standby', 'true'];
    expect(await told(standby, {})).toEqual(['stale', 'local', ...local]);
    expect(await told(standby, LINEARIZABLE)).toEqual(['linearizable', 'local', ...local]);
    expect(await told(standby, LEADER)).toEqual([
      'leader',
      'forwarded',
      active.id,
      'active',
      'true',
    ]);
    expect(await told(active, LEADER)).toEqual(['leader', 'local', active.id, 'active', 'true']);
    const { headers } = await read(cluster, standby ?? active, { ...INFO, ...LINEARIZABLE });
    expect(Number(headers['x-bao-staleness-ms'])).toBeLessThan(PATIENCE_MS);
    expect(Number(headers['x-bao-lag-entries'])).toBeGreaterThanOrEqual(0);
  });
});

test.each(['active', 'standby'] as const)('what the %s answers that is cut off', async (which) => {
  const cluster = await start();
  const active = await cluster.active();
  const [standby] = standbysOf(cluster, active);
  const alone = which === 'active' ? active : (standby ?? active);
  expect((await read(cluster, alone, LINEARIZABLE)).status).toBe(200);
  for (const node of cluster.nodes()) if (node !== alone) node.kill('SIGSTOP');
  const cutMs = performance.now();

  // Nobody else can write, so that there is nothing to be missed; yet nothing proves that.
  expect((await read(cluster, alone, LINEARIZABLE)).status).toBe(503);
  expect((await read(cluster, alone, LEADER)).status).toBe(503);
  const stale = await read(cluster, alone, INFO);
  expect([stale.status, valueOf(stale)]).toEqual([200, 'old']);
  const stalenessMs = Number(stale.headers['x-bao-staleness-ms']);
  expect(stalenessMs).toBeGreaterThanOrEqual(Math.floor(performance.now() - cutMs) - 1_000);

  // More than the bound has passed since, as the two refusals took their time.
  await expect
    .poll(async () => (await read(cluster, alone, BOUNDED)).status, { timeout: PATIENCE_MS })
    .toBe(429);
  const generous = await read(cluster, alone, { 'x-bao-max-staleness': '10m' });
  expect([generous.status, valueOf(generous)]).toEqual([200, 'old']);
  const forwarded = { ...BOUNDED, 'x-vault-inconsistent': 'forward-active-node' };
  expect([429, 503]).toContain((await read(cluster, alone, forwarded)).status);

  for (const node of cluster.nodes()) node.kill('SIGCONT');
  await expect
    .poll(async () => (await read(cluster, alone, LINEARIZABLE)).status, { timeout: PATIENCE_MS })
    .toBe(200);
});

test.each(['off', 'on'] as const)(
  'a leader that slept through its successor serves nothing old that was to be new, lease %s',
  async (lease) => {
    const cluster = await start({ leader_lease: lease });
    const old = await cluster.active();
    // With a lease it may answer alone, a moment before.
    expect((await read(cluster, old, LINEARIZABLE)).status).toBe(200);
    old.kill('SIGSTOP');
    const [heir] = standbysOf(cluster, old);
    await expect
      .poll(
        async () => {
          const address = heir?.address ?? '';
          const options = { address, token: cluster.token, body: { value: 'new' } };
          return (await call('PUT', 'kv/a', { ...options, timeoutMs: PATIENCE_MS })).status;
        },
        { timeout: PATIENCE_MS },
      )
      .toBe(204);

    // These wait in its sockets, and are the first that it hears of.
    const asked = [LINEARIZABLE, LEADER, LINEARIZABLE, LEADER, { ...BOUNDED }].map((level) =>
      read(cluster, old, level),
    );
    old.kill('SIGCONT');
    for (const answer of await Promise.all(asked)) {
      expect(answer.status === 200 ? valueOf(answer) : answer.status).not.toBe('old');
    }
    await expect
      .poll(async () => valueOf(await read(cluster, old, LINEARIZABLE)), { timeout: PATIENCE_MS })
      .toBe('new');
  },
);
