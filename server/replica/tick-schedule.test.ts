import { expect, test } from 'vitest';
import { TICK_MS, TickSchedule } from './tick-schedule.ts';

const HEARTBEAT_TICKS = 7;

/** What `take` answers at each of `times`, in ticks since the start. */
function taken(times: readonly number[], isLeader = false): (number | undefined)[] {
  const schedule = new TickSchedule(1_000, HEARTBEAT_TICKS);
  return times.map((ticks) => schedule.take(1_000 + ticks * TICK_MS, isLeader));
}

test('early and late timers neither lose nor invent ticks', () => {
  const answers = taken([0.95, 1, 1.97, 2.9, 4.1, 4.9, 5]);
  expect(answers).toEqual([0, 1, 0, 1, 2, 0, 1]);
});

test.each([
  { who: 'a follower', isLeader: false, ticks: 1 },
  { who: 'a leader', isLeader: true, ticks: HEARTBEAT_TICKS },
])('after a stall $who reads the sockets first, and then counts $ticks', ({ isLeader, ticks }) => {
  expect(taken([1, 60, 60.1, 60.2, 61], isLeader)).toEqual([1, undefined, ticks, 0, 1]);
});

test('a second stall right after the first one is judged anew', () => {
  expect(taken([60, 120, 121, 180])).toEqual([undefined, 1, 1, undefined]);
});

test('a stall of a leader that is shorter than a heartbeat is made up for', () => {
  expect(taken([5, 5], true)).toEqual([undefined, 5]);
});
