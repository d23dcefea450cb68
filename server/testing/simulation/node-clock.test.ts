import { expect, test } from 'vitest';

import { SleepWatch } from '../../replica/sleep-watch.ts';
import { EventQueue } from './event-queue.ts';
import { NodeClock } from './node-clock.ts';

test('the sleep of a host cannot be hidden by setting its wall clock while it sleeps', () => {
  const queue = new EventQueue();
  const clock = new NodeClock(queue, 5, (run) => run());
  const watch = new SleepWatch(clock);
  clock.stand();
  queue.after(500_000, () => clock.setWall(-500));
  expect(queue.runNext(500_000)).toBe(true);
  clock.go();
  expect(clock.nowMs()).toBe(5);
  expect(watch.hasSlept()).toBe(true);
  clock.setWall(-500);
  expect(watch.hasSlept()).toBe(true);
  expect(watch.hasSlept()).toBe(false);
});
