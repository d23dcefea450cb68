import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import { createKvV2 } from './kv-v2.ts';
import { createMemoryView, logicalRequest, sender } from './testing/memory-view.ts';

const START_MS = Date.UTC(2026, 0, 2, 10, 0, 0);
const CREATED = '2026-01-02T10:00:00Z';

type Mount = {
  readonly view: ReturnType<typeof createMemoryView>;
  readonly send: ReturnType<typeof sender>;
  readonly clock: { nowMs: number };
  /** Writes `data` and returns the number of the new version. */
  put(path: string, data: JsonObject, options?: JsonObject): Promise<unknown>;
};

function mount(): Mount {
  const view = createMemoryView();
  const clock = { nowMs: START_MS };
  const send = sender(
    createKvV2(() => clock.nowMs),
    view,
  );
  return {
    view,
    clock,
    send,
    put: async (path, data, options = {}) =>
      (await send('update', `data/${path}`, { data, options }))?.data?.['version'],
  };
}

function versionInfo(version: number, changes: JsonObject = {}): JsonObject {
  return {
    version,
    created_time: CREATED,
    deletion_time: '',
    destroyed: false,
    custom_metadata: null,
    ...changes,
  };
}

describe('data', () => {
  test('is written and read version by version', async () => {
    const { send } = mount();
    const first = await send('create', 'data/a/b', { data: { x: 1 } });
    expect(first).toEqual({ data: versionInfo(1) });
    await send('update', 'data/a/b', { data: { x: 2 } });
    const cases = [
      [{}, 2],
      [{ version: 0 }, 2],
      [{ version: '1' }, 1],
      [{ version: 2 }, 2],
    ] as const;
    for (const [query, version] of cases) {
      expect((await send('read', 'data/a/b', query))?.data).toEqual({
        data: { x: version },
        metadata: versionInfo(version),
      });
    }
    expect(await send('read', 'data/a/b', { version: 3 })).toBeUndefined();
    expect(await send('read', 'data/absent')).toBeUndefined();
    expect(await send('read', 'data/a')).toBeUndefined();
  });

  test('is stored with its metadata, in one batch', async () => {
    const { view, put, send } = mount();
    for (let version = 1; version <= 12; version += 1) await put('a', { version });
    await send('update', 'metadata/a', { max_versions: 11 });
    await send('update', 'destroy/a', { versions: [12] });
    await send('delete', 'metadata/a');
    expect(view.batches).toHaveLength(12 + 1 + 1 + 1);
    expect([...view.values.keys()]).toEqual([]);
  });

  test('secrets that look like versions of each other do not meet', async () => {
    const { put, send } = mount();
    for (const path of ['a', 'a/1', 'a/1/1', 'a/2']) await put(path, { path });
    for (const path of ['a', 'a/1', 'a/1/1', 'a/2']) {
      expect((await send('read', `data/${path}`))?.data?.['data']).toEqual({ path });
    }
    await send('delete', 'metadata/a');
    expect(await send('read', 'data/a')).toBeUndefined();
    expect((await send('read', 'data/a/1'))?.data?.['data']).toEqual({ path: 'a/1' });
  });

  test.each<[options: JsonObject, message: string | undefined]>([
    [{}, undefined],
    [{ cas: 1 }, undefined],
    [{ cas: '1' }, undefined],
    [{ cas: true }, undefined],
    [{ cas: 0 }, 'check-and-set parameter did not match the current version'],
    [{ cas: null }, 'check-and-set parameter did not match the current version'],
    [{ cas: 2 }, 'check-and-set parameter did not match the current version'],
    [{ cas: -1 }, 'check-and-set parameter did not match the current version'],
    [{ cas: 1.5 }, 'error parsing check-and-set parameter'],
    [{ cas: 'one' }, 'error parsing check-and-set parameter'],
    [{ cas: [1] }, 'error parsing check-and-set parameter'],
  ])('with options %j over version 1', async (options, message) => {
    for (const operation of ['update', 'patch'] as const) {
      const { put, send } = mount();
      await put('a', { x: 1 });
      const result = await send(operation, 'data/a', { data: { y: 2 }, options }).then(
        (response) => ({ data: response?.data, message: undefined }),
        (error: Error) => ({ data: undefined, message: error.message }),
      );
      const isStored = message === undefined;
      expect(result).toEqual({ data: isStored ? versionInfo(2) : undefined, message });
      expect((await send('read', 'metadata/a'))?.data?.['current_version']).toBe(isStored ? 2 : 1);
    }
  });

  test('with cas 0 is only created', async () => {
    const { put } = mount();
    expect(await put('a', { x: 1 }, { cas: 0 })).toBe(1);
    await expect(put('a', { x: 2 }, { cas: 0 })).rejects.toThrow('did not match');
  });

  test.each([
    ['config', {}],
    ['metadata/a', {}],
  ])('cas_required of %s makes cas obligatory', async (path) => {
    const { put, send } = mount();
    await put('a', { x: 1 });
    await send('update', path, { cas_required: true });
    await expect(put('a', { x: 2 })).rejects.toThrow(
      'check-and-set parameter required for this call',
    );
    await expect(send('patch', 'data/a', { data: { x: 2 } })).rejects.toThrow('required');
    expect(await put('a', { x: 2 }, { cas: 1 })).toBe(2);
  });

  test('is merged by a patch into a new version', async () => {
    const { put, send } = mount();
    await put('a', { keep: 1, drop: 2, nested: { keep: 1, drop: 2 } });
    const patch = { drop: null, nested: { drop: null, more: 3 } };
    expect(await send('patch', 'data/a', { data: patch })).toEqual({ data: versionInfo(2) });
    expect((await send('read', 'data/a'))?.data?.['data']).toEqual({
      keep: 1,
      nested: { keep: 1, more: 3 },
    });
    const nothing = { status: 404, raw: { contentType: 'application/json', body: '' } };
    expect(await send('patch', 'data/absent', { data: {} })).toEqual(nothing);
    await send('delete', 'data/a');
    expect(await send('patch', 'data/a', { data: {} })).toEqual({
      status: 404,
      data: versionInfo(2, { deletion_time: CREATED }),
    });
  });

  test('keeps keys that every object inherits', async () => {
    const { send } = mount();
    const data: JsonObject = JSON.parse('{"data":{"__proto__":{"a":1},"toString":null}}');
    await send('create', 'data/__proto__', data);
    expect(JSON.stringify((await send('read', 'data/__proto__'))?.data?.['data'])).toBe(
      '{"__proto__":{"a":1},"toString":null}',
    );
    await send('patch', 'data/__proto__', JSON.parse('{"data":{"__proto__":{"b":2}}}'));
    expect(JSON.stringify((await send('read', 'data/__proto__'))?.data?.['data'])).toBe(
      '{"__proto__":{"a":1,"b":2},"toString":null}',
    );
  });
});

describe('deleted versions', () => {
  test('answer 404 with the full envelope, until they are brought back', async () => {
    const { put, send } = mount();
    await put('a', { x: 1 });
    await put('a', { x: 2 });
    expect(await send('delete', 'data/a')).toBeUndefined();
    const gone = versionInfo(2, { deletion_time: CREATED });
    expect(await send('read', 'data/a')).toEqual({
      status: 404,
      data: { data: null, metadata: gone },
    });
    expect(await send('read', 'subkeys/a')).toEqual({
      status: 404,
      data: { subkeys: null, metadata: gone },
    });
    expect((await send('read', 'data/a', { version: 1 }))?.data?.['data']).toEqual({ x: 1 });
    await send('update', 'undelete/a', { versions: '2' });
    expect((await send('read', 'data/a'))?.data?.['data']).toEqual({ x: 2 });
  });

  test('by number, one or several', async () => {
    const { put, send } = mount();
    for (const x of [1, 2, 3]) await put('a', { x });
    await send('update', 'delete/a', { versions: [1, '3', 9] });
    const statuses = async (): Promise<unknown[]> =>
      Promise.all(
        [1, 2, 3].map(async (version) => (await send('read', 'data/a', { version }))?.status),
      );
    expect(await statuses()).toEqual([404, undefined, 404]);
    await send('update', 'undelete/a', { versions: [3] });
    expect(await statuses()).toEqual([404, undefined, undefined]);
  });

  test('destroyed, lose their data for good', async () => {
    const { put, send, view } = mount();
    await put('a', { x: 'first' });
    await put('a', { x: 'second' });
    await send('create', 'destroy/a', { versions: [1] });
    expect(await send('read', 'data/a', { version: 1 })).toEqual({
      status: 404,
      data: { data: null, metadata: versionInfo(1, { destroyed: true }) },
    });
    await send('update', 'undelete/a', { versions: [1] });
    expect((await send('read', 'data/a', { version: 1 }))?.status).toBe(404);
    const stored = [...view.values.values()].map((value) => Buffer.from(value).toString());
    expect(stored.some((value) => value.includes('first'))).toBe(false);
    expect(stored.some((value) => value.includes('second'))).toBe(true);
  });

  test('of a secret that is not there change nothing', async () => {
    const { send, view } = mount();
    await send('delete', 'data/a');
    await send('delete', 'metadata/a');
    for (const path of ['delete', 'undelete', 'destroy']) {
      expect(await send('update', `${path}/a`, { versions: [1] })).toBeUndefined();
    }
    expect(view.batches).toHaveLength(0);
  });

  test.each([
    ['config', 'metadata/a', 10, 20, 10],
    ['config', 'metadata/a', 20, 10, 10],
    ['config', 'metadata/a', 0, 10, 10],
    ['config', 'metadata/a', 10, 0, 10],
  ])(
    'delete_version_after: %s and %s with %d s and %d s is %d s',
    async (mountPath, secretPath, mountSeconds, secretSeconds, seconds) => {
      const { put, send, clock } = mount();
      await send('update', mountPath, { delete_version_after: `${mountSeconds}s` });
      await send('update', secretPath, { delete_version_after: secretSeconds });
      await put('a', { x: 1 });
      clock.nowMs += seconds * 1000 - 1;
      const response = await send('read', 'data/a');
      expect(response?.status).toBeUndefined();
      expect(response?.data?.['metadata']).toMatchObject({
        deletion_time: '2026-01-02T10:00:10Z',
      });
      clock.nowMs += 1;
      expect((await send('read', 'data/a'))?.status).toBe(404);
      await send('update', 'undelete/a', { versions: [1] });
      clock.nowMs += seconds * 1000 - 1;
      expect((await send('read', 'data/a'))?.status).toBeUndefined();
    },
  );

  test('a negative delete_version_after of the mount turns it off', async () => {
    const { put, send } = mount();
    await send('update', 'config', { delete_version_after: '-1h' });
    await send('update', 'metadata/a', { delete_version_after: '10s' });
    await put('a', { x: 1 });
    expect((await send('read', 'data/a'))?.data?.['metadata']).toEqual(versionInfo(1));
    expect((await send('read', 'config'))?.data?.['delete_version_after']).toBe('-1s');
  });
});

describe('the window of versions', () => {
  test.each([
    [undefined, undefined, 10],
    [3, undefined, 3],
    [undefined, 4, 4],
    [3, 5, 5],
    [5, 3, 5],
  ])('mount %s, secret %s: %d are kept', async (ofMount, ofSecret, kept) => {
    const { put, send, view } = mount();
    if (ofMount !== undefined) await send('update', 'config', { max_versions: ofMount });
    if (ofSecret !== undefined) await send('update', 'metadata/a', { max_versions: ofSecret });
    for (let version = 1; version <= 15; version += 1) await put('a', { version });
    const metadata = (await send('read', 'metadata/a'))?.data;
    expect(Object.keys(metadata?.['versions'] ?? {})).toHaveLength(kept);
    expect(metadata).toMatchObject({ current_version: 15, oldest_version: 16 - kept });
    expect(await send('read', 'data/a', { version: 15 - kept })).toBeUndefined();
    const oldest = await send('read', 'data/a', { version: 16 - kept });
    expect(oldest?.data?.['data']).toEqual({ version: 16 - kept });
    const stored = [...view.values.keys()].filter((key) => key.includes('/versions/'));
    expect(stored).toHaveLength(kept);
  });

  test('shrinks with the next write after its limit', async () => {
    const { put, send, view } = mount();
    for (let version = 1; version <= 9; version += 1) await put('a', { version });
    await send('update', 'metadata/a', { max_versions: 2 });
    await put('a', { version: 10 });
    expect((await send('read', 'metadata/a'))?.data).toMatchObject({ oldest_version: 9 });
    expect([...view.values.keys()].filter((key) => key.includes('/versions/'))).toHaveLength(2);
  });
});

test('subkeys show the shape, down to a depth', async () => {
  const { put, send } = mount();
  await put('a', { x: 1, empty: {}, list: [1], n: { y: 's', m: { z: null } } });
  const cases = [
    [{}, { x: null, empty: null, list: null, n: { y: null, m: { z: null } } }],
    [{ depth: 0 }, { x: null, empty: null, list: null, n: { y: null, m: { z: null } } }],
    [{ depth: 1 }, { x: null, empty: null, list: null, n: null }],
    [{ depth: '2' }, { x: null, empty: null, list: null, n: { y: null, m: null } }],
  ] as const;
  for (const [query, subkeys] of cases) {
    const expected = { subkeys, metadata: versionInfo(1) };
    expect((await send('read', 'subkeys/a', query))?.data).toEqual(expected);
  }
  expect(await send('read', 'subkeys/a', { version: 2 })).toBeUndefined();
  expect(await send('read', 'subkeys/b')).toBeUndefined();
});

test('the configuration is read and written field by field', async () => {
  const { send, view } = mount();
  const defaults = {
    max_versions: 0,
    cas_required: false,
    metadata_cas_required: false,
    delete_version_after: '0s',
  };
  expect((await send('read', 'config'))?.data).toEqual(defaults);
  await send('update', 'config', { max_versions: '5', cas_required: 'true' });
  await send('create', 'config', { delete_version_after: '3h25m19s' });
  await send('update', 'config', {});
  expect(view.batches).toHaveLength(2);
  expect((await send('read', 'config'))?.data).toEqual({
    max_versions: 5,
    cas_required: true,
    metadata_cas_required: false,
    delete_version_after: '3h25m19s',
  });
});

describe('bad input is refused with a clear text', () => {
  test.each<['read' | 'update' | 'patch' | 'list', string, JsonObject, string]>([
    ['update', 'data/', { data: {} }, 'missing path'],
    ['update', 'data/a/', { data: {} }, "cannot write to a path ending in '/'"],
    ['update', 'data/a', {}, 'no data provided'],
    ['patch', 'data/a', {}, 'no data provided'],
    ['update', 'data/a', { x: 1 }, 'no data provided'],
    ['update', 'data/a', { data: 'x' }, 'error converting input for field "data"'],
    ['update', 'data/a', { data: [1] }, 'error converting input for field "data"'],
    ['update', 'data/a', { data: {}, options: 3 }, 'error converting input for field "options"'],
    ['read', 'data/a', { version: -1 }, 'version must not be negative'],
    ['read', 'data/a', { version: 'x' }, 'error converting input for field "version"'],
    ['read', 'subkeys/a', { depth: -1 }, 'depth must not be negative'],
    ['update', 'delete/a', {}, 'No version number provided'],
    ['update', 'undelete/a', { versions: [] }, 'No version number provided'],
    ['update', 'destroy/a', {}, 'no version number provided'],
    ['update', 'delete/a', { versions: [-1] }, 'versions must not be negative'],
    ['update', 'delete/a', { versions: ['x'] }, 'error converting input for field "versions"'],
    ['update', 'config', { max_versions: -1 }, 'max_versions must not be negative'],
    ['update', 'config', { cas_required: 'maybe' }, 'field "cas_required"'],
    ['update', 'config', { delete_version_after: 'soon' }, 'field "delete_version_after"'],
    ['list', 'metadata/', { limit: {} }, 'field "limit"'],
  ])('%s %s %j', async (operation, path, data, message) => {
    const { view, send } = mount();
    await expect(send(operation, path, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(view.batches).toHaveLength(0);
  });

  test.each([
    ['delete', 'config'],
    ['list', 'data/a'],
    ['read', 'delete/a'],
    ['update', 'subkeys/a'],
    ['update', 'detailed-metadata/a'],
  ] as const)('%s %s is unsupported', async (operation, path) => {
    await expect(mount().send(operation, path)).rejects.toThrow(
      expect.objectContaining({ code: 'unsupported-operation' }),
    );
  });

  test.each([
    ['read', 'a/b', "use 'bao kv get' for this operation"],
    ['update', 'a', "use 'bao kv put' for this operation"],
    ['read', '', 'Invalid path for a versioned K/V secrets engine'],
    ['read', 'data', 'Non-listing operations on the root'],
    ['delete', 'metadata', 'Non-listing operations on the root'],
  ] as const)('%s %s answers 404 with a hint', async (operation, path, hint) => {
    const response = await mount().send(operation, path, { data: {} });
    expect(response?.status).toBe(404);
    expect(response?.warnings?.[0]).toContain(hint);
  });
});

test('whether a write creates or updates is asked of the metadata', async () => {
  const { put, view } = mount();
  const backend = createKvV2(() => START_MS);
  const exists = (path: string): Promise<boolean> | undefined =>
    backend.exists?.(logicalRequest({ operation: 'update', path, view }));
  expect(await exists('data/a')).toBe(false);
  await put('a', {});
  expect(await exists('data/a')).toBe(true);
  expect(await exists('metadata/a')).toBe(true);
  expect(await exists('metadata/b')).toBe(false);
  expect(await exists('delete/b')).toBe(true);
  expect(await exists('config')).toBe(true);
});
