import { expect, test } from 'vitest';
import { Random } from '../testing/random.ts';
import { CLOCK_DRIFT_MAX, LEASE_SLACK_TICKS, leaseMsOf } from './lease.ts';
import { TICK_MS, TickSchedule } from './tick-schedule.ts';

const HEARTBEAT_TICKS = 7;
const ELECTION_TICKS = 25;

/**
 * How long a voter that answers a heartbeat in some turn refuses its vote, by its own clock. Turns
 * come when they like: on time, late, in bursts, after stalls in which other words arrived or none.
 */
function refusalMs(random: Random): number {
  const schedule = new TickSchedule(0, HEARTBEAT_TICKS);
  const heardTurn = random.between(1, 6);
  let nowMs = 0;
  let heardMs = 0;
  let promisedTicks = Infinity;
  for (let turn = 1; promisedTicks > 0; turn += 1) {
    const ticksMax = random.pick([0.2, 1, 1, 1, 3.2, 3.2, 40]);
    nowMs += random.between(0, ticksMax * TICK_MS * 1_000) / 1_000;
    const isHeard = turn === heardTurn;
    if (isHeard) {
      heardMs = nowMs;
      promisedTicks = ELECTION_TICKS;
    }
    const others = turn < heardTurn && random.chance(0.3);
    promisedTicks -= schedule.take(nowMs, { isLeader: false, isHeard: isHeard || others }) ?? 0;
  }
  return nowMs - heardMs;
}

test('a lease ends before anyone who gave it votes for another, by clocks that drift', () => {
  const random = new Random(1, 'lease');
  const refusals = Array.from({ length: 20_000 }, () => refusalMs(random));
  const shortestMs = Math.min(...refusals);
  const leaseMs = leaseMsOf(ELECTION_TICKS, TICK_MS);
  expect(leaseMs).toBeLessThan(shortestMs / (1 + CLOCK_DRIFT_MAX));
  // The slack is not there for nothing.
  expect(shortestMs).toBeLessThan((ELECTION_TICKS - LEASE_SLACK_TICKS + 0.5) * TICK_MS);
});

test('where nothing is left of the timeout there is no lease', () => {
  expect(leaseMsOf(LEASE_SLACK_TICKS, TICK_MS)).toBe(0);
  expect(leaseMsOf(1, TICK_MS)).toBe(0);
});
