import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import { createKvV2 } from './kv-v2.ts';
import { createMemoryView, sender } from './testing/memory-view.ts';

const NOW_MS = Date.UTC(2026, 0, 2, 10, 0, 0);
const CREATED = '2026-01-02T10:00:00Z';

function mount(): { view: ReturnType<typeof createMemoryView>; send: ReturnType<typeof sender> } {
  const view = createMemoryView();
  return {
    view,
    send: sender(
      createKvV2(() => NOW_MS),
      view,
    ),
  };
}

function metadataInfo(changes: JsonObject): JsonObject {
  return {
    versions: {},
    current_version: 0,
    current_metadata_version: 0,
    oldest_version: 0,
    created_time: CREATED,
    updated_time: CREATED,
    max_versions: 0,
    cas_required: false,
    metadata_cas_required: false,
    delete_version_after: '0s',
    custom_metadata: null,
    ...changes,
  };
}

const ONE_VERSION = {
  versions: { '1': { created_time: CREATED, deletion_time: '', destroyed: false } },
  current_version: 1,
};

describe('metadata', () => {
  test('describes a secret that was only written', async () => {
    const { send } = mount();
    await send('create', 'data/a', { data: { x: 1 } });
    expect(await send('read', 'metadata/a')).toEqual({ data: metadataInfo(ONE_VERSION) });
  });

  test('may come before the first version, and stays when versions come', async () => {
    const { send } = mount();
    const settings = {
      max_versions: 5,
      cas_required: true,
      metadata_cas_required: false,
      delete_version_after: '1h',
      custom_metadata: { owner: 'ü', count: 3 },
    };
    expect(await send('create', 'metadata/a', settings)).toBeUndefined();
    const stored = {
      max_versions: 5,
      cas_required: true,
      delete_version_after: '1h0m0s',
      custom_metadata: { owner: 'ü', count: '3' },
      current_metadata_version: 1,
    };
    expect((await send('read', 'metadata/a'))?.data).toEqual(metadataInfo(stored));
    expect(await send('read', 'data/a')).toBeUndefined();
    const written = await send('create', 'data/a', { data: {}, options: { cas: 0 } });
    expect(written?.data?.['custom_metadata']).toEqual({ owner: 'ü', count: '3' });
    expect((await send('read', 'metadata/a'))?.data).toMatchObject(stored);
  });

  test('is replaced field by field; custom metadata as a whole', async () => {
    const { send, view } = mount();
    await send('create', 'metadata/a', { max_versions: 5, custom_metadata: { a: '1', b: '2' } });
    await send('update', 'metadata/a', { custom_metadata: { c: '3' } });
    await send('update', 'metadata/a', {});
    await send('update', 'metadata/a', { unknown: 1 });
    expect(view.batches).toHaveLength(2);
    expect((await send('read', 'metadata/a'))?.data).toMatchObject({
      max_versions: 5,
      custom_metadata: { c: '3' },
      current_metadata_version: 2,
    });
    await send('update', 'metadata/a', { custom_metadata: {} });
    expect((await send('read', 'metadata/a'))?.data?.['custom_metadata']).toBeNull();
  });

  test('is patched key by key', async () => {
    const { send } = mount();
    await send('create', 'metadata/a', { max_versions: 5, custom_metadata: { a: '1', b: '2' } });
    const patch = { custom_metadata: { a: null, c: 3 }, max_versions: null };
    expect(await send('patch', 'metadata/a', patch)).toBeUndefined();
    expect((await send('read', 'metadata/a'))?.data).toMatchObject({
      max_versions: 0,
      custom_metadata: { b: '2', c: '3' },
      current_metadata_version: 2,
    });
    await send('patch', 'metadata/a', { custom_metadata: null });
    expect((await send('read', 'metadata/a'))?.data?.['custom_metadata']).toBeNull();
    expect((await send('patch', 'metadata/absent', { max_versions: 1 }))?.status).toBe(404);
    expect(await send('patch', 'metadata/absent', {})).toBeUndefined();
  });

  test('can demand check-and-set of its own', async () => {
    const { send } = mount();
    const update = (data: JsonObject): Promise<unknown> => send('update', 'metadata/a', data);
    await expect(update({ max_versions: 1, metadata_cas: 1 })).rejects.toThrow(
      'metadata_cas must be 0 when creating new metadata',
    );
    await update({ metadata_cas_required: true, metadata_cas: 0 });
    for (const operation of ['update', 'patch'] as const) {
      await expect(send(operation, 'metadata/a', { max_versions: 1 })).rejects.toThrow(
        'metadata check-and-set parameter required for this call',
      );
      await expect(
        send(operation, 'metadata/a', { max_versions: 1, metadata_cas: 9 }),
      ).rejects.toThrow('metadata check-and-set parameter does not match the current version');
    }
    await update({ max_versions: 1, metadata_cas: 1 });
    await send('patch', 'metadata/a', { max_versions: 2, metadata_cas: 2 });
    expect((await send('read', 'metadata/a'))?.data).toMatchObject({
      max_versions: 2,
      current_metadata_version: 3,
    });
  });

  test('cannot be laxer than the mount, and says so', async () => {
    const { send } = mount();
    await send('update', 'config', { cas_required: true });
    const ignored =
      '"cas_required" set to false, but is mandated by backend config. This value will be ignored.';
    for (const operation of ['update', 'patch'] as const) {
      expect(await send(operation, 'metadata/a', { cas_required: false })).toEqual({
        warnings: [ignored],
      });
    }
  });

  test('goes with every version', async () => {
    const { send, view } = mount();
    for (const x of [1, 2, 3]) await send('update', 'data/a', { data: { x } });
    await send('delete', 'metadata/a');
    expect(view.values.size).toBe(0);
    expect(await send('read', 'metadata/a')).toBeUndefined();
    expect((await send('create', 'data/a', { data: {} }))?.data?.['version']).toBe(1);
  });
});

describe('custom metadata has limits', () => {
  const many = (count: number): JsonObject =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 'v']));

  test.each<[JsonObject, string]>([
    [many(65), 'payload must contain at most 64 keys, provided 65'],
    [{ '': 'v' }, 'length of key "" is 0 but must be 0 < len(key) <= 128'],
    [{ ['k'.repeat(129)]: 'v' }, 'is 129 but must be 0 < len(key) <= 128'],
    [{ ['é'.repeat(65)]: 'v' }, 'is 130 but must be 0 < len(key) <= 128'],
    [{ k: '' }, 'length of value for key "k" is 0 but must be 0 < len(value) <= 512'],
    [{ k: 'v'.repeat(513) }, 'is 513 but must be 0 < len(value) <= 512'],
    [{ 'a\nb': 'v' }, 'contains unprintable characters'],
    [{ k: 'a\u0000b' }, 'value for key "k" contains unprintable characters'],
    [{ k: { nested: 1 } }, 'value for key "k" is not a string'],
    [{ a: '', b: '' }, '2 errors occurred:\n\t* custom_metadata validation failed: length'],
  ])('%# is refused', async (custom, message) => {
    const { send, view } = mount();
    await send('create', 'data/a', { data: {} });
    for (const operation of ['update', 'patch'] as const) {
      await expect(send(operation, 'metadata/a', { custom_metadata: custom })).rejects.toThrow(
        message,
      );
    }
    expect(view.batches).toHaveLength(1);
  });

  test('64 keys of 128 bytes with 512 bytes each are accepted, and no patch adds to them', async () => {
    const { send } = mount();
    const full = Object.fromEntries(
      Array.from({ length: 64 }, (_, index) => [String(index).padStart(128, 'k'), 'v'.repeat(512)]),
    );
    await send('create', 'metadata/a', { custom_metadata: full });
    expect((await send('read', 'metadata/a'))?.data?.['custom_metadata']).toEqual(full);
    await expect(send('patch', 'metadata/a', { custom_metadata: { x: '1' } })).rejects.toThrow(
      'at most 64 keys',
    );
  });

  test('null is refused by a write, which cannot remove', async () => {
    await expect(
      mount().send('create', 'metadata/a', { custom_metadata: { k: null } }),
    ).rejects.toThrow('length of value for key "k" is 0');
  });
});

test('lists and scans, with and without details', async () => {
  const { send } = mount();
  for (const path of ['a', 'd/e', 'd/f/g', 'z']) {
    await send('create', `data/${path}`, { data: { path } });
  }
  const info = metadataInfo(ONE_VERSION);
  const cases = [
    ['list', 'metadata', {}, { keys: ['a', 'd/', 'z'] }],
    ['list', 'metadata/', {}, { keys: ['a', 'd/', 'z'] }],
    ['list', 'metadata/d', {}, { keys: ['e', 'f/'] }],
    ['list', 'metadata/d/', { after: 'e' }, { keys: ['f/'] }],
    ['list', 'metadata/', { limit: 1 }, { keys: ['a'] }],
    ['scan', 'metadata/', {}, { keys: ['a', 'd/e', 'd/f/g', 'z'] }],
    ['scan', 'metadata/d', { limit: 1 }, { keys: ['e'] }],
    [
      'list',
      'detailed-metadata/',
      { limit: 2 },
      { keys: ['a', 'd/'], key_info: { a: info, 'd/': {} } },
    ],
    ['scan', 'detailed-metadata/d', {}, { keys: ['e', 'f/g'], key_info: { e: info, 'f/g': info } }],
    ['scan', 'metadata/none', {}, {}],
  ] as const;
  for (const [operation, path, data, expected] of cases) {
    expect(await send(operation, path, data)).toEqual({ data: expected });
  }
  expect(await send('list', 'metadata/none')).toBeUndefined();
  expect(await send('list', 'detailed-metadata/none')).toBeUndefined();
});
