import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import { createKvV1 } from './kv-v1.ts';
import { createMemoryView, logicalRequest, sender } from './testing/memory-view.ts';

function mount(): { view: ReturnType<typeof createMemoryView>; send: ReturnType<typeof sender> } {
  const view = createMemoryView();
  return { view, send: sender(createKvV1(), view) };
}

describe('a secret', () => {
  test('reads back as the text it was written with', async () => {
    const { view, send } = mount();
    const data = { b: 1, a: 'ü', nested: { list: [null, 1.5] } };
    expect(await send('create', 'a/b', data)).toBeUndefined();
    const response = await createKvV1().handle(
      logicalRequest({ operation: 'read', path: 'a/b', view }),
    );
    expect(response).toEqual({ dataJson: JSON.stringify(data), leaseDurationSeconds: 2_764_800 });
    expect(view.batches).toHaveLength(1);
  });

  test('is replaced as a whole, and deleted', async () => {
    const { send } = mount();
    await send('create', 'a', { x: 1 });
    await send('update', 'a', { y: 2 });
    expect((await send('read', 'a'))?.data).toEqual({ y: 2 });
    await send('delete', 'a');
    expect(await send('read', 'a')).toBeUndefined();
    expect(await send('delete', 'a')).toBeUndefined();
  });

  test.each<[JsonObject, number]>([
    [{ ttl: '1h' }, 3600],
    [{ ttl: 30 }, 30],
    [{ lease: '2m' }, 120],
    [{ ttl: '1h', lease: '2m' }, 3600],
    [{ ttl: '' }, 0],
    [{ ttl: 'soon' }, 600],
    [{ ttl: { a: 1 } }, 600],
    [{ ttl: -5 }, 600],
    [{ value: 1 }, 600],
  ])('%j has a lease of %d s where the mount says 600', async (data, seconds) => {
    const { send } = mount();
    await send('create', 'a', data);
    const response = await send('read', 'a', {}, { defaultLeaseTtlSeconds: 600 });
    expect(response?.leaseDurationSeconds).toBe(seconds);
  });

  test('a key named like a property of every object is only a key', async () => {
    const { send } = mount();
    const data: JsonObject = JSON.parse('{"__proto__":"x","constructor":"y"}');
    await send('create', '__proto__', data);
    expect(JSON.stringify((await send('read', '__proto__'))?.data)).toBe(JSON.stringify(data));
    expect(await send('read', 'constructor')).toBeUndefined();
  });
});

test('lists one level, scans all, in pages', async () => {
  const { send } = mount();
  for (const path of ['a', 'd/e', 'd/f/g', 'z']) await send('create', path, { x: 1 });
  const cases = [
    ['list', '', {}, ['a', 'd/', 'z']],
    ['list', 'd', {}, ['e', 'f/']],
    ['list', 'd/', {}, ['e', 'f/']],
    ['list', '', { after: 'a', limit: 1 }, ['d/']],
    ['list', '', { after: 'a', limit: '0' }, ['d/', 'z']],
    ['scan', '', {}, ['a', 'd/e', 'd/f/g', 'z']],
    ['scan', 'd', {}, ['e', 'f/g']],
    ['scan', '', { after: 'd/e', limit: '1' }, ['d/f/g']],
  ] as const;
  for (const [operation, path, data, keys] of cases) {
    expect(await send(operation, path, data)).toEqual({ data: { keys } });
  }
  expect(await send('list', 'none')).toBeUndefined();
  expect(await send('scan', 'none')).toEqual({ data: {} });
});

describe('bad input is refused with a clear text', () => {
  test.each([
    ['create', '', { a: 1 }, 'missing path'],
    ['create', 'a/', { a: 1 }, "cannot write to a path ending in '/'"],
    ['create', 'a', {}, 'missing data fields'],
    ['create', 'x'.repeat(40_000), { a: 1 }, 'path is too long'],
    ['list', '', { limit: 'many' }, 'Field validation failed'],
    ['list', '', { after: {} }, 'Field validation failed'],
  ] as const)('%s %# %j', async (operation, path, data, message) => {
    const { view, send } = mount();
    await expect(send(operation, path, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(view.batches).toHaveLength(0);
  });

  test('an operation that version 1 does not have', async () => {
    await expect(mount().send('patch', 'a', { a: 1 })).rejects.toThrow(
      expect.objectContaining({ code: 'unsupported-operation' }),
    );
  });

  test('a directory is no secret', async () => {
    const { send } = mount();
    await send('create', 'd/e', { x: 1 });
    expect(await send('read', 'd/')).toBeUndefined();
    expect(await send('read', 'd')).toBeUndefined();
    expect(await send('read', '')).toBeUndefined();
    await send('delete', 'd/');
    expect((await send('read', 'd/e'))?.data).toEqual({ x: 1 });
  });
});

describe('on a standby', () => {
  test.each([
    ['create', 'a', { x: 1 }],
    ['update', 'a', { x: 1 }],
    ['delete', 'absent', {}],
    ['delete', 'a', {}],
  ] as const)('%s %s is left to the active node', async (operation, path, data) => {
    const { view, send } = mount();
    view.isReadOnly = true;
    await expect(send(operation, path, data)).rejects.toThrow(
      expect.objectContaining({ code: 'read-only' }),
    );
  });

  test('reads are answered', async () => {
    const { view, send } = mount();
    await send('create', 'a', { x: 1 });
    view.isReadOnly = true;
    expect((await send('read', 'a'))?.data).toEqual({ x: 1 });
    expect(await send('list', '')).toEqual({ data: { keys: ['a'] } });
  });
});

test('whether a write creates or updates is asked of storage', async () => {
  const { view, send } = mount();
  const backend = createKvV1();
  const exists = (path: string): Promise<boolean> | undefined =>
    backend.exists?.(logicalRequest({ operation: 'update', path, view }));
  expect(await exists('a')).toBe(false);
  await send('create', 'a', { x: 1 });
  expect(await exists('a')).toBe(true);
  expect(await exists('')).toBe(false);
});
