import { expect, test } from 'vitest';
import { TICK_MS, TickSchedule } from './tick-schedule.ts';

const HEARTBEAT_TICKS = 7;

/** What `take` answers at each of `times`, in ticks since the start. */
function taken(
  times: readonly number[],
  { isLeader = false, heardAt = times }: { isLeader?: boolean; heardAt?: readonly number[] } = {},
): (number | undefined)[] {
  const schedule = new TickSchedule(1_000, HEARTBEAT_TICKS);
  return times.map((ticks) => {
    const isHeard = heardAt.includes(ticks);
    return schedule.take(1_000 + ticks * TICK_MS, { isLeader, isHeard });
  });
}

test('early and late timers neither lose nor invent ticks', () => {
  const answers = taken([0.95, 1, 1.97, 2.9, 4.1, 4.9, 5]);
  expect(answers).toEqual([0, 1, 0, 1, 2, 0, 1]);
});

test.each([
  { who: 'a follower', isLeader: false, ticks: 1 },
  { who: 'a leader', isLeader: true, ticks: HEARTBEAT_TICKS },
])('after a stall $who reads the sockets first, and then counts $ticks', ({ isLeader, ticks }) => {
  expect(taken([1, 60, 60.1, 60.2, 61], { isLeader })).toEqual([1, undefined, ticks, 0, 1]);
});

test('a second stall right after the first one is judged anew', () => {
  expect(taken([60, 120, 121, 180])).toEqual([undefined, 1, 1, undefined]);
});

test('a stall of a leader that is shorter than a heartbeat is made up for', () => {
  expect(taken([5, 5], { isLeader: true })).toEqual([undefined, 5]);
});

test.each([
  { what: 'a word before the sockets were read', heardAt: [60], ticks: 1 },
  { what: 'a word in the sockets', heardAt: [60.1], ticks: 1 },
  { what: 'a word before the stall only', heardAt: [1], ticks: HEARTBEAT_TICKS },
  { what: 'no word', heardAt: [], ticks: HEARTBEAT_TICKS },
])('$what: a follower counts $ticks of a stall', ({ heardAt, ticks }) => {
  expect(taken([1, 60, 60.1, 61], { heardAt })).toEqual([1, undefined, ticks, 1]);
});

test('a word counts for one stall only, and silence for no longer than it was', () => {
  const answers = taken([60, 60, 64, 64, 124, 124], { heardAt: [60] });
  expect(answers).toEqual([undefined, 1, undefined, 4, undefined, HEARTBEAT_TICKS]);
});
