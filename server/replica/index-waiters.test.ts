import { assert, array, constantFrom, nat, property, record } from 'fast-check';
import { expect, test } from 'vitest';
import { EventQueue } from '../testing/simulation/event-queue.ts';
import { simulatedClock } from '../testing/simulation/simulated-clock.ts';
import { Heap } from './heap.ts';
import { IndexWaiters, WAITERS_MAX } from './index-waiters.ts';

/** Waits and a clock that the test moves; `ended` lists names in the order in which waits ended. */
function start() {
  const queue = new EventQueue();
  const waiters = new IndexWaiters(simulatedClock(queue));
  const ended: string[] = [];
  return {
    queue,
    waiters,
    ended,
    wait(name: string, index: number, timeoutMs: number): void {
      const end = async (): Promise<void> => {
        const isReached = await waiters.wait(index, timeoutMs);
        ended.push(`${name} ${isReached ? 'reached' : 'late'}`);
      };
      void end();
    },
    async passTo(ms: number): Promise<void> {
      while (queue.runNext(ms * 1000));
      queue.nowUs = ms * 1000;
      await Promise.resolve();
    },
  };
}

test('an index wakes all who wait for it or for less, lowest first', async () => {
  const { waiters, ended, wait, passTo } = start();
  wait('b', 8, 100);
  wait('c', 9, 100);
  wait('a', 7, 100);
  waiters.reach(8);
  await passTo(1);
  expect(ended).toEqual(['a reached', 'b reached']);
  expect(waiters.size).toBe(1);
});

test('each deadline counts for itself, under one timer', async () => {
  const { queue, waiters, ended, wait, passTo } = start();
  wait('long', 9, 300);
  wait('short', 9, 100);
  wait('reached', 5, 100);
  waiters.reach(5);
  await passTo(99);
  expect(ended).toEqual(['reached reached']);
  await passTo(100);
  expect(ended.at(-1)).toBe('short late');
  await passTo(300);
  expect(ended.at(-1)).toBe('long late');
  expect(waiters.size).toBe(0);
  // One timer for the long wait, one that replaced it, and one more for what was left.
  expect(queue.eventCount).toBeLessThanOrEqual(3);
});

test('who comes when too many wait is answered at once, and room is made again', async () => {
  const { waiters, ended, wait, passTo } = start();
  for (let count = 0; count < WAITERS_MAX; count += 1) wait('one', 9, 100);
  wait('too many', 9, 100);
  await Promise.resolve();
  expect(ended).toEqual(['too many late']);
  await passTo(100);
  expect(ended.length).toBe(WAITERS_MAX + 1);
  wait('next', 9, 100);
  waiters.reach(9);
  await Promise.resolve();
  expect(ended.at(-1)).toBe('next reached');
});

test('no time to wait is no wait', async () => {
  const { waiters } = start();
  expect(await waiters.wait(9, 0)).toBe(false);
  expect(waiters.size).toBe(0);
});

test('a heap gives the least first, whatever was added and removed before', () => {
  const step = record({ kind: constantFrom('add', 'remove', 'first'), key: nat(20) });
  assert(
    property(array(step, { maxLength: 60 }), (steps) => {
      const heap = new Heap<{ readonly key: number }>(({ key }) => key);
      let held: { readonly key: number }[] = [];
      for (const { kind, key } of steps) {
        if (kind === 'add') {
          const item = { key };
          heap.add(item);
          held.push(item);
        } else if (kind === 'remove') {
          const item = held[key % Math.max(1, held.length)] ?? { key };
          heap.remove(item);
          held = held.filter((each) => each !== item);
        }
        const least = held.length === 0 ? undefined : Math.min(...held.map((each) => each.key));
        if (heap.first()?.key !== least || heap.size !== held.length) return false;
      }
      return true;
    }),
    { numRuns: 500, seed: 1 },
  );
});
