import { afterEach, expect, test, vi } from 'vitest';
import { LevelBatch } from '../storage/level-home.ts';
import { getAt, put, ReplicaCluster, suffrageOf } from '../testing/replica-cluster.ts';
import type { ReplicaClusterOptions } from '../testing/replica-cluster.ts';

const clusters: ReplicaCluster[] = [];
let release: () => void = () => undefined;

afterEach(async () => {
  release();
  vi.restoreAllMocks();
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function formed(count: number, options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
  const cluster = await ReplicaCluster.formed(count, { fsmMode: 'overlay', ...options });
  clusters.push(cluster);
  return cluster;
}

/** From now on nothing reaches any store's disk, until `release`. */
function holdDisk(): void {
  const { write } = LevelBatch.prototype;
  const waiting: (() => void)[] = [];
  let isHeld = true;
  vi.spyOn(LevelBatch.prototype, 'write').mockImplementation(async function (this: LevelBatch, at) {
    if (isHeld) await new Promise<void>((proceed) => waiting.push(proceed));
    await write.call(this, at);
  });
  release = () => {
    isHeld = false;
    for (const proceed of waiting) proceed();
  };
}

test('writes are answered and read on every node while no store reaches its disk', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  holdDisk();
  const index = await put(leader, 'a', '1');
  const hashes = new Set<string>();
  for (const member of cluster.members()) {
    expect(await getAt(member, 'a', index)).toBe('1');
    hashes.add(await member.replica.stateHash());
  }
  expect(hashes.size).toBe(1);
});

test('what a killed node had acknowledged and not flushed comes back from its log', async () => {
  const cluster = await formed(1);
  const before = await put(cluster.member('n1'), 'a', 'old');
  await cluster.stop('n1');
  const again = await cluster.restart('n1');
  await cluster.leader();

  holdDisk();
  const indexes = await Promise.all(
    Array.from({ length: 50 }, (_, i) => put(again, `k/${i}`, String(i))),
  );
  const last = await put(again, 'a', 'new');
  expect(last).toBe(Math.max(...indexes) + 1);
  const killed = cluster.kill('n1');
  release();
  await killed;

  const restarted = await cluster.open('n1');
  const { physical, replication } = restarted.replica;
  expect(physical.appliedIndex()).toBeGreaterThanOrEqual(before);
  expect(physical.appliedIndex()).toBeLessThan(Math.min(...indexes));
  expect(Buffer.from(physical.get('a') ?? []).toString()).toBe('old');

  await replication.start(cluster.credentials);
  expect(await getAt(restarted, 'a', last)).toBe('new');
  expect(await getAt(restarted, 'k/49', last)).toBe('49');
  expect(await physical.list('k/')).toHaveLength(50);
});

test('log entries that a store has not flushed outlive compaction', async () => {
  const cluster = await formed(1, { settings: { trailingLogs: 16 } });
  const member = cluster.member('n1');
  holdDisk();
  let last = 0;
  for (let round = 0; round < 20; round += 1) {
    const round64 = Array.from({ length: 64 }, (_, i) => put(member, `k/${round}/${i}`, 'v'));
    last = Math.max(...(await Promise.all(round64)));
  }
  const killed = cluster.kill('n1');
  release();
  await killed;
  const restarted = await cluster.restart('n1');
  expect(await getAt(restarted, 'k/19/63', last)).toBe('v');
  expect(await restarted.replica.physical.list('k/')).toHaveLength(20);
});

test('a node joins an overlay cluster by snapshot, of what is visible', async () => {
  const cluster = await formed(1, { settings: { trailingLogs: 16 } });
  const leader = cluster.member('n1');
  let last = 0;
  for (let round = 0; round < 20; round += 1) {
    const writes = Array.from({ length: 64 }, (_, i) => put(leader, `k/${i}`, String(round)));
    last = Math.max(...(await Promise.all(writes)));
  }
  const joined = await cluster.join('n2');
  expect(suffrageOf(leader, 'n2')).toBe('voter');
  expect(await getAt(joined, 'k/63', last)).toBe('19');
  await cluster.stop('n2');
  const again = await cluster.restart('n2');
  expect(await getAt(again, 'k/63', last)).toBe('19');
});
