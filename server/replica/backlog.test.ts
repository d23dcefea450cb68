import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { getAt, put, ReplicaCluster } from '../testing/replica-cluster.ts';
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
