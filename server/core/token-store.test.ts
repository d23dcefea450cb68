import { describe, expect, test } from 'vitest';
import { createMemoryView } from '../testing/memory-view.ts';
import type { TokenEntry } from './backend.ts';
import { REVOCATION_PENDING } from './token-revocation.ts';
import { TokenStore } from './token-store.ts';
import type { TokenSpec } from './token-entry.ts';

const HOUR_MS = 3_600_000;
const DAY_SECONDS = 86_400;

const SPEC: TokenSpec = {
  id: '',
  type: 'service',
  policies: ['default'],
  path: 'auth/token/create',
  meta: null,
  displayName: 'token',
  parent: '',
  role: '',
  numUses: 0,
  renewable: true,
  ttlSeconds: 3600,
  periodSeconds: 0,
  explicitMaxTtlSeconds: 0,
  rolePeriodSeconds: 0,
  roleExplicitMaxTtlSeconds: 0,
};

function setUp() {
  const view = createMemoryView();
  const time = { nowMs: 1_700_000_000_500 };
  const timers: (() => void)[] = [];
  const destroyed: string[] = [];
  const failures: unknown[] = [];
  const makeStore = (): TokenStore => {
    const store = new TokenStore({
      view,
      namespaceId: 'root',
      clock: () => time.nowMs,
      settings: { defaultLeaseTtlSeconds: 32 * DAY_SECONDS, maxLeaseTtlSeconds: 32 * DAY_SECONDS },
      seal: (plaintext) => Buffer.concat([Buffer.from('sealed'), plaintext]),
      open: (sealed) =>
        Buffer.from(sealed.subarray(0, 6)).toString() === 'sealed' ? sealed.subarray(6) : undefined,
      setTimer: (_delayMs, callback) => {
        timers.push(callback);
        return () => void timers.splice(timers.indexOf(callback), 1);
      },
      destroyOwned: async (tokenId) => void destroyed.push(tokenId),
      onExpiryFailure: (error) => failures.push(error),
    });
    view.listeners.push((key) => store.invalidate(key));
    return store;
  };
  const store = makeStore();
  const create = async (changes: Partial<TokenSpec> = {}): Promise<string> =>
    (await store.create({ ...SPEC, ...changes })).auth.clientToken;
  const alive = (...ids: string[]): boolean[] => ids.map((id) => store.lookup(id) !== undefined);
  return { view, time, timers, destroyed, failures, makeStore, store, create, alive };
}

function keysOf(view: { entries: Map<string, unknown> }): string[] {
  return [...view.entries.keys()].map((key) => key.replaceAll(/h[0-9a-f]{64}/g, '#')).toSorted();
}

describe('create()', () => {
  test('stores entry, accessor and parent index in one write', async () => {
    const { view, store, create } = setUp();
    const parent = await create();
    view.writes.length = 0;
    const child = await create({ parent });
    expect(child).toMatch(/^s\.[0-9A-Za-z]{24}$/);
    expect(view.writes.map((operations) => operations.length)).toEqual([3]);
    expect(keysOf(view)).toEqual([
      'sys/token/accessor/#',
      'sys/token/accessor/#',
      'sys/token/id/#',
      'sys/token/id/#',
      'sys/token/parent/#/#',
      'sys/token/salt',
    ]);
    expect([...view.entries.keys()].some((key) => key.includes(child))).toBe(false);
    expect(store.lookup(child)).toMatchObject({ parent, orphan: false, policies: ['default'] });
  });

  test('makes one salt even for two first tokens at once', async () => {
    const { view, create, alive } = setUp();
    const ids = await Promise.all([create(), create()]);
    expect(alive(...ids)).toEqual([true, true]);
    const salts = view.writes.flat().filter((operation) => operation.key === 'sys/token/salt');
    expect(salts).toHaveLength(1);
  });

  test('hands out what the client needs', async () => {
    const { store } = setUp();
    const { auth, warnings } = await store.create({ ...SPEC, meta: { a: 'b' }, numUses: 3 });
    expect(warnings).toEqual([]);
    expect(auth).toMatchObject({
      policies: ['default'],
      tokenPolicies: ['default'],
      metadata: { a: 'b' },
      leaseDurationSeconds: 3600,
      renewable: true,
      tokenType: 'service',
      orphan: true,
      numUses: 3,
    });
    expect(store.lookupAccessor(auth.accessor)?.id).toBe(auth.clientToken);
    expect(await store.listAccessors()).toEqual([auth.accessor]);
  });

  test('takes a chosen id once', async () => {
    const { create, alive } = setUp();
    expect(await create({ id: 'mine' })).toBe('mine');
    expect(alive('mine')).toEqual([true]);
    await expect(create({ id: 'mine' })).rejects.toThrow('a duplicate ID');
    const both = await Promise.allSettled([create({ id: 'two' }), create({ id: 'two' })]);
    expect(both.map((result) => result.status)).toEqual(['fulfilled', 'rejected']);
    await expect(create({ id: 's.x' })).rejects.toThrow("cannot have the 's.' prefix");
    await expect(create({ id: 'hvs.x' })).rejects.toThrow("cannot have the 'hvs.' prefix");
    await expect(create({ id: 'a.b' })).rejects.toThrow("cannot have a '.' in the value");
  });

  test('refuses a parent that is gone', async () => {
    const { view, create } = setUp();
    const parent = await create();
    view.writes.length = 0;
    await expect(create({ parent: 's.nobody' })).rejects.toMatchObject({
      code: 'invalid-request',
      message: 'parent token lookup failed: no parent found',
    });
    expect(view.writes).toEqual([]);
    expect(await create({ parent })).toMatch(/^s\./);
  });

  test('leaves nothing behind when the write fails', async () => {
    const { view, create } = setUp();
    await create();
    const before = keysOf(view);
    view.failNext = new Error('disk');
    await expect(create()).rejects.toThrow('disk');
    expect(keysOf(view)).toEqual(before);
  });
});

describe('lifetime of a new token', () => {
  const rows: [name: string, changes: Partial<TokenSpec>, ttl: number, warnings: number][] = [
    ['as asked', { ttlSeconds: 60 }, 60, 0],
    ['the default', { ttlSeconds: 0 }, 32 * DAY_SECONDS, 0],
    ['at most the maximum', { ttlSeconds: 33 * DAY_SECONDS }, 32 * DAY_SECONDS, 1],
    ['at most its own maximum', { ttlSeconds: 60, explicitMaxTtlSeconds: 30 }, 30, 1],
    [
      'at most that of its role',
      { explicitMaxTtlSeconds: 30, roleExplicitMaxTtlSeconds: 20 },
      20,
      1,
    ],
    ['its period', { ttlSeconds: 60, periodSeconds: 90 }, 90, 0],
    ['the period of its role', { rolePeriodSeconds: 45 }, 45, 0],
    ['a period up to the maximum', { periodSeconds: 40 * DAY_SECONDS }, 32 * DAY_SECONDS, 1],
    ['root: for ever', { policies: ['root'], ttlSeconds: 0 }, 0, 0],
    ['root: as asked', { policies: ['root'], ttlSeconds: 60 }, 60, 0],
    ['root: its maximum', { policies: ['root'], ttlSeconds: 0, explicitMaxTtlSeconds: 9 }, 9, 0],
  ];
  test.each(rows)('%s', async (_name, changes, ttl, warningCount) => {
    const { store, time } = setUp();
    const { auth, warnings } = await store.create({ ...SPEC, ...changes });
    expect(auth.leaseDurationSeconds).toBe(ttl);
    expect(auth.renewable).toBe(ttl > 0);
    expect(warnings).toHaveLength(warningCount);
    const entry = store.lookup(auth.clientToken);
    expect(entry?.expireTimeMs).toBe(ttl === 0 ? null : time.nowMs + ttl * 1000);
    expect(entry?.creationTtlSeconds).toBe(ttl);
  });

  test('the warning has the words of OpenBao', async () => {
    const { warnings } = await setUp().store.create({ ...SPEC, ttlSeconds: 33 * DAY_SECONDS });
    expect(warnings).toEqual([
      'TTL of "792h" exceeded the effective max_ttl of "768h"; TTL value is capped accordingly',
    ]);
  });
});

describe('lookup()', () => {
  test('knows nobody before the first token, and creates no salt', () => {
    const { store, view } = setUp();
    expect(store.lookup('s.x')).toBeUndefined();
    expect(store.lookup('')).toBeUndefined();
    expect(view.writes).toEqual([]);
  });

  test('judges the expiration at each use, cached or not', async () => {
    const { time, create, alive } = setUp();
    const id = await create();
    time.nowMs += HOUR_MS;
    expect(alive(id)).toEqual([true]);
    time.nowMs += 1;
    expect(alive(id)).toEqual([false]);
  });

  test('reads a hit from the cache, and storage after an invalidation', async () => {
    const { view, store, create, alive } = setUp();
    const id = await create();
    expect(alive(id)).toEqual([true]);
    const [idKey] = [...view.entries.keys()].filter((key) => key.startsWith('sys/token/id/'));
    view.entries.delete(idKey ?? '');
    expect(alive(id)).toEqual([true]);
    store.invalidate(idKey);
    expect(alive(id)).toEqual([false]);
  });

  test('forgets everything, the salt too, when everything may have changed', async () => {
    const { view, store, create, alive } = setUp();
    const id = await create();
    expect(alive(id)).toEqual([true]);
    view.entries.clear();
    store.invalidate(undefined);
    expect(alive(id)).toEqual([false]);
  });

  test('sees on another node what the active one wrote', async () => {
    const { makeStore, store, create } = setUp();
    const standby = makeStore();
    const id = await create();
    expect(standby.lookup(id)?.id).toBe(id);
    await store.revokeTree(id);
    expect(standby.lookup(id)).toBeUndefined();
  });
});

describe('batch tokens', () => {
  test('live without storage, for their time', async () => {
    const { view, time, makeStore, create, alive } = setUp();
    const id = await create({ type: 'batch', policies: ['a'], meta: { k: 'v' }, role: 'r' });
    expect(id).toMatch(/^b\.[\w-]+$/);
    expect(view.writes).toEqual([]);
    expect(makeStore().lookup(id)).toEqual({
      id,
      accessor: '',
      namespaceId: 'root',
      type: 'batch',
      policies: ['a'],
      path: 'auth/token/create',
      meta: { k: 'v' },
      displayName: 'token',
      role: 'r',
      parent: '',
      orphan: true,
      numUses: 0,
      creationTimeMs: time.nowMs,
      creationTtlSeconds: 3600,
      explicitMaxTtlSeconds: 0,
      periodSeconds: 0,
      renewable: false,
      lastRenewalMs: null,
      expireTimeMs: time.nowMs + HOUR_MS,
    });
    time.nowMs += HOUR_MS + 1;
    expect(alive(id)).toEqual([false]);
  });

  test('end with their parent', async () => {
    const { store, create, alive } = setUp();
    const parent = await create();
    const id = await create({ type: 'batch', parent });
    expect(alive(id)).toEqual([true]);
    await store.revokeTree(parent);
    expect(alive(id)).toEqual([false]);
  });

  test('are not believed without the seal', () => {
    const { store } = setUp();
    const forged = Buffer.from(JSON.stringify({ policies: ['root'] })).toString('base64url');
    for (const id of ['b.', 'b.!', `b.${forged}`]) expect(store.lookup(id)).toBeUndefined();
  });

  test('have one name each', async () => {
    const { create, alive } = setUp();
    const id = await create({ type: 'batch' });
    const others = [`${id}!`, `${id}=`, `${id}.x`, `${id.slice(0, 9)} ${id.slice(9)}`];
    expect(alive(id, ...others)).toEqual([true, false, false, false, false]);
  });
});

describe('renew()', () => {
  const OWN = { incrementSeconds: 0, periodSeconds: 0, explicitMaxTtlSeconds: 0 };

  test('lasts as long as last time, or as asked, up to the maximum', async () => {
    const { time, store, create } = setUp();
    const id = await create();
    const ttl = async (incrementSeconds: number): Promise<number> =>
      (await store.renew(id, { ...OWN, incrementSeconds })).auth.leaseDurationSeconds;
    time.nowMs += HOUR_MS / 2;
    expect(await ttl(0)).toBe(3600);
    expect(await ttl(7200)).toBe(7200);
    expect(await ttl(0)).toBe(7200);
    expect(await ttl(40 * DAY_SECONDS)).toBe(32 * DAY_SECONDS - 1800);
    expect(store.lookup(id)).toMatchObject({ lastRenewalMs: time.nowMs, creationTtlSeconds: 3600 });
  });

  test('keeps a periodic token alive for ever', async () => {
    const { time, store, create, alive } = setUp();
    const id = await create({ periodSeconds: 3600 });
    for (let day = 0; day < 24 * 40; day += 1) {
      time.nowMs += HOUR_MS;
      await store.renew(id, { ...OWN, periodSeconds: 3600 });
    }
    expect(alive(id)).toEqual([true]);
  });

  const refusals: [
    name: string,
    changes: Partial<TokenSpec>,
    advanceMs: number,
    message: string,
  ][] = [
    ['not renewable', { renewable: false }, 0, 'lease is not renewable'],
    ['root', { policies: ['root'], ttlSeconds: 0 }, 0, 'lease is not renewable'],
    ['expired', {}, HOUR_MS + 1, 'token not found'],
  ];
  test.each(refusals)('refuses: %s', async (_name, changes, advanceMs, message) => {
    const { time, store, create } = setUp();
    const id = await create(changes);
    time.nowMs += advanceMs;
    await expect(store.renew(id, OWN)).rejects.toThrow(message);
  });

  test('refuses when nothing is left of the maximum', async () => {
    const { time, store, create } = setUp();
    const id = await create();
    time.nowMs += 60_000;
    const renewal = store.renew(id, { ...OWN, explicitMaxTtlSeconds: 60 });
    await expect(renewal).rejects.toThrow('past the max TTL, cannot renew');
  });

  test('does not bring back a token that is being revoked, whenever it comes', async () => {
    for (let steps = 0; steps < 40; steps += 1) {
      const { view, store, create } = setUp();
      const id = await create();
      const revocation = store.revokeTree(id);
      await microtasks(steps);
      await Promise.allSettled([revocation, store.renew(id, OWN)]);
      expect(keysOf(view), `after ${steps} steps`).toEqual(['sys/token/salt']);
    }
  });
});

describe('useToken()', () => {
  test('counts down durably, and the last use is the last', async () => {
    const { store, create, alive } = setUp();
    const id = await create({ numUses: 2 });
    const entry = store.lookup(id) as TokenEntry;
    expect((await store.useToken(entry)).numUses).toBe(1);
    expect((await store.useToken(entry)).numUses).toBe(REVOCATION_PENDING);
    expect(alive(id)).toEqual([false]);
    expect(store.lookupTainted(id)?.numUses).toBe(REVOCATION_PENDING);
    await expect(store.useToken(entry)).rejects.toMatchObject({ code: 'permission-denied' });
  });

  test('lets exactly as many of many users through', async () => {
    const { store, create } = setUp();
    const entry = store.lookup(await create({ numUses: 3 })) as TokenEntry;
    const uses = await Promise.allSettled(Array.from({ length: 9 }, () => store.useToken(entry)));
    expect(uses.filter((use) => use.status === 'fulfilled')).toHaveLength(3);
  });

  test('writes nothing for a token without a limit', async () => {
    const { view, store, create } = setUp();
    const entry = store.lookup(await create()) as TokenEntry;
    view.writes.length = 0;
    expect(await store.useToken(entry)).toBe(entry);
    expect(view.writes).toEqual([]);
  });
});

describe('revocation', () => {
  test('takes the whole tree in one write, and leaves no key', async () => {
    const { view, destroyed, store, create, alive } = setUp();
    const root = await create();
    const child = await create({ parent: root });
    const grandchild = await create({ parent: child });
    const other = await create();
    view.writes.length = 0;
    await store.revokeTree(root);
    expect(view.writes).toHaveLength(1);
    expect(destroyed).toEqual([grandchild, child, root]);
    expect(alive(root, child, grandchild, other)).toEqual([false, false, false, true]);
    await store.revokeTree(other);
    expect(keysOf(view)).toEqual(['sys/token/salt']);
  });

  test('of a large tree kills its root first and the rest from the leaves up', async () => {
    const { view, store, create, alive } = setUp();
    const root = await create();
    const children = await Promise.all(Array.from({ length: 250 }, () => create({ parent: root })));
    view.writes.length = 0;
    await store.revokeTree(root);
    expect(view.writes.map((operations) => operations.length)).toEqual([1, 300, 300, 152]);
    expect(alive(root, ...children)).not.toContain(true);
    expect(keysOf(view)).toEqual(['sys/token/salt']);
  });

  test('that fails in between leaves a dead root, and the sweep ends it', async () => {
    const { view, timers, time, store, create, alive, makeStore } = setUp();
    const root = await create();
    const children = await Promise.all(Array.from({ length: 150 }, () => create({ parent: root })));
    const write = view.write.bind(view);
    let left = 2;
    view.write = async (operations) => {
      if (left === 0) throw new Error('no leader');
      left -= 1;
      return write(operations);
    };
    await expect(store.revokeTree(root)).rejects.toThrow('no leader');
    view.write = write;
    expect(alive(root)).toEqual([false]);
    expect(alive(...children)).toContain(true);
    const next = makeStore();
    await next.startExpiry();
    time.nowMs += 1;
    timers.shift()?.();
    await quiet();
    expect(alive(...children)).not.toContain(true);
    expect(keysOf(view)).toEqual(['sys/token/salt']);
  });

  test('of a parent leaves no child that is created at the same time', async () => {
    for (let steps = 0; steps < 40; steps += 1) {
      for (const isBirthFirst of [true, false]) {
        const { view, store, create } = setUp();
        const root = await create();
        const actions = [() => create({ parent: root }), () => store.revokeTree(root)];
        const [first, second] = isBirthFirst ? actions : actions.toReversed();
        const begun = first?.();
        await microtasks(steps);
        await Promise.allSettled([begun, second?.()]);
        expect(keysOf(view), `after ${steps} steps`).toEqual(['sys/token/salt']);
      }
    }
  });

  test('as orphan frees the children', async () => {
    const { view, store, create, alive } = setUp();
    const root = await create();
    const child = await create({ parent: root });
    const grandchild = await create({ parent: child });
    view.writes.length = 0;
    await store.revokeOrphan(root);
    expect(view.writes).toHaveLength(1);
    expect(alive(root, child, grandchild)).toEqual([false, true, true]);
    expect(store.lookup(child)).toMatchObject({ parent: '', orphan: true });
    await store.revokeTree(child);
    expect(keysOf(view)).toEqual(['sys/token/salt']);
  });

  test('as orphan of many children', async () => {
    const { store, create, alive } = setUp();
    const root = await create();
    const children = await Promise.all(Array.from({ length: 205 }, () => create({ parent: root })));
    await store.revokeOrphan(root);
    expect(alive(root)).toEqual([false]);
    expect(alive(...children)).not.toContain(false);
  });

  test('as orphan of children with much metadata stays below the size of a log entry', async () => {
    const { view, store, create, alive } = setUp();
    const root = await create();
    const meta = { note: 'x'.repeat(100_000) };
    const children: string[] = [];
    for (let index = 0; index < 7; index += 1) children.push(await create({ parent: root, meta }));
    view.writes.length = 0;
    await store.revokeOrphan(root);
    expect(alive(...children)).not.toContain(false);
    expect(view.writes.map((operations) => operations.length)).toEqual([1, 4, 4, 4, 4]);
  });

  test('of what does not exist does nothing', async () => {
    const { view, store, create } = setUp();
    await store.revokeTree('s.x');
    await create();
    view.writes.length = 0;
    await store.revokeTree('s.x');
    await store.revokeOrphan('s.x');
    expect(view.writes).toEqual([]);
  });

  test('survives a cycle', async () => {
    const { view, store, create } = setUp();
    const root = await create();
    const child = await create({ parent: root });
    const link = [...view.entries.keys()].find((key) => key.startsWith('sys/token/parent/')) ?? '';
    const [parentHash, childHash] = link.split('/').slice(-2);
    view.entries.set(`sys/token/parent/${childHash}/${parentHash}`, new Uint8Array(0));
    await store.revokeTree(root);
    expect([store.lookup(root), store.lookup(child)]).toEqual([undefined, undefined]);
  });
});

test('a standby writes nothing and says so', async () => {
  const { view, store, create } = setUp();
  const entry = store.lookup(await create({ numUses: 2 })) as TokenEntry;
  view.isReadOnly = true;
  view.writes.length = 0;
  const renewal = { incrementSeconds: 0, periodSeconds: 0, explicitMaxTtlSeconds: 0 };
  const attempts = [
    create(),
    create({ type: 'batch' }),
    store.renew('s.unknown', renewal),
    store.useToken(entry),
    store.revokeTree('s.unknown'),
    store.revokeOrphan('s.unknown'),
  ];
  for (const result of await Promise.allSettled(attempts)) {
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'read-only' } });
  }
  expect(view.writes).toEqual([]);
});

/** Lets others go on, within the turn: no write ends meanwhile. */
async function microtasks(count: number): Promise<void> {
  for (let step = 0; step < count; step += 1) await Promise.resolve();
}

/** Lets all writes under way end: each takes one turn. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
