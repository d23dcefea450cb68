import { expect, test } from 'vitest';
import { KeyLock } from './key-lock.ts';

test('one key is held by one at a time, in order; others run meanwhile', async () => {
  const lock = new KeyLock();
  const events: string[] = [];
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const first = lock.run('a', async () => {
    events.push('first starts');
    await gate;
    events.push('first ends');
  });
  const second = lock.run('a', async () => void events.push('second'));
  const third = lock.run('a', async () => void events.push('third'));
  await lock.run('b', async () => void events.push('other key'));
  release();
  await Promise.all([first, second, third]);
  expect(events).toEqual(['first starts', 'other key', 'first ends', 'second', 'third']);
  expect(lock.size).toBe(0);
});

test('a failure releases the key and is the failure of its own caller only', async () => {
  const lock = new KeyLock();
  const failing = lock.run('a', async () => {
    throw new Error('disk');
  });
  const next = lock.run('a', async () => 'fine');
  await expect(failing).rejects.toThrow('disk');
  expect(await next).toBe('fine');
  expect(lock.size).toBe(0);
});

test('a queue has a limit', async () => {
  const lock = new KeyLock();
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const attempts = Array.from({ length: 1100 }, () => lock.run('a', () => gate));
  const settled = Promise.allSettled(attempts);
  await expect(lock.run('a', async () => undefined)).rejects.toThrow(
    expect.objectContaining({ code: 'overloaded' }),
  );
  expect(await lock.run('b', async () => 1)).toBe(1);
  release();
  const refused = (await settled).filter((result) => result.status === 'rejected');
  expect(refused).toHaveLength(1100 - 1025);
  expect(lock.size).toBe(0);
});
