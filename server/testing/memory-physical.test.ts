import { expect, test } from 'vitest';
import { createMemoryCluster } from './memory-physical.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a standby follows by explicit delivery, listeners before the index', async () => {
  const cluster = createMemoryCluster();
  const standby = cluster.standby().physical;
  const seen: unknown[] = [];
  cluster.standby().changeFeed.subscribe((change) => {
    seen.push([change, standby.get('a/b'), standby.appliedIndex()]);
  });

  const index = await cluster
    .leader()
    .physical.write([{ kind: 'put', key: 'a/b', value: bytes('1') }]);
  expect(standby.get('a/b')).toBeUndefined();
  cluster.standby().deliver();

  expect(seen).toEqual([[{ kind: 'keys', index, keys: ['a/b'] }, bytes('1'), 0]]);
  expect(await standby.awaitApplied(index, 0)).toBe(true);
  await expect(standby.write([])).rejects.toMatchObject({ code: 'no-leader' });
});

test('leadership moves, and the new leader holds everything', async () => {
  const cluster = createMemoryCluster();
  const first = await cluster.leader().leadership.acquire(new AbortController().signal);
  await cluster.leader().physical.write([{ kind: 'put', key: 'a', value: bytes('1') }]);
  const acquired = cluster.standby().leadership.acquire(new AbortController().signal);

  await cluster.leader().leadership.stepDown();

  await first.lost;
  expect((await acquired).term).toBe(first.term + 1);
  expect(cluster.leader()).toBe(cluster.standby());
  expect(cluster.leader().physical.get('a')).toEqual(bytes('1'));
});

test('list() gives immediate children, paged', async () => {
  const { physical } = createMemoryCluster().leader();
  await physical.write(
    ['p/a', 'p/b/c', 'p/b/d', 'p/e', 'q'].map((key) => ({ kind: 'put', key, value: bytes('') })),
  );
  expect(await physical.list('p/')).toEqual(['a', 'b/', 'e']);
  expect(await physical.list('')).toEqual(['p/', 'q']);
  expect(await physical.list('p/', { after: 'a', limit: 1 })).toEqual(['b/']);
});
