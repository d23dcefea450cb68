import { describe, expect, test } from 'vitest';
import { asMultierror } from '../errors.ts';
import { createCubbyhole } from './cubbyhole.ts';
import { createMemoryView, logicalRequest, sender, serviceToken } from './testing/memory-view.ts';

const OWN = { token: serviceToken({ id: 's.own' }) };
const OTHER = { token: serviceToken({ id: 's.other' }) };

function mount(): { view: ReturnType<typeof createMemoryView>; send: ReturnType<typeof sender> } {
  const view = createMemoryView();
  return { view, send: sender(createCubbyhole(), view) };
}

test('each token sees only its own', async () => {
  const { view, send } = mount();
  await send('create', 'a', { x: 'mine' }, OWN);
  await send('create', 'd/b', { x: 'mine too' }, OWN);
  await send('create', 'a', { x: 'theirs' }, OTHER);
  expect(await send('read', 'a', {}, OWN)).toMatchObject({ data: { x: 'mine' } });
  expect(await send('read', 'a', {}, OTHER)).toMatchObject({ data: { x: 'theirs' } });
  expect(await send('list', '', {}, OWN)).toEqual({ data: { keys: ['a', 'd/'] } });
  expect(await send('list', '', { after: 'a' }, OWN)).toEqual({ data: { keys: ['d/'] } });
  expect(await send('list', 'd', {}, OWN)).toEqual({ data: { keys: ['b'] } });
  expect(await send('list', 'd', {}, OTHER)).toBeUndefined();
  await send('delete', 'a', {}, OWN);
  expect(await send('read', 'a', {}, OWN)).toBeUndefined();
  expect(await send('read', 'a', {}, OTHER)).toMatchObject({ data: { x: 'theirs' } });
  expect([...view.values.keys()].some((key) => key.includes('s.o'))).toBe(false);
});

test('goes with its token, however much it is', async () => {
  const { view, send } = mount();
  for (let index = 0; index < 30; index += 1) await send('create', `d/${index}`, { x: 1 }, OWN);
  await view.write(
    Array.from({ length: 2500 }, (_, index) => {
      const [first = ''] = view.values.keys();
      return { kind: 'put', key: `${first}-${index}`, value: Buffer.from('{}') };
    }),
  );
  await send('create', 'a', { x: 1 }, OTHER);
  const { revokeToken } = createCubbyhole();
  await revokeToken?.(view, 's.own');
  expect(view.values.size).toBe(1);
  expect(await send('read', 'a', {}, OTHER)).toBeDefined();
  const count = view.batches.length;
  await revokeToken?.(view, 's.own');
  expect(view.batches).toHaveLength(count);
});

describe('refusals', () => {
  const batch = { token: serviceToken({ type: 'batch' }) };
  test.each([
    ['read', '', {}, OWN, 'invalid-request', 'missing path'],
    ['update', '', { x: 1 }, OWN, 'invalid-request', 'missing path'],
    ['update', 'a', {}, OWN, 'invalid-request', 'missing data fields'],
    ['update', 'a/', { x: 1 }, OWN, 'invalid-request', "cannot write to a path ending in '/'"],
    ['scan', '', {}, OWN, 'unsupported-operation', asMultierror('unsupported operation')],
    ['read', 'a', {}, { token: undefined }, 'permission-denied', 'permission denied'],
    [
      'read',
      'a',
      {},
      batch,
      'invalid-request',
      "cubbyhole operations are only supported by 'service' type tokens",
    ],
  ] as const)('%s %j %j', async (operation, path, data, overrides, code, message) => {
    await expect(mount().send(operation, path, data, overrides)).rejects.toThrow(
      expect.objectContaining({ code, message }),
    );
  });

  test.each([
    ['update', { x: 1 }],
    ['delete', {}],
  ] as const)('%s on a standby is left to the active node', async (operation, data) => {
    const { view, send } = mount();
    view.isReadOnly = true;
    await expect(send(operation, 'a', data, OWN)).rejects.toThrow(
      expect.objectContaining({ code: 'read-only' }),
    );
  });
});

test('whether a write creates or updates is asked of the own storage', async () => {
  const { view, send } = mount();
  const backend = createCubbyhole();
  await send('create', 'a', { x: 1 }, OWN);
  const exists = (who: typeof OWN): Promise<boolean> | undefined =>
    backend.exists?.(logicalRequest({ operation: 'update', path: 'a', view, ...who }));
  expect(await exists(OWN)).toBe(true);
  expect(await exists(OTHER)).toBe(false);
});
