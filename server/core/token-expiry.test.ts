import { describe, expect, test } from 'vitest';
import { TokenExpiry } from './token-expiry.ts';
import type { Expiration } from './token-expiry.ts';

function setUp(pages: readonly (readonly Expiration[])[] = []) {
  const time = { nowMs: 0 };
  const timers = new Map<() => void, number>();
  const revoked: [string, number][] = [];
  const failures: (string | undefined)[] = [];
  const control = {
    /** What storage says; absent means revoke now. */
    later: new Map<string, number>(),
    failing: new Set<string>(),
    onExpire: (_id: string): void => undefined,
  };
  const expiry = new TokenExpiry({
    clock: () => time.nowMs,
    setTimer: (delayMs, callback) => {
      timers.set(callback, time.nowMs + delayMs);
      return () => void timers.delete(callback);
    },
    restore: async function* () {
      for (const page of pages) yield page;
    },
    expire: async (saltedId) => {
      control.onExpire(saltedId);
      await Promise.resolve();
      if (control.failing.has(saltedId)) throw new Error('no leader');
      const dueMs = control.later.get(saltedId);
      if (dueMs !== undefined && time.nowMs <= dueMs) return dueMs;
      revoked.push([saltedId, time.nowMs]);
      return null;
    },
    onFailure: (_error, saltedId) => failures.push(saltedId),
  });
  /** Moves the clock from timer to timer. */
  const advanceTo = async (endMs: number): Promise<void> => {
    for (let step = 0; step < 1000; step += 1) {
      const [next] = [...timers].toSorted(([, left], [, right]) => left - right);
      if (next === undefined || endMs < next[1]) break;
      time.nowMs = Math.max(time.nowMs, next[1]);
      timers.delete(next[0]);
      next[0]();
      await new Promise((resolve) => setImmediate(resolve));
    }
    time.nowMs = endMs;
  };
  return { time, timers, revoked, failures, control, expiry, advanceTo };
}

test('revokes restored and new tokens in the order of their time', async () => {
  const { expiry, revoked, advanceTo } = setUp([
    [
      { saltedId: 'c', dueMs: 300 },
      { saltedId: 'a', dueMs: 100 },
    ],
    [{ saltedId: 'd', dueMs: 400 }],
  ]);
  await expiry.start();
  expiry.schedule('b', 200);
  await advanceTo(300);
  expect(revoked).toEqual([
    ['a', 101],
    ['b', 201],
  ]);
  await advanceTo(500);
  expect(revoked.map(([id]) => id)).toEqual(['a', 'b', 'c', 'd']);
});

test('asks again later for a token that was renewed', async () => {
  const { expiry, revoked, control, advanceTo } = setUp();
  control.later.set('a', 5000);
  expiry.schedule('a', 100);
  await advanceTo(4999);
  expect(revoked).toEqual([]);
  await advanceTo(6000);
  expect(revoked).toEqual([['a', 5001]]);
});

test('works through many due tokens in bounded batches', async () => {
  const { expiry, revoked, control, advanceTo } = setUp();
  let inFlight = 0;
  let inFlightMax = 0;
  control.onExpire = () => {
    inFlight += 1;
    inFlightMax = Math.max(inFlightMax, inFlight);
    queueMicrotask(() => (inFlight -= 1));
  };
  for (let index = 0; index < 1000; index += 1) expiry.schedule(`t${index}`, index % 7);
  await advanceTo(10);
  expect(revoked).toHaveLength(1000);
  expect(inFlightMax).toBeLessThanOrEqual(64);
});

test('tries again, later each time, and gives up', async () => {
  const { expiry, failures, control, advanceTo, time, timers } = setUp();
  const attemptsMs: number[] = [];
  control.failing.add('a');
  control.onExpire = () => void attemptsMs.push(time.nowMs);
  expiry.schedule('a', 0);
  await advanceTo(120_000);
  expect(attemptsMs).toEqual([1, 1002, 3003, 7004, 15_005, 31_006]);
  expect(failures).toHaveLength(6);
  expect(timers.size).toBe(0);
});

test('a failure does not hold up others', async () => {
  const { expiry, revoked, control, advanceTo } = setUp();
  control.failing.add('a');
  expiry.schedule('a', 10);
  expiry.schedule('b', 10);
  await advanceTo(20);
  control.failing.clear();
  await advanceTo(5000);
  expect(revoked.map(([id]) => id)).toEqual(['b', 'a']);
});

describe('memory', () => {
  test('does not grow with renewals, and none of them is missed', async () => {
    const { expiry, revoked, control, advanceTo } = setUp();
    for (let dueMs = 100; dueMs <= 50_000; dueMs += 1) expiry.schedule('a', dueMs);
    expect(expiry.size).toBe(1);
    control.later.set('a', 50_000);
    await advanceTo(50_000);
    expect(revoked).toEqual([]);
    await advanceTo(50_001);
    expect(revoked).toEqual([['a', 50_001]]);
  });

  test('does not grow with tokens that were revoked before their time', async () => {
    const { expiry, revoked, advanceTo } = setUp();
    expiry.schedule('kept', 5000);
    for (let token = 0; token < 10_000; token += 1) {
      expiry.schedule(`t${token}`, 100);
      expiry.forget(`t${token}`);
    }
    expect(expiry.size).toBeLessThan(1100);
    await advanceTo(6000);
    expect(revoked).toEqual([['kept', 5001]]);
  });

  test('an earlier moment counts', async () => {
    const { expiry, revoked, advanceTo } = setUp();
    expiry.schedule('a', 5000);
    expiry.schedule('a', 100);
    await advanceTo(6000);
    expect(revoked).toEqual([['a', 101]]);
  });
});

describe('after stop()', () => {
  test('no timer is left and nothing more begins', async () => {
    const { expiry, revoked, timers, advanceTo } = setUp([[{ saltedId: 'a', dueMs: 10 }]]);
    await expiry.start();
    expiry.stop();
    expiry.schedule('b', 10);
    expect(timers.size).toBe(0);
    await advanceTo(100);
    expect(revoked).toEqual([]);
  });

  test('a sweep under way ends with its batch, and its failures are silent', async () => {
    const { expiry, control, failures, advanceTo } = setUp();
    const begun: string[] = [];
    for (let index = 0; index < 200; index += 1) {
      expiry.schedule(`t${index}`, 0);
      control.failing.add(`t${index}`);
    }
    control.onExpire = (id) => {
      begun.push(id);
      if (begun.length === 64) expiry.stop();
    };
    await advanceTo(10);
    expect(begun).toHaveLength(64);
    expect(failures).toEqual([]);
  });

  test('a restore under way ends', async () => {
    const { expiry, timers } = setUp([
      [{ saltedId: 'a', dueMs: 10 }],
      [{ saltedId: 'b', dueMs: 10 }],
    ]);
    const started = expiry.start();
    expiry.stop();
    await started;
    expect(timers.size).toBe(0);
  });
});

test('sleeps no longer than a timer can count', () => {
  const { expiry, timers } = setUp();
  expiry.schedule('a', 10 ** 12);
  expect([...timers.values()]).toEqual([3_600_000]);
});
