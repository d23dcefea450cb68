import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { until } from '../testing/core-node.ts';
import { getAt, put, ReplicaCluster } from '../testing/replica-cluster.ts';
import type { Store } from '../storage/store.ts';
import { BACKLOG_BYTES_MAX } from './applier.ts';
import { replicaSettings } from './settings.ts';

test('a follower that cannot apply takes no entries, hears the leader, and catches up', async () => {
  let isBacklogged = false;
  const cluster = await ReplicaCluster.formed(3, {
    wrapEvents: (id, events) =>
      id === 'n3' ? { ...events, isBacklogged: () => isBacklogged } : events,
  });
  try {
    const leader = await cluster.leader();
    expect(leader.id).toBe('n1');
    const before = await put(leader, 'a', '1');
    const follower = cluster.member('n3');
    await getAt(follower, 'a', before);
    const { term, lastIndex } = follower.replica.status();

    isBacklogged = true;
    const index = await put(leader, 'a', '2');
    // Longer than anybody waits who hears nothing of a leader.
    await delay(3 * replicaSettings().electionTimeoutMs);
    expect(follower.replica.status()).toMatchObject({ term, lastIndex, leaderId: 'n1' });
    expect(leader.replica.status()).toMatchObject({ term, role: 'leader' });

    isBacklogged = false;
    expect(await getAt(follower, 'a', index)).toBe('2');
  } finally {
    await cluster.close();
  }
});

/** What a leader sends on before it hears an answer. */
const WINDOW_BYTES = 8 * replicaSettings().appendBytesMax;

/** A store that applies nothing until it is let go on. */
function stuck(store: Store, released: () => Promise<void>): Store {
  const apply = store.apply.bind(store);
  vi.spyOn(store, 'apply').mockImplementation(async (operations, position) => {
    await released();
    await apply(operations, position);
  });
  return store;
}

test('a follower whose store is stuck holds so much that is committed, and no more', async () => {
  let release = (): void => undefined;
  let released: Promise<void> = Promise.resolve();
  const cluster = await ReplicaCluster.formed(3, {
    wrapStorage: (id, storage) =>
      id === 'n3' ? { ...storage, store: stuck(storage.store, () => released) } : storage,
  });
  try {
    const leader = await cluster.leader();
    const follower = cluster.member('n3');
    expect(await getAt(follower, 'a', await put(leader, 'a', '1'))).toBe('1');
    released = new Promise((resolve) => {
      release = resolve;
    });
    const value = 'x'.repeat(900_000);
    const held = (): number => follower.replica.status().machine.applyQueueBytes;
    let index = 0;
    for (let bytes = 0; bytes < BACKLOG_BYTES_MAX + 2 * WINDOW_BYTES; bytes += value.length) {
      index = await put(leader, 'k', value);
    }
    await until(() => BACKLOG_BYTES_MAX < held());
    expect(held()).toBeLessThanOrEqual(BACKLOG_BYTES_MAX + WINDOW_BYTES);
    const { commitIndex, leaderId, role } = follower.replica.status();
    expect(commitIndex).toBeLessThan(index);
    expect({ leaderId, role }).toEqual({ leaderId: 'n1', role: 'follower' });

    release();
    expect(await getAt(follower, 'k', index)).toBe(value);
    expect(held()).toBe(0);
  } finally {
    release();
    await cluster.close();
  }
}, 60_000);
