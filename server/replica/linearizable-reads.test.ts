import { afterEach, expect, test } from 'vitest';
import type { ServerError } from '../errors.ts';
import { DEADLINE_MS, put, ReplicaCluster } from '../testing/replica-cluster.ts';
import type { ClusterMember, ReplicaClusterOptions } from '../testing/replica-cluster.ts';

const clusters: ReplicaCluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function formed(count: number, options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
  const cluster = await ReplicaCluster.formed(count, options);
  clusters.push(cluster);
  return cluster;
}

/** What the node holds after a linearizable read of it; or why there was none. */
async function read(member: ClusterMember, key: string, timeoutMs = DEADLINE_MS): Promise<string> {
  try {
    await member.replica.reads.linearize(timeoutMs);
  } catch (error) {
    return (error as ServerError).code;
  }
  return Buffer.from(member.replica.physical.get(key) ?? []).toString();
}

async function otherLeader(cluster: ReplicaCluster, former: string): Promise<ClusterMember> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  return Promise.any(
    cluster
      .members()
      .filter(({ id }) => id !== former)
      .map(async (member) => {
        await member.replica.leadership.acquire(signal);
        return member;
      }),
  );
}

for (const leaderLease of [false, true]) {
  test(`every node reads what was acknowledged before, with leases: ${leaderLease}`, async () => {
    const cluster = await formed(3, { settings: { leaderLease } });
    const leader = await cluster.leader();
    for (let round = 0; round < 30; round += 1) {
      await put(leader, 'a', `${round}`);
      const values = await Promise.all(cluster.members().map((member) => read(member, 'a')));
      expect(values).toEqual([`${round}`, `${round}`, `${round}`]);
    }
    const follower = cluster.members().find((member) => member !== leader);
    expect(follower?.replica.readStatistics()).toMatchObject({ requestCount: 30, failureCount: 0 });
  });
}

test('a crowd of reads shares few rounds', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  await put(leader, 'a', 'x');
  const [follower] = cluster.members().filter((member) => member !== leader);
  if (follower === undefined) throw new Error('no follower');
  const values = await Promise.all(Array.from({ length: 500 }, () => read(follower, 'a')));
  expect(new Set(values)).toEqual(new Set(['x']));
  expect(follower.replica.readStatistics().roundCount).toBeLessThanOrEqual(4);
});

test('a leader that is cut off serves no linearizable read, and knows that it grows old', async () => {
  const cluster = await formed(3);
  const old = await cluster.leader();
  await put(old, 'a', 'before');
  expect(await read(old, 'a')).toBe('before');
  old.peers.cut();
  const cutMs = performance.now();
  const leader = await otherLeader(cluster, old.id);
  await put(leader, 'a', 'after');

  expect(await read(old, 'a', 3_000)).toMatch(/^(no-leader|not-current)$/);
  expect(Buffer.from(old.replica.physical.get('a') ?? []).toString()).toBe('before');
  // It cannot have learned anything since it was cut off.
  const sinceCutMs = performance.now() - cutMs;
  expect(old.replica.reads.stalenessMs()).toBeGreaterThanOrEqual(sinceCutMs);
  // The others go on.
  const others = cluster.members().filter((member) => member !== old);
  const values = await Promise.all(others.map((member) => read(member, 'a')));
  expect(values).toEqual(['after', 'after']);

  old.peers.mend();
  expect(await read(old, 'a')).toMatch(/^(after|no-leader|not-current)$/);
  await expect.poll(() => read(old, 'a'), { timeout: DEADLINE_MS }).toBe('after');
});

test('a standby that is cut off refuses at once when it has lost its leader', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  await put(leader, 'a', 'x');
  const [standby] = cluster.members().filter((member) => member !== leader);
  if (standby === undefined) throw new Error('no standby');
  standby.peers.cut();
  expect(await read(standby, 'a')).toBe('no-leader');
  const startMs = performance.now();
  expect(await read(standby, 'a')).toBe('no-leader');
  expect(performance.now() - startMs).toBeLessThan(DEADLINE_MS / 4);
});

test('reads survive a change of leader: they are late, and not wrong', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  await put(leader, 'a', '0');
  const [standby] = cluster.members().filter((member) => member !== leader);
  if (standby === undefined) throw new Error('no standby');
  const reading = Promise.all(Array.from({ length: 20 }, () => read(standby, 'a')));
  await leader.replica.leadership.stepDown();
  expect(new Set(await reading)).toEqual(new Set(['0']));
  const next = await otherLeader(cluster, leader.id);
  await put(next, 'a', '1');
  for (const member of cluster.members()) expect(await read(member, 'a')).toBe('1');
});

test('an idle follower knows how old its state is from heartbeats alone', async () => {
  const heartbeatMs = 40;
  const cluster = await formed(3, { settings: { heartbeatMs } });
  const leader = await cluster.leader();
  await put(leader, 'a', 'x');
  for (const member of cluster.members()) {
    const known = (): number => member.replica.reads.stalenessMs() ?? Infinity;
    await expect.poll(known, { timeout: DEADLINE_MS }).toBeLessThan(20 * heartbeatMs);
    expect(member.replica.readStatistics().roundCount).toBe(0);
  }
});

test('a node alone confirms its reads itself, and a stopped one none', async () => {
  const cluster = await formed(1);
  const only = cluster.member('n1');
  await put(only, 'a', 'x');
  expect(await read(only, 'a')).toBe('x');
  expect(only.replica.reads.stalenessMs()).toBeLessThan(DEADLINE_MS);
  await only.replica.replication.stop();
  expect(await read(only, 'a')).toBe('no-leader');
});
