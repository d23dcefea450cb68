/** Two disks that bear one id, one after the other: whose promises count for whom. */

import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ServerError } from '../errors.ts';
import type { Message, Server } from '../raft/message.ts';
import { DEADLINE_MS, getAt, put, ReplicaCluster } from '../testing/replica-cluster.ts';
import type { ClusterMember } from '../testing/replica-cluster.ts';
import { diskOf, heartbeat, TransportNodes } from '../testing/transport-nodes.ts';
import type { TransportNode } from '../testing/transport-nodes.ts';

describe('a cluster of three, one of them replaced', () => {
  let cluster: ReplicaCluster;
  let leader: ClusterMember;
  let other: ClusterMember;

  beforeEach(async () => {
    cluster = await ReplicaCluster.formed(3);
    leader = await cluster.leader();
    const [replaced, rest] = cluster.members().filter((member) => member !== leader);
    if (replaced === undefined || rest === undefined) throw new Error('not three');
    other = rest;
    const before = await put(leader, 'a', 'before');
    await getAt(replaced, 'a', before);
    await cluster.setAside(replaced.id, 'old');
    await cluster.join(replaced.id);
    await cluster.stop(replaced.id);
    id = replaced.id;
  });
  let id: string;

  afterEach(() => cluster.close());

  async function startOld(): Promise<ClusterMember> {
    const old = await cluster.open(id, 'old');
    await old.replica.replication.start(cluster.credentials);
    return old;
  }

  test('the old disk acknowledges nothing while its successor is away, and ends', async () => {
    await cluster.stop(other.id);
    const acknowledged = untilAcknowledged(cluster);
    const old = await startOld();
    expect(await Promise.race([ended(old), acknowledged])).toBe('the old disk ended');
    expect(old.failures).toMatchObject([{ code: 'refused', message: expect.any(String) }]);
    expect(String(old.failures[0])).toContain('joined anew with another disk');
    expect(old.replica.status().role).toBe('stopped');
    await cluster.stop('old');
    // The disk that is meant is enough.
    await cluster.restart(id);
    expect(await acknowledged).toBe('a write was acknowledged');
    const index = await put(await cluster.leader(), 'a', 'in the end');
    expect(await getAt(cluster.member(id), 'a', index)).toBe('in the end');
  });

  test('the old disk elects nobody while its successor is away', async () => {
    await cluster.stop(other.id);
    await cluster.stop(leader.id);
    const alone = await cluster.restart(leader.id);
    const { term } = alone.replica.status();
    const old = await startOld();
    const done = new AbortController();
    await Promise.race([
      ended(old),
      alone.replica.leadership.acquire(done.signal),
      old.replica.leadership.acquire(done.signal),
    ]);
    done.abort();
    const { isLeader } = alone.replica.leadership;
    expect([isLeader(), old.replica.leadership.isLeader()]).toEqual([false, false]);
    await cluster.stop('old');
    expect(alone.replica.status().term).toBe(term);
    await cluster.restart(id);
    expect([leader.id, id]).toContain((await cluster.leader()).id);
  });
});

test('a node that still counts on the old disk catches up with the new one as its leader', async () => {
  const cluster = await ReplicaCluster.formed(3);
  try {
    const first = await cluster.leader();
    const [replaced, behind] = cluster.members().filter((member) => member !== first);
    if (replaced === undefined || behind === undefined) throw new Error('not three');
    await cluster.stop(behind.id);
    await cluster.join('n4');
    await first.replica.replication.removeServer(replaced.id);
    await cluster.setAside(replaced.id, 'old');
    const fresh = await cluster.join(replaced.id);
    await first.replica.replication.demoteServer('n4');
    await first.replica.leadership.stepDown();
    expect((await cluster.leader()).id).toBe(fresh.id);
    const index = await put(fresh, 'a', 'from the new disk');
    const back = await cluster.restart(behind.id);
    expect(await getAt(back, 'a', index)).toBe('from the new disk');
    expect(back.failures.concat(fresh.failures)).toEqual([]);
    // By now each means the other.
    await cluster.stop(first.id);
    expect(await put(await cluster.leader(), 'a', 'by the two')).toBeGreaterThan(index);
  } finally {
    await cluster.close();
  }
});

test('a new disk that catches up from before its predecessor was removed goes on', async () => {
  // The log leads it past the configuration of the old disk, in more than one turn.
  const cluster = await ReplicaCluster.formed(3);
  try {
    const leader = await cluster.leader();
    const replaced = cluster.members().find((member) => member !== leader);
    if (replaced === undefined) throw new Error('the leader is alone');
    for (let number = 0; number < 40; number += 1) {
      await put(leader, `big/${number}`, 'x'.repeat(500_000));
    }
    await cluster.setAside(replaced.id, 'old');
    const fresh = await cluster.join(replaced.id);
    const index = await put(leader, 'a', 'after');
    expect(await getAt(fresh, 'a', index)).toBe('after');
    expect(fresh.failures).toEqual([]);
  } finally {
    await cluster.close();
  }
});

test('neither a restored state nor the snapshot of a peer changes whose disk it is', async () => {
  const settings = { trailingLogs: 0, trailingBytesMax: 4_000 };
  const cluster = await ReplicaCluster.formed(3, { settings });
  try {
    const leader = await cluster.leader();
    const replaced = cluster.members().find((member) => member !== leader);
    if (replaced === undefined) throw new Error('the leader is alone');
    const { id } = replaced;
    const archive = await leader.replica.snapshots.save();
    await cluster.setAside(id, 'old');
    const { instance } = (await cluster.join(id)).replica.replication;
    // A backup from when the old disk was the member.
    await (await leader.replica.snapshots.receive(archive)).restore();
    await cluster.stop(id);
    for (let number = 0; number < 20; number += 1) await put(leader, 'a', 'x'.repeat(500));

    const back = await cluster.open(id);
    const installed = new Promise<void>((resolve) => {
      back.replica.changeFeed.subscribe((change) => {
        if (change.kind === 'everything') resolve();
      });
    });
    await back.replica.replication.start(cluster.credentials);
    await installed;
    expect(back.replica.replication.instance).toBe(instance);
    await cluster.stop(id);
    const old = await cluster.open(id, 'old');
    expect(old.replica.replication.instance).not.toBe(instance);
    await old.replica.replication.start(cluster.credentials);
    await ended(old);
    expect(String(old.failures[0])).toContain('joined anew with another disk');
    await cluster.stop('old');
    expect((await cluster.restart(id)).replica.replication.instance).toBe(instance);
  } finally {
    await cluster.close();
  }
});

/** Resolves when the node has failed: that is what its process would end with. */
async function ended(member: ClusterMember): Promise<string> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (member.failures.length === 0) {
    if (deadlineMs < performance.now()) throw new Error('the old disk still takes part');
    await delay(20);
  }
  return 'the old disk ended';
}

/** Writes on whoever leads, again and again. */
async function untilAcknowledged(cluster: ReplicaCluster): Promise<string> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const leader = cluster.members().find(({ replica }) => replica.leadership.isLeader());
    try {
      if (leader !== undefined) {
        await put(leader, 'a', 'after');
        return 'a write was acknowledged';
      }
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
    }
    if (deadlineMs < performance.now()) throw new Error('no write was acknowledged');
    await delay(20);
  }
}

describe('between transports', () => {
  let nodes: TransportNodes;
  beforeEach(async () => {
    nodes = await TransportNodes.create();
  });
  afterEach(() => nodes.close());

  type Knowledge = { appliedIndex: number; readonly servers: Map<string, Server> };

  function knowing(appliedIndex: number): Knowledge {
    return { appliedIndex, servers: new Map() };
  }

  function open(id: string, instance: string, knowledge: Knowledge): Promise<TransportNode> {
    return nodes.member(id, instance, {
      serverOf: (each) => knowledge.servers.get(each),
      appliedIndex: () => knowledge.appliedIndex,
    });
  }

  function add({ servers }: Knowledge, id: string, address: string, instance: string): void {
    servers.set(id, { id, address, suffrage: 'voter', instance });
  }

  function say(node: TransportNode, message: Message): void {
    node.transport.send(message);
    node.transport.flush();
  }

  /** `n1` has applied `index` and knows `n2` as `A`; who really is there is `B`. */
  async function pair(index: number, indexOfB: number) {
    const [one, two] = [knowing(index), knowing(indexOfB)];
    const n1 = await open('n1', diskOf('n1'), one);
    const n2 = await open('n2', 'B', two);
    add(one, 'n1', n1.address, diskOf('n1'));
    add(one, 'n2', n2.address, 'A');
    add(two, 'n1', n1.address, diskOf('n1'));
    add(two, 'n2', n2.address, 'B');
    return { one, two, n1, n2 };
  }

  test('who is dialled for another disk takes nothing, and knows if it is the old one', async () => {
    const { n1, n2 } = await pair(100, 40);
    say(n1, heartbeat('n1', 'n2', 1));
    await n2.isReplaced();
    expect(n2.received).toEqual([]);
    expect(n2.refusals).toMatchObject([{ reason: 'meant for another instance of node n2' }]);
  });

  test.each([
    { name: 'it knows more than who dials', indexOfB: 140, isMember: true },
    { name: 'it has not heard yet that it is a member', indexOfB: 0, isMember: false },
  ])('who is dialled for another disk is not the old one if $name', async (row) => {
    const { two, n1, n2 } = await pair(100, row.indexOfB);
    if (!row.isMember) two.servers.delete('n2');
    const refused = n1.isUnreachable();
    say(n1, heartbeat('n1', 'n2', 1));
    await refused;
    expect([n2.received, n2.replaced.count]).toEqual([[], 0]);
  });

  test('who dials with the old disk is told so, and heard no further', async () => {
    const { n1, n2 } = await pair(100, 40);
    say(n2, vote('n2', 'n1'));
    await n2.isReplaced();
    expect(n1.received).toEqual([]);
    expect(n1.refusals).toMatchObject([{ reason: 'node n2 has been replaced' }]);
    expect(n1.replaced.count).toBe(0);
  });

  test('a successor leads who is behind, which answers and asks it nothing', async () => {
    const { one, n1, n2 } = await pair(40, 100);
    say(n2, heartbeat('n2', 'n1', 7));
    await n1.hasReceived(1);
    const answer: Message = {
      ...{ kind: 'heartbeatResponse', from: 'n1', to: 'n2', term: 1 },
      ...{ appliedIndex: 40, round: 1 },
    };
    for (const message of [vote('n1', 'n2'), answer]) say(n1, message);
    await n2.hasReceived(1);
    expect(n2.received).toEqual([answer]);
    // Nobody asked for it, so it is not counted as the old disk's.
    say(n2, granted('n2', 'n1'));
    say(n2, heartbeat('n2', 'n1', 8));
    await n1.hasReceived(2);
    expect(n1.received.map(({ kind }) => kind)).toEqual(['heartbeat', 'heartbeat']);

    add(one, 'n2', n2.address, 'B');
    one.appliedIndex = 100;
    n1.transport.reconfigured();
    say(n1, vote('n1', 'n2'));
    await n2.hasReceived(2);
    expect(n2.received[1]).toEqual(vote('n1', 'n2'));
    say(n2, granted('n2', 'n1'));
    await n1.hasReceived(3);
    expect(n1.received[2]).toEqual(granted('n2', 'n1'));
  });

  test('a connection ends when its node is replaced', async () => {
    const { one, n1, n2 } = await pair(40, 40);
    add(one, 'n2', n2.address, 'B');
    say(n1, heartbeat('n1', 'n2', 1));
    say(n2, heartbeat('n2', 'n1', 1));
    await Promise.all([n1.hasReceived(1), n2.hasReceived(1)]);
    add(one, 'n2', n2.address, 'C');
    one.appliedIndex = 41;
    const lost = n2.isUnreachable();
    n1.transport.reconfigured();
    await lost;
    say(n1, heartbeat('n1', 'n2', 2));
    await n2.isReplaced();
    expect([n1.received.length, n2.received.length]).toEqual([1, 1]);
  });

  test('a node whose own configuration names another disk knows enough', async () => {
    const { two, n2 } = await pair(40, 40);
    n2.transport.reconfigured();
    add(two, 'n2', n2.address, 'C');
    n2.transport.reconfigured();
    expect(n2.replaced.count).toBe(1);
  });

  test('a disk before it, by a configuration on the way to its own, is not another', async () => {
    const { two, n2 } = await pair(40, 40);
    add(two, 'n2', n2.address, 'earlier');
    n2.transport.reconfigured();
    expect(n2.replaced.count).toBe(0);
  });
});

function vote(from: string, to: string): Message {
  const asked = { isPreVote: false, isTransfer: false, lastLogIndex: 1, lastLogTerm: 1 };
  return { kind: 'requestVote', from, to, term: 2, ...asked };
}

function granted(from: string, to: string): Message {
  return { kind: 'requestVoteResponse', from, to, term: 2, isPreVote: false, voteGranted: true };
}
