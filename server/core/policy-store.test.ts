import { describe, expect, test } from 'vitest';
import { createMemoryView } from '../testing/memory-view.ts';
import { PolicyStore } from './policy-store.ts';

function setUp() {
  const view = createMemoryView();
  const time = { nowMs: 1000 };
  const store = new PolicyStore({ view, clock: () => time.nowMs });
  view.listeners.push((key) => store.invalidate(key));
  return { view, store, time };
}

const READ_A = 'path "a" { capabilities = ["read"] }';
const LIST_A = 'path "a" { capabilities = ["list"] }';

test('a policy is stored under its name in lower case and read back as written', async () => {
  const { view, store, time } = setUp();
  await store.set(' Team/A ', { text: READ_A });
  expect([...view.entries.keys()]).toEqual(['sys/policy/team/a']);
  time.nowMs = 2000;
  await store.set('team/a', { text: LIST_A });
  expect(store.get('TEAM/A')).toEqual({
    name: 'team/a',
    text: LIST_A,
    version: 2,
    casRequired: false,
    modifiedMs: 2000,
    expireTimeMs: null,
  });
  await store.delete('Team/A');
  expect(store.get('team/a')).toBeUndefined();
});

test('list() names built-in and stored policies, root last', async () => {
  const { store } = setUp();
  expect(await store.list()).toEqual(['default', 'root']);
  await store.set('b/c', { text: READ_A });
  await store.set('a', { text: READ_A });
  await store.set('zz', { text: READ_A });
  expect(await store.list()).toEqual(['a', 'b/c', 'default', 'zz', 'root']);
});

describe('built-in policies', () => {
  test.each(['root', 'response-wrapping'])('%s never changes', async (name) => {
    const { store } = setUp();
    expect(store.exists(name)).toBe(true);
    const change = store.set(name, { text: READ_A });
    await expect(change).rejects.toThrow(`cannot update "${name}" policy`);
    await expect(store.delete(name)).rejects.toThrow(`cannot delete "${name}" policy`);
  });

  test('default can be changed, not deleted', async () => {
    const { store } = setUp();
    await store.set('default', { text: READ_A });
    expect(store.get('default')?.text).toBe(READ_A);
    await expect(store.delete('default')).rejects.toThrow('cannot delete default policy');
  });

  test('default lets a token look after itself, root does everything', () => {
    const { store } = setUp();
    expect(store.acl(['default']).capabilities('auth/token/lookup-self')).toEqual(['read']);
    expect(store.acl(['default']).capabilities('secret/a')).toEqual(['deny']);
    expect(store.acl(['root']).isRoot).toBe(true);
  });
});

describe('set() refuses', () => {
  test('text that is no policy', async () => {
    const { store, view } = setUp();
    const broken = store.set('a', { text: 'path "a" {' });
    await expect(broken).rejects.toMatchObject({
      code: 'invalid-request',
      message: 'failed to parse policy: 1:11: expected "}" to close the block',
    });
    expect(view.writes).toEqual([]);
  });

  test('an empty name', async () => {
    await expect(setUp().store.set(' ', { text: '' })).rejects.toThrow('policy name missing');
  });

  test('a version that is not current', async () => {
    const { store } = setUp();
    await store.set('a', { text: READ_A, cas: -1 });
    await expect(store.set('a', { text: READ_A, cas: -1 })).rejects.toThrow(
      'check-and-set parameter set to -1 on existing entry',
    );
    await expect(store.set('a', { text: READ_A, cas: 2 })).rejects.toThrow(
      'check-and-set parameter did not match the current version',
    );
    await store.set('a', { text: READ_A, cas: 1, casRequired: true });
    await expect(store.set('a', { text: READ_A })).rejects.toThrow(
      'check-and-set parameter required for this call',
    );
  });

  test('one of two writes at once that check the same version', async () => {
    const { store } = setUp();
    const both = await Promise.allSettled([
      store.set('a', { text: READ_A, cas: 0 }),
      store.set('a', { text: LIST_A, cas: 0 }),
    ]);
    expect(both.map((result) => result.status)).toEqual(['fulfilled', 'rejected']);
  });

  test('everything on a standby, before it judges', async () => {
    const { store, view } = setUp();
    view.isReadOnly = true;
    await expect(store.set('root', { text: 'broken' })).rejects.toMatchObject({
      code: 'read-only',
    });
    await expect(store.delete('root')).rejects.toMatchObject({ code: 'read-only' });
  });
});

describe('acl() follows every change', () => {
  test('a policy changes, appears and goes', async () => {
    const { store } = setUp();
    const names = ['a', 'b'];
    expect(store.acl(names).capabilities('a')).toEqual(['deny']);
    await store.set('b', { text: LIST_A });
    expect(store.acl(names).capabilities('a')).toEqual(['list']);
    await store.set('a', { text: READ_A });
    expect(store.acl(names).capabilities('a')).toEqual(['list', 'read']);
    await store.delete('b');
    expect(store.acl(names).capabilities('a')).toEqual(['read']);
  });

  test('a change that another node made', async () => {
    const { store, view } = setUp();
    await store.set('a', { text: READ_A });
    const names = ['a'];
    expect(store.acl(names).capabilities('a')).toEqual(['read']);
    view.entries.clear();
    store.invalidate(undefined);
    expect(store.acl(names).capabilities('a')).toEqual(['deny']);
  });

  test('keys that are no policies change nothing', async () => {
    const { store } = setUp();
    const names = ['default'];
    const before = store.acl(names);
    store.invalidate('sys/token/id/x');
    expect(store.acl(names)).toBe(before);
    expect(store.acl(['default'])).toBe(before);
    store.invalidate('sys/policy/x');
    expect(store.acl(names)).not.toBe(before);
  });

  test('a rule or a policy expires', async () => {
    const { store, time } = setUp();
    await store.set('a', { text: 'path "a" {\ncapabilities = ["read"]\nexpiration = "5" }' });
    await store.set('b', { text: LIST_A, expireTimeMs: 7000 });
    const names = ['a', 'b'];
    const at = (nowMs: number): string[] => {
      time.nowMs = nowMs;
      return store.acl(names).capabilities('a');
    };
    expect([at(5000), at(5001), at(7000), at(7001)]).toEqual([
      ['list', 'read'],
      ['list'],
      ['list'],
      ['deny'],
    ]);
    expect(store.get('b')).toBeUndefined();
  });
});

test('the caches keep to their bounds', async () => {
  const { store, view } = setUp();
  for (let index = 0; index < 5000; index += 1) {
    const name = `p${index}`;
    view.entries.set(`sys/policy/${name}`, Buffer.from(JSON.stringify({ name, text: '' })));
    store.acl([name]);
  }
  // The first is read again, not remembered: what is cached is bounded.
  view.entries.delete('sys/policy/p0');
  expect(store.exists('p0')).toBe(false);
  view.entries.delete('sys/policy/p4999');
  expect(store.exists('p4999')).toBe(true);
});
