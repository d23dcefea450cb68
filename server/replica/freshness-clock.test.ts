import { expect, test } from 'vitest';
import { FreshnessClock } from './freshness-clock.ts';
import { SleepWatch } from './sleep-watch.ts';

/** A node with clocks and an applied index that the test sets. */
function start() {
  const node = { nowMs: 1_000, wallMs: 50_000, applied: 0 };
  const timers = { nextTurn: () => undefined, after: () => () => undefined };
  const clock = {
    ...timers,
    every: () => () => undefined,
    nowMs: () => node.nowMs,
    wallMs: () => node.wallMs,
  };
  const freshness = new FreshnessClock(clock, () => node.applied);
  const pass = (ms: number): void => {
    node.nowMs += ms;
    node.wallMs += ms;
  };
  return { node, clock, freshness, pass };
}

test('without evidence nothing is known', () => {
  expect(start().freshness.stalenessMs()).toBeUndefined();
});

test('evidence counts once its index is applied, and then grows old', () => {
  const { node, freshness, pass } = start();
  freshness.learn({ asOfMs: 990, index: 5 });
  expect(freshness.stalenessMs()).toBeUndefined();
  pass(100);
  node.applied = 5;
  expect(freshness.stalenessMs()).toBe(110);
  pass(1);
  expect(freshness.stalenessMs()).toBe(111);
});

test('a state machine that is held up grows old, whatever the leader says', () => {
  const { node, freshness, pass } = start();
  node.applied = 5;
  freshness.learn({ asOfMs: 1_000, index: 5 });
  for (let heartbeat = 1; heartbeat <= 40; heartbeat += 1) {
    pass(150);
    freshness.learn({ asOfMs: node.nowMs, index: 5 + heartbeat });
  }
  expect(freshness.stalenessMs()).toBe(6_000);
  // It had to forget some evidence. What it kept is true.
  node.applied = 6;
  expect(freshness.stalenessMs()).toBe(6_000 - 150);
  node.applied = 45;
  expect(freshness.stalenessMs()).toBe(0);
});

test('evidence that is told again and again takes the place of none', () => {
  const { node, freshness } = start();
  for (let turn = 0; turn < 100; turn += 1) freshness.learn({ asOfMs: 990, index: 9 });
  freshness.learn({ asOfMs: 980, index: 5 });
  node.applied = 5;
  expect(freshness.stalenessMs()).toBe(20);
  node.applied = 9;
  expect(freshness.stalenessMs()).toBe(10);
});

test('older evidence that comes later makes nothing older', () => {
  const { node, freshness } = start();
  node.applied = 9;
  freshness.learn({ asOfMs: 1_000, index: 9 });
  freshness.learn({ asOfMs: 500, index: 8 });
  expect(freshness.stalenessMs()).toBe(0);
});

test('a machine that has slept knows nothing, until evidence from afterwards', () => {
  const { node, freshness, pass } = start();
  node.applied = 9;
  freshness.learn({ asOfMs: 1_000, index: 9 });
  // The monotonic clock stood still for an hour.
  node.wallMs += 3_600_000;
  expect(freshness.stalenessMs()).toBeUndefined();
  // An answer that was under way meanwhile.
  freshness.learn({ asOfMs: 999, index: 9 });
  expect(freshness.stalenessMs()).toBeUndefined();
  pass(5);
  freshness.learn({ asOfMs: node.nowMs, index: 9 });
  expect(freshness.stalenessMs()).toBe(0);
});

test('a sleep is told once, and what a wall clock is slewed by is none', () => {
  const { node, clock } = start();
  const sleep = new SleepWatch(clock);
  node.wallMs += 10;
  expect(sleep.hasSlept()).toBe(false);
  node.wallMs += 10;
  expect(sleep.hasSlept()).toBe(false);
  node.wallMs -= 21;
  expect(sleep.hasSlept()).toBe(true);
  expect(sleep.hasSlept()).toBe(false);
});
