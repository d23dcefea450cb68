import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { getAt, put, ReplicaCluster, runRaftIn } from '../testing/replica-cluster.ts';

const MIB = 1024 * 1024;
const settings = { entryBytesMax: 8 * MIB, trailingLogs: 0, trailingBytesMax: 64 * 1024 };
const clusters: ReplicaCluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

test('a write of several entries is one, on every node, after a restart, and by snapshot', async () => {
  const cluster = await ReplicaCluster.formed(3, { settings });
  clusters.push(cluster);
  const leader = await cluster.leader();
  const value = randomBytes(3 * MIB).toString('latin1');
  const isSame = async (id: string, index: number): Promise<boolean> =>
    (await getAt(cluster.member(id), 'large', index)) === value;
  // Small ones before, beside and behind it: each is told the index at which it took effect.
  const writes = [
    put(leader, 'before', '1'),
    put(leader, 'large', value),
    put(leader, 'behind', '2'),
  ];
  const [before = 0, index = 0, behind = 0] = await Promise.all(writes);
  expect(index).toBeGreaterThan(before + 5);
  expect(behind).toBe(index + 1);
  for (const { id } of cluster.members()) expect(await isSame(id, index)).toBe(true);

  const other = cluster.members().find((member) => member !== leader)?.id ?? '';
  await cluster.stop(other);
  await cluster.restart(other);
  expect(await isSame(other, index)).toBe(true);

  await cluster.destroy(other);
  await leader.replica.replication.removeServer(other);
  const joined = await cluster.join('n4');
  expect(await isSame('n4', index)).toBe(true);
  await getAt(joined, 'end', await put(leader, 'end', 'x'));
  expect(await joined.replica.stateHash()).toBe(await leader.replica.stateHash());
});

test('the largest write of all is more than the window between two threads', async () => {
  runRaftIn('channel');
  const cluster = await ReplicaCluster.formed(1, { settings });
  clusters.push(cluster);
  const leader = await cluster.leader();
  const value = 'x'.repeat(settings.entryBytesMax - 100);
  const index = await put(leader, 'largest', value);
  expect((await getAt(leader, 'largest', index))?.length).toBe(value.length);
});
