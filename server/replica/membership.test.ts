/** Changes of the membership among real replicas: sockets, disks, elections. */

import { afterEach, expect, test, vi } from 'vitest';
import {
  getAt,
  PROMPT_AUTOPILOT,
  put,
  ReplicaCluster,
  suffrageOf,
  until,
} from '../testing/replica-cluster.ts';
import type { ClusterMember, ReplicaClusterOptions } from '../testing/replica-cluster.ts';

const clusters: ReplicaCluster[] = [];
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function formed(count: number, options?: ReplicaClusterOptions): Promise<ReplicaCluster> {
  const cluster = await ReplicaCluster.formed(count, options);
  clusters.push(cluster);
  return cluster;
}

function votersOf(member: ClusterMember): string[] {
  const { servers } = member.replica.replication.configuration();
  return servers.filter(({ suffrage }) => suffrage === 'voter').map(({ id }) => id);
}

async function addLearner(cluster: ReplicaCluster, id: string): Promise<ClusterMember> {
  const leader = await cluster.leader();
  const member = await cluster.open(id);
  const address = `127.0.0.1:${member.network.port()}`;
  const { instance } = member.replica.replication;
  await leader.replica.replication.addServer({ id, address, instance });
  await member.replica.replication.start(cluster.credentials);
  return member;
}

/** A member that does not lead. */
function followerOf(cluster: ReplicaCluster, leader: ClusterMember): ClusterMember {
  const follower = cluster.members().find((member) => member !== leader);
  if (follower === undefined) throw new Error('the leader is alone');
  return follower;
}

test('a cluster grows from one to five and shrinks to one, and keeps what it was told', async () => {
  const cluster = await formed(1);
  const written: [string, number][] = [];
  const write = async (key: string): Promise<void> => {
    const index = await put(await cluster.leader(), key, key);
    written.push([key, index]);
  };
  for (const id of ['n2', 'n3', 'n4', 'n5']) {
    await cluster.join(id);
    await write(`with ${id}`);
  }
  const leader = await cluster.leader();
  expect(votersOf(leader).toSorted()).toEqual(['n1', 'n2', 'n3', 'n4', 'n5']);
  const stateOf = () => leader.replica.replication.autopilotState();
  await untilWriting(leader, () => stateOf()?.failureTolerance === 2);

  for (const { id } of cluster.members().filter((member) => member !== leader)) {
    await leader.replica.replication.removeServer(id);
    // At once: that is what a removal promises.
    await cluster.stop(id);
    await write(`without ${id}`);
  }
  expect(votersOf(leader)).toEqual([leader.id]);
  for (const [key, index] of written) expect(await getAt(leader, key, index)).toBe(key);
});

/** Nobody is healthy, so nobody is promoted, until the cluster is told otherwise. */
const NOBODY = { lastContactThresholdMs: -1 };
const EVERYBODY = { lastContactThresholdMs: 10_000 };

test('learners that are due together become voters in one step', async () => {
  const cluster = await formed(1, { settings: { autopilot: { ...PROMPT_AUTOPILOT, ...NOBODY } } });
  const leader = await cluster.leader();
  for (const id of ['n2', 'n3']) await addLearner(cluster, id);
  // They are due when they have caught up.
  const index = await put(leader, 'a', '1');
  for (const id of ['n2', 'n3']) await getAt(cluster.member(id), 'a', index);
  const seen = new Set<number>();
  leader.replica.changeFeed.subscribe(() => {
    queueMicrotask(() => seen.add(votersOf(leader).length));
  });
  await leader.replica.replication.setAutopilotConfiguration(EVERYBODY);
  await until(leader, () => votersOf(leader).length === 3);
  expect([...seen].toSorted()).toEqual([1, 3]);
});

test('two dead servers are replaced by two new ones', async () => {
  const cluster = await formed(5);
  const leader = await cluster.leader();
  const { replication } = leader.replica;
  const dead = cluster
    .members()
    .filter((member) => member !== leader)
    .slice(0, 2);
  const index = await put(leader, 'a', 'before');
  for (const { id } of dead) await cluster.stop(id);
  await addLearner(cluster, 'n6');
  await addLearner(cluster, 'n7');
  await until(leader, () => votersOf(leader).length === 7);
  await replication.setAutopilotConfiguration({
    cleanupDeadServers: true,
    minQuorum: 5,
    deadServerLastContactThresholdMs: 1000,
  });
  await until(leader, () => votersOf(leader).length === 5);
  for (const { id } of dead) expect(votersOf(leader)).not.toContain(id);
  for (const member of cluster.members()) expect(await getAt(member, 'a', index)).toBe('before');
  const after = await put(leader, 'a', 'after');
  for (const member of cluster.members()) expect(await getAt(member, 'a', after)).toBe('after');
});

test('dead servers are not cleaned up below the minimum', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const { replication } = leader.replica;
  const dead = followerOf(cluster, leader).id;
  await replication.setAutopilotConfiguration({
    cleanupDeadServers: true,
    minQuorum: 3,
    deadServerLastContactThresholdMs: 500,
  });
  await cluster.stop(dead);
  const stateOf = () => replication.autopilotState()?.servers.find(({ id }) => id === dead);
  await untilWriting(leader, () => stateOf()?.nodeStatus === 'left');
  // Several looks later it is still there.
  await untilWriting(leader, () => (stateOf()?.lastContactMs ?? 0) > 1500);
  expect(votersOf(leader)).toContain(dead);
  expect(stateOf()).toMatchObject({ isHealthy: false, status: 'voter' });

  await replication.setAutopilotConfiguration({ minQuorum: 2 });
  await untilWriting(leader, () => !votersOf(leader).includes(dead));
});

test('a leader that dies within a joint change is followed by one that completes it', async () => {
  const cluster = await formed(3);
  const first = await cluster.leader();
  const { replication } = first.replica;
  await replication.setAutopilotConfiguration(NOBODY);
  for (const id of ['n4', 'n5']) await addLearner(cluster, id);
  await replication.setAutopilotConfiguration(EVERYBODY);
  // That is the joint configuration: only the leader knows it to be committed.
  await until(first, () => votersOf(first).length === 5);
  await cluster.stop(first.id);

  const second = await cluster.leader();
  const index = await put(second, 'a', '1');
  // Waits until no joint configuration is in force.
  await second.replica.replication.removeServer(first.id);
  const rest = cluster.members().map(({ id }) => id);
  await untilWriting(second, () => votersOf(second).toSorted().join() === rest.toSorted().join());
  for (const member of cluster.members()) expect(await getAt(member, 'a', index)).toBe('1');
});

test('a removed leader lets another one lead, and does not come back', async () => {
  const cluster = await formed(3);
  const first = await cluster.leader();
  await put(first, 'a', '1');
  await first.replica.replication.removeServer(first.id);
  const tenure = first.replica.leadership;
  const others = cluster.members().filter((member) => member !== first);
  const second = await Promise.any(
    others.map(async (member) => {
      await member.replica.leadership.acquire(AbortSignal.timeout(20_000));
      return member;
    }),
  );
  expect(tenure.isLeader()).toBe(false);
  expect(votersOf(second)).not.toContain(first.id);
  const index = await put(second, 'a', '2');
  for (const member of others) expect(await getAt(member, 'a', index)).toBe('2');
  expect(first.replica.leadership.isLeader()).toBe(false);
});

test('what OpenBao refuses is refused, in its words', async () => {
  const cluster = await formed(2);
  const leader = await cluster.leader();
  const follower = followerOf(cluster, leader);
  const { replication } = leader.replica;
  // As in OpenBao, there is nothing to do.
  await replication.removeServer('nobody');
  await expect(replication.promoteServer('nobody')).rejects.toMatchObject({
    code: 'refused',
    message: 'server nobody not found in raft configuration',
  });
  await expect(replication.demoteServer('nobody')).rejects.toThrow('not found');
  await expect(replication.promoteServer(follower.id)).rejects.toThrow('server is not a non-voter');
  await replication.demoteServer(follower.id);
  expect(suffrageOf(leader, follower.id)).toBe('learner');
  await expect(replication.demoteServer(follower.id)).rejects.toThrow(
    'server is already a non-voter',
  );
  const lastVoter = { code: 'refused', message: 'need at least one voter in configuration' };
  await expect(replication.removeServer(leader.id)).rejects.toMatchObject(lastVoter);
  await expect(replication.demoteServer(leader.id)).rejects.toMatchObject(lastVoter);
  await expect(follower.replica.replication.promoteServer('n1')).rejects.toMatchObject({
    code: 'no-leader',
  });
  await replication.promoteServer(follower.id);
  await until(leader, () => suffrageOf(leader, follower.id) === 'voter');
});

test('a server whose address another one has now is gone', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const lost = followerOf(cluster, leader);
  const address = `127.0.0.1:${lost.network.port()}`;
  await cluster.stop(lost.id);
  await leader.replica.replication.addServer({ id: 'new', address });
  expect(votersOf(leader)).not.toContain(lost.id);
  expect(suffrageOf(leader, 'new')).toBe('learner');
});

/** As `until`, for what comes with time only: nothing is applied unless something is written. */
async function untilWriting(member: ClusterMember, condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) {
    if (deadlineMs < performance.now()) throw new Error(`not reached: ${String(condition)}`);
    await put(member, 'tick', String(performance.now()));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('settings of autopilot that are changed side by side are all changed', async () => {
  const cluster = await formed(1);
  const { replication } = (await cluster.leader()).replica;
  const changes = [{ minQuorum: 3 }, { maxTrailingLogs: 77 }, { lastContactThresholdMs: 7_000 }];
  await Promise.all(changes.map((change) => replication.setAutopilotConfiguration(change)));
  expect(replication.autopilotConfiguration()).toMatchObject(Object.assign({}, ...changes));
});

test('a change of autopilot that others are always faster than ends, and says so', async () => {
  const cluster = await formed(1);
  const { replication, physical } = (await cluster.leader()).replica;
  const commit = vi.spyOn(physical, 'commit').mockResolvedValue({ kind: 'conflict' });
  const change = replication.setAutopilotConfiguration({ minQuorum: 3 });
  await expect(change).rejects.toMatchObject({ code: 'conflict' });
  expect(commit).toHaveBeenCalledTimes(32);
});
