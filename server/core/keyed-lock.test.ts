import { expect, test } from 'vitest';
import { KeyedLock } from './keyed-lock.ts';

test('actions on one key run in order, on others side by side, and leave nothing', async () => {
  const lock = new KeyedLock();
  const events: string[] = [];
  const act = (key: string, name: string): Promise<void> =>
    lock.run(key, async () => {
      events.push(`${name} begins`);
      await Promise.resolve();
      events.push(`${name} ends`);
    });
  await Promise.all([act('k', '1'), act('k', '2'), act('l', '3')]);
  expect(events.indexOf('1 ends')).toBeLessThan(events.indexOf('2 begins'));
  expect(events.indexOf('3 begins')).toBeLessThan(events.indexOf('1 ends'));
  expect(lock.size).toBe(0);
});

test('a failure frees the key', async () => {
  const lock = new KeyedLock();
  await expect(lock.run('k', () => Promise.reject(new Error('x')))).rejects.toThrow('x');
  expect(await lock.run('k', async () => 1)).toBe(1);
  expect(lock.size).toBe(0);
});

test('a queue refuses beyond its limit', async () => {
  const lock = new KeyedLock();
  const releases = Array.from({ length: 1024 }, () => lock.acquire('k'));
  await expect(lock.acquire('k')).rejects.toMatchObject({ code: 'overloaded' });
  for (const release of releases) (await release)();
  expect(lock.size).toBe(0);
});
