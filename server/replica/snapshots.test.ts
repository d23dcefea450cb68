import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import type { Change } from '../core/ports.ts';
import { pieceKey, STAGING_PREFIX } from '../storage/restore-command.ts';
import {
  getAt,
  put,
  ReplicaCluster,
  type ClusterMember,
  type ReplicaClusterOptions,
} from '../testing/replica-cluster.ts';

const clusters: ReplicaCluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function formed(
  count: number,
  options: ReplicaClusterOptions = {},
): Promise<{ cluster: ReplicaCluster; leader: ClusterMember }> {
  const settings = { trailingLogs: 0 };
  const cluster = await ReplicaCluster.formed(count, { settings, ...options });
  clusters.push(cluster);
  return { cluster, leader: await cluster.leader() };
}

async function saved(member: ClusterMember): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of await member.replica.snapshots.save()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* streamOf(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

async function restore(member: ClusterMember, archive: Uint8Array): Promise<number> {
  const received = await member.replica.snapshots.receive(streamOf(archive));
  try {
    return await received.restore();
  } finally {
    await received.discard();
  }
}

test.each(['sync', 'overlay'] as const)(
  '%s: a restored state takes the place of everything at one index',
  async (fsmMode) => {
    const { cluster, leader } = await formed(3, { fsmMode });
    const big = 'x'.repeat(200_000);
    for (let number = 0; number < 10; number += 1) await put(leader, `kept/${number}`, big);
    await put(leader, 'changed', 'old');
    const archive = await saved(leader);
    await put(leader, 'changed', 'new');
    await put(leader, 'added', 'x');
    // What an earlier restoration left behind.
    await put(leader, pieceKey(`${STAGING_PREFIX}x/`, 0), 'x');

    const changes = new Map<string, Change[]>();
    const stale: (Uint8Array | undefined)[] = [];
    for (const { id, replica } of cluster.members()) {
      const seen: Change[] = [];
      changes.set(id, seen);
      replica.changeFeed.subscribe((change) => {
        if (change.kind !== 'everything') return;
        seen.push(change);
        // In the very turn in which the listeners hear of it.
        stale.push(replica.physical.get('added'));
      });
    }
    const index = await restore(leader, archive);
    for (const member of cluster.members()) {
      expect(await getAt(member, 'changed', index)).toBe('old');
      expect(await getAt(member, 'added', index)).toBeUndefined();
      expect(await getAt(member, 'kept/9', index)).toBe(big);
      expect(member.replica.restoredIndex()).toBe(index);
      expect(changes.get(member.id)).toEqual([{ kind: 'everything', index }]);
      // Nothing is left of how it came here.
      expect(await member.replica.physical.list(STAGING_PREFIX)).toEqual([]);
    }
    expect(stale).toEqual([undefined, undefined, undefined]);
    const last = await put(leader, 'after', 'it');
    for (const member of cluster.members()) await getAt(member, 'after', last);
    const hashes = await Promise.all(cluster.members().map(({ replica }) => replica.stateHash()));
    expect(new Set(hashes).size).toBe(1);

    const other = cluster.members().find((member) => member !== leader)?.id ?? '';
    await cluster.stop(other);
    const back = await cluster.restart(other);
    expect(await getAt(back, 'changed', last)).toBe('old');
    // And again: what was restored can be saved, too.
    expect(await restore(leader, await saved(leader))).toBeGreaterThan(last);
  },
);

test('only who leads restores, and nothing is left of the attempt', async () => {
  const { cluster, leader } = await formed(2);
  await put(leader, 'a', '1');
  const archive = await saved(leader);
  const standby = cluster.members().find((member) => member !== leader);
  await expect(restore(standby ?? leader, archive)).rejects.toMatchObject({ code: 'no-leader' });
  expect(standby?.replica.restoredIndex()).toBe(0);
  expect(leader.replica.physical.get('a')).toBeDefined();
});

test('what is no snapshot is refused before anybody hears of it', async () => {
  const { leader } = await formed(1);
  const index = await put(leader, 'a', '1');
  const received = leader.replica.snapshots.receive(streamOf(Buffer.from('rubbish')));
  await expect(received).rejects.toMatchObject({ code: 'invalid-request' });
  expect(leader.replica.physical.appliedIndex()).toBe(index);
});

test('two restorations at a time are not to be had', async () => {
  const { leader } = await formed(1);
  await put(leader, 'a', 'x'.repeat(500_000));
  const archive = await saved(leader);
  const outcomes = await Promise.allSettled([restore(leader, archive), restore(leader, archive)]);
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'conflict' },
  });
});

test('who does not read a snapshot to its end keeps nothing of it; few are saved at a time', async () => {
  const { leader } = await formed(1);
  for (let number = 0; number < 20; number += 1) {
    await put(leader, `k/${number}`, randomBytes(100_000).toString('hex'));
  }
  const { snapshots } = leader.replica;
  const begun = await Promise.all([1, 2, 3, 4].map(() => snapshots.save()));
  await expect(snapshots.save()).rejects.toMatchObject({ code: 'overloaded' });
  const [first, ...others] = begun.map((archive) => archive[Symbol.asyncIterator]());
  // One has read a little, the others nothing.
  expect((await first?.next())?.done).toBe(false);
  for (const iterator of [first, ...others]) await iterator?.return?.();
  expect((await saved(leader)).length).toBeGreaterThan(1_000_000);
});

test('while the state is being replaced nothing gets into the log that was made for the old one', async () => {
  const { leader } = await formed(1);
  for (let number = 0; number < 4; number += 1) {
    await put(leader, `a/${number}`, 'x'.repeat(500_000));
  }
  const archive = await saved(leader);
  const { physical } = leader.replica;
  const madeFor = new Map<number, number>();
  const refusals = new Set<string>();
  const over = new AbortController();
  const write = async (): Promise<void> => {
    const restoredIndex = leader.replica.restoredIndex();
    const operation = { kind: 'put', key: 'b', value: Buffer.from('x') } as const;
    await physical.write([operation]).then(
      (index) => madeFor.set(index, restoredIndex),
      (error: Error) => refusals.add(error.message),
    );
  };
  const writing = (async () => {
    const writes: Promise<void>[] = [];
    while (!over.signal.aborted) {
      writes.push(write());
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(writes);
  })();
  const index = await restore(leader, archive);
  await write();
  over.abort();
  await writing;
  expect([...refusals]).toEqual(['the state is being replaced']);
  const later = [...madeFor].filter(([at]) => index < at);
  expect(later.length).toBeGreaterThan(0);
  expect(later.filter(([, restoredIndex]) => restoredIndex !== index)).toEqual([]);
});
