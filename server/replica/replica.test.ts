import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { getAt, put, ReplicaCluster, suffrageOf, until } from '../testing/replica-cluster.ts';
import type { ReplicaClusterOptions } from '../testing/replica-cluster.ts';

const clusters: ReplicaCluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function formed(count: number, options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
  const cluster = await ReplicaCluster.formed(count, options);
  clusters.push(cluster);
  return cluster;
}

test('a single server bootstraps, takes writes, and restarts with what it held', async () => {
  const cluster = await formed(1);
  const index = await put(cluster.member('n1'), 'a', '1');
  await cluster.stop('n1');

  const again = await cluster.restart('n1');
  expect(again.replica.replication.isBootstrapped()).toBe(true);
  expect(await getAt(again, 'a', index)).toBe('1');
  await cluster.leader();
  await put(again, 'a', '2');
});

test('writes on the leader reach all nodes, whose states are then equal', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const indexes = await Promise.all(
    Array.from({ length: 50 }, (_, number) => put(leader, `k/${number}`, `v${number}`)),
  );
  const last = Math.max(...indexes);

  const hashes = new Set<string>();
  for (const member of cluster.members()) {
    expect(await getAt(member, 'k/49', last)).toBe('v49');
    hashes.add(await member.replica.stateHash());
  }
  expect(hashes.size).toBe(1);
});

test('listeners see the new value and the old index, on every node', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const seen = cluster.members().map((member) => {
    const { physical, changeFeed } = member.replica;
    const states: unknown[] = [];
    changeFeed.subscribe((change) => {
      if (change.kind !== 'keys' || !change.keys.includes('a')) return;
      const value = Buffer.from(physical.get('a') ?? []).toString();
      states.push({ value, isIndexOld: physical.appliedIndex() < change.index });
    });
    return states;
  });

  const index = await put(leader, 'a', 'new');

  for (const member of cluster.members()) await getAt(member, 'a', index);
  for (const states of seen) expect(states).toEqual([{ value: 'new', isIndexOld: true }]);
});

test('a standby refuses writes', async () => {
  const cluster = await formed(2);
  const leader = await cluster.leader();
  const standby = cluster.members().find((member) => member !== leader);
  await expect(
    standby?.replica.physical.write([{ kind: 'delete', key: 'a' }]),
  ).rejects.toMatchObject({ code: 'no-leader' });
});

test('another node takes over when the leader stops, and the stopped one catches up', async () => {
  const cluster = await formed(3);
  const first = await cluster.leader();
  await put(first, 'a', '1');
  await cluster.stop(first.id);

  const second = await cluster.leader();
  expect(second.id).not.toBe(first.id);
  const index = await put(second, 'a', '2');

  const back = await cluster.restart(first.id);
  expect(await getAt(back, 'a', index)).toBe('2');
});

test('what was acknowledged survives the leader, what is said not to have happened did not', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const fates = new Map<string, string>();
  const writers = Array.from({ length: 200 }, async (_, number) => {
    // Spread over turns, so that the end of the leader meets writes in every stage.
    for (let turns = 0; turns < number; turns += 1) await new Promise(setImmediate);
    const key = `k/${String(number)}`;
    await put(leader, key, 'v').then(
      () => fates.set(key, 'ok'),
      (error: { code: string }) => fates.set(key, error.code),
    );
  });
  await until(leader, () => fates.size > 20);
  await cluster.stop(leader.id);
  await Promise.all(writers);

  const second = await cluster.leader();
  const isThere = (key: string): boolean => second.replica.physical.get(key) !== undefined;
  const keysOf = (fate: string): string[] =>
    [...fates.keys()].filter((key) => fates.get(key) === fate);
  expect([...new Set(fates.values())].toSorted()).toEqual(
    ['no-leader', 'ok', 'outcome-unknown'].filter((fate) => keysOf(fate).length > 0),
  );
  expect(keysOf('ok').filter((key) => !isThere(key))).toEqual([]);
  expect(keysOf('no-leader').filter(isThere)).toEqual([]);
});

test('stepDown() hands leadership over and ends the tenure', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const tenure = await leader.replica.leadership.acquire(AbortSignal.timeout(1));
  await leader.replica.leadership.stepDown();
  await tenure.lost;
  expect(leader.replica.leadership.isLeader()).toBe(false);
  expect((await cluster.leader()).id).not.toBe(leader.id);
});

test('stepDown() is refused when nobody could take over', async () => {
  const cluster = await formed(1);
  const { leadership } = cluster.member('n1').replica;
  await expect(leadership.stepDown()).rejects.toMatchObject({ code: 'conflict' });
  expect(leadership.isLeader()).toBe(true);
});

test('a follower that was away for too long gets a snapshot', async () => {
  const cluster = await formed(3, { settings: { trailingLogs: 0, trailingBytesMax: 4_000 } });
  const leader = await cluster.leader();
  const away = cluster.members().find((member) => member !== leader)?.id ?? '';
  await cluster.stop(away);
  for (let number = 0; number < 20; number += 1) await put(leader, `k/${number}`, 'x'.repeat(500));
  await put(leader, 'k/0', 'last');

  const back = await cluster.open(away);
  const kinds: string[] = [];
  back.replica.changeFeed.subscribe((change) => kinds.push(change.kind));
  await back.replica.replication.start(cluster.credentials);
  await until(back, () => kinds.includes('everything'));
  const index = await put(leader, 'after', 'it');

  expect(await getAt(back, 'after', index)).toBe('it');
  expect(Buffer.from(back.replica.physical.get('k/0') ?? []).toString()).toBe('last');
  expect(await back.replica.stateHash()).toBe(await leader.replica.stateHash());

  await cluster.stop(away);
  const again = await cluster.restart(away);
  expect(await getAt(again, 'after', index)).toBe('it');
});

test('a node joins a cluster with history as a learner first, a non-voter for good', async () => {
  const cluster = await formed(1);
  const leader = await cluster.leader();
  const index = await put(leader, 'a', '1');
  const joined = await cluster.join('n2');
  expect(await getAt(joined, 'a', index)).toBe('1');
  await until(joined, () => suffrageOf(joined, 'n2') === 'voter');

  const reader = await cluster.open('n3');
  const address = `127.0.0.1:${reader.network.port()}`;
  await leader.replica.replication.addServer({ id: 'n3', address, nonVoter: true });
  await reader.replica.replication.start(cluster.credentials);
  const second = await put(leader, 'a', '2');
  expect(await getAt(reader, 'a', second)).toBe('2');
  expect(suffrageOf(leader, 'n3')).toBe('learner');

  await leader.replica.replication.removeServer('n3');
  expect(suffrageOf(leader, 'n3')).toBeUndefined();
});

test('what cannot be asked of a node is refused', async () => {
  const cluster = await formed(2);
  const leader = await cluster.leader();
  const standby = cluster.members().find((member) => member !== leader) ?? leader;
  const { replication } = leader.replica;
  const rows: [string, Promise<unknown>][] = [
    ['conflict', replication.bootstrap(cluster.credentials)],
    ['no-leader', standby.replica.replication.addServer({ id: 'n9', address: 'h:1' })],
    ['no-leader', standby.replica.replication.removeServer(leader.id)],
    ['no-leader', standby.replica.leadership.stepDown()],
    // The id belongs to a node that is alive elsewhere.
    ['conflict', replication.addServer({ id: standby.id, address: '127.0.0.1:1' })],
    ['conflict', replication.addServer({ id: leader.id, address: '127.0.0.1:1' })],
  ];
  const codes = await Promise.all(
    rows.map(([, refused]) => refused.then(String, (error: { code: string }) => error.code)),
  );
  expect(codes).toEqual(rows.map(([code]) => code));
});

test('a node without data waits passively', async () => {
  const cluster = await formed(1);
  const { replica } = await cluster.restart('n2');
  expect(replica.replication.isBootstrapped()).toBe(false);
  expect(replica.replication.configuration()).toEqual({ servers: [], index: 0 });
  await expect(put(cluster.member('n2'), 'a', '1')).rejects.toMatchObject({ code: 'no-leader' });
});

test('a stranger at the cluster port does not disturb replication', async () => {
  const cluster = await formed(2);
  const leader = await cluster.leader();
  const strangers = cluster.members().map(({ network }) => {
    const socket = connect(network.port(), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(Buffer.alloc(100_000, 0x16));
    return new Promise((resolve) => socket.on('close', resolve).resume());
  });
  const index = await put(leader, 'a', '1');
  for (const member of cluster.members()) expect(await getAt(member, 'a', index)).toBe('1');
  await Promise.all(strangers);
  expect(leader.replica.leadership.isLeader()).toBe(true);
});

test('a node that lost its disk rejoins under its name', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const lost = cluster.members().find((member) => member !== leader)?.id ?? '';
  await cluster.destroy(lost);
  const index = await put(leader, 'a', '1');
  const back = await cluster.join(lost);
  expect(await getAt(back, 'a', index)).toBe('1');
});

test('a value beyond the limit is refused with its size', async () => {
  const cluster = await formed(1, { settings: { entryBytesMax: 1_000 } });
  await expect(put(cluster.member('n1'), 'a', 'x'.repeat(1_000))).rejects.toMatchObject({
    code: 'too-large',
    message: 'put failed due to value being too large; got 1013 bytes, max: 1000 bytes',
  });
});

test('writes beyond the limit are refused as overloaded, the others take effect', async () => {
  const cluster = await formed(1, { settings: { proposalsMax: 10 } });
  const node = cluster.member('n1');
  const results = await Promise.allSettled(
    Array.from({ length: 15 }, (_, number) => put(node, `k/${number}`, 'v')),
  );
  const refused = results.filter((result) => result.status === 'rejected');
  expect(refused.map((result) => result.reason.code)).toEqual(Array(5).fill('overloaded'));
  expect(await node.replica.physical.list('k/')).toHaveLength(10);
});

test('writes in flight at the end have an unknown outcome, later ones do not happen', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  for (const { id } of cluster.members()) if (id !== leader.id) await cluster.stop(id);
  await expect(put(leader, 'a', '1')).rejects.toMatchObject({ code: 'outcome-unknown' });
  await expect(put(leader, 'b', '1')).rejects.toMatchObject({ code: 'no-leader' });
});

test('replication stops and starts again, the store stays readable', async () => {
  const cluster = await formed(1);
  const { replica } = cluster.member('n1');
  await put(cluster.member('n1'), 'a', '1');
  await replica.replication.stop();
  expect(Buffer.from(replica.physical.get('a') ?? []).toString()).toBe('1');
  expect(replica.leadership.isLeader()).toBe(false);
  await replica.replication.start(cluster.credentials);
  await cluster.leader();
  await put(cluster.member('n1'), 'a', '2');
});

test('a failing disk ends the node', async () => {
  const disk: { failure: Error | undefined } = { failure: undefined };
  const cluster = await formed(1, {
    wrapStorage: (_id, storage) => ({
      ...storage,
      openLog: async () => {
        const { log, recovered } = await storage.openLog();
        const append: typeof log.append = (write) =>
          disk.failure === undefined ? log.append(write) : Promise.reject(disk.failure);
        return {
          recovered,
          log: { append, compact: (index) => log.compact(index), close: () => log.close() },
        };
      },
    }),
  });
  const node = cluster.member('n1');
  disk.failure = new Error('no space left on device');
  await expect(put(node, 'a', '1')).rejects.toMatchObject({ code: 'outcome-unknown' });
  expect(node.failures).toEqual([disk.failure]);
  await expect(put(node, 'a', '1')).rejects.toMatchObject({ code: 'internal' });
});

test('with piggyback a follower hears of a commit by the next append or a timer', async () => {
  const commitNotify = { kind: 'piggyback', timeoutMs: 50 } as const;
  const cluster = await formed(2, { settings: { commitNotify } });
  const leader = await cluster.leader();
  const index = await put(leader, 'a', '1');
  for (const member of cluster.members()) expect(await getAt(member, 'a', index)).toBe('1');
});
