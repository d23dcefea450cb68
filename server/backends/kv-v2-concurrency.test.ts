import { describe, expect, test } from 'vitest';
import type { JsonObject, LogicalResponse } from '../core/backend.ts';
import { createKvV2 } from './kv-v2.ts';
import { createMemoryView, logicalRequest, sender } from './testing/memory-view.ts';

const WRITERS = 50;

function mount(): { view: ReturnType<typeof createMemoryView>; send: ReturnType<typeof sender> } {
  const view = createMemoryView();
  return { view, send: sender(createKvV2(Date.now), view) };
}

test('of writers with the same cas, exactly one succeeds', async () => {
  const { send } = mount();
  for (let version = 0; version < 3; version += 1) {
    const attempts = Array.from({ length: WRITERS }, (_, writer) =>
      send('update', 'data/a', { data: { writer }, options: { cas: version } }),
    );
    const results = await Promise.allSettled(attempts);
    const winners = results.filter((result) => result.status === 'fulfilled');
    expect(winners).toHaveLength(1);
    expect(winners[0]?.value?.data?.['version']).toBe(version + 1);
    const winner = results.findIndex((result) => result.status === 'fulfilled');
    expect((await send('read', 'data/a'))?.data?.['data']).toEqual({ writer: winner });
  }
});

test('a counter incremented by cas and retry loses nothing', async () => {
  const { send } = mount();
  await send('create', 'data/counter', { data: { count: 0 } });
  const increment = async (): Promise<number> => {
    for (let attempt = 1; attempt <= WRITERS * 10; attempt += 1) {
      const { data } = (await send('read', 'data/counter')) as { data: ReadData };
      const next = { count: data.data.count + 1 };
      const options = { cas: data.metadata.version };
      const written = await send('update', 'data/counter', { data: next, options }).then(
        () => true,
        () => false,
      );
      if (written) return attempt;
    }
    throw new Error('never won');
  };
  await Promise.all(Array.from({ length: WRITERS }, increment));
  expect((await send('read', 'data/counter'))?.data).toMatchObject({
    data: { count: WRITERS },
    metadata: { version: WRITERS + 1 },
  });
});

type ReadData = { data: { count: number }; metadata: { version: number } };

test('writes, patches, deletes and metadata of one path follow one another', async () => {
  const { send } = mount();
  await send('create', 'data/a', { data: { start: true } });
  const writes = Array.from({ length: WRITERS }, (_, writer) => [
    send('patch', 'data/a', { data: { [`w${writer}`]: writer } }),
    send('patch', 'metadata/a', { custom_metadata: { [`m${writer}`]: String(writer) } }),
  ]);
  await Promise.all(writes.flat());
  const { data } = (await send('read', 'data/a')) as { data: JsonObject };
  expect(Object.keys(data['data'] ?? {})).toHaveLength(WRITERS + 1);
  const metadata = (await send('read', 'metadata/a'))?.data;
  expect(Object.keys(metadata?.['custom_metadata'] ?? {})).toHaveLength(WRITERS);
  expect(metadata).toMatchObject({
    current_version: WRITERS + 1,
    current_metadata_version: WRITERS,
  });
});

test('no state between two batches shows half of a change', async () => {
  const { view, send } = mount();
  const backend = createKvV2(Date.now);
  await send('update', 'metadata/a', { max_versions: 2 });
  for (let version = 1; version <= 6; version += 1) {
    await send('update', 'data/a', { data: { version } });
  }
  await send('update', 'destroy/a', { versions: [6] });
  await send('delete', 'metadata/a');
  const replayed = createMemoryView();
  for (const batch of view.batches) {
    await replayed.write(batch);
    for (let version = 0; version <= 7; version += 1) {
      const request = { operation: 'read', path: 'data/a', data: { version } } as const;
      // Throws if metadata names a version that is not stored.
      const response = await backend.handle(logicalRequest({ ...request, view: replayed }));
      expectOwnVersion(response);
    }
    const metadata = await backend.handle(
      logicalRequest({ operation: 'read', path: 'metadata/a', view: replayed }),
    );
    const listed = Object.values(metadata?.data?.['versions'] ?? {});
    const kept = listed.filter((version) => !(version as JsonObject)['destroyed']).length;
    const stored = [...replayed.values.keys()].filter((key) => key.includes('/versions/'));
    expect(stored).toHaveLength(kept);
  }
});

function expectOwnVersion(response: LogicalResponse | undefined): void {
  if (response?.dataJson === undefined) return;
  const { data, metadata } = JSON.parse(response.dataJson);
  expect(data.version).toBe(metadata.version);
}

describe('on a standby', () => {
  test.each<['create' | 'update' | 'patch' | 'delete', string, JsonObject]>([
    ['create', 'data/absent', { data: {} }],
    ['update', 'data/a', { data: {}, options: { cas: 99 } }],
    ['patch', 'data/absent', { data: {} }],
    ['delete', 'data/absent', {}],
    ['delete', 'data/a', {}],
    ['update', 'delete/absent', { versions: [1] }],
    ['update', 'undelete/absent', { versions: [1] }],
    ['update', 'destroy/absent', { versions: [1] }],
    ['update', 'metadata/a', { max_versions: 1, metadata_cas: 99 }],
    ['patch', 'metadata/absent', { max_versions: 1 }],
    ['delete', 'metadata/absent', {}],
    ['update', 'config', { max_versions: 1 }],
  ])('%s %s is left to the active node, whatever is stored here', async (operation, path, data) => {
    const { view, send } = mount();
    await send('create', 'data/a', { data: { x: 1 } });
    view.isReadOnly = true;
    await expect(send(operation, path, data)).rejects.toThrow(
      expect.objectContaining({ code: 'read-only' }),
    );
    expect((await send('read', 'data/a'))?.data?.['data']).toEqual({ x: 1 });
    expect(view.batches).toHaveLength(1);
  });

  test('one that loses leadership while writers wait writes no more', async () => {
    const { view, send } = mount();
    const attempts = Array.from({ length: 5 }, (_, writer) =>
      send('update', 'data/a', { data: { writer } }),
    );
    await attempts[0];
    view.isReadOnly = true;
    const results = await Promise.allSettled(attempts);
    const refused = results.filter((result) => result.status === 'rejected');
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'read-only' });
    expect(view.batches).toHaveLength(5 - refused.length);
    expect(refused.length).toBeGreaterThan(0);
  });
});
