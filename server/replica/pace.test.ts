import { expect, test } from 'vitest';
import type { Clock } from './clock.ts';
import { Pace } from './pace.ts';

const RATE = 1_000_000;

type Timer = { readonly atMs: number; readonly run: () => void };

/** Time that passes only by `advance`, which runs what is due. */
function manualClock() {
  let nowMs = 1_000;
  const timers = new Set<Timer>();
  const clock: Clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    nextTurn: setImmediate,
    after: (delayMs, run) => {
      const timer = { atMs: nowMs + delayMs, run };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    every: () => () => undefined,
  };
  const advance = async (ms: number): Promise<void> => {
    nowMs += ms;
    for (const timer of timers) {
      if (nowMs < timer.atMs) continue;
      timers.delete(timer);
      timer.run();
    }
    await new Promise(setImmediate);
  };
  return { clock, advance, timers };
}

/** Spends so often; tells how many of them have got through. */
function spender(pace: Pace, times: number, bytes: number): { done: number } {
  const progress = { done: 0 };
  void (async () => {
    for (let time = 0; time < times; time += 1) {
      await pace.spend(bytes);
      progress.done += 1;
    }
  })();
  return progress;
}

test('all who spend share one rate, and a pause is not saved up', async () => {
  const { clock, advance } = manualClock();
  const pace = new Pace(RATE, clock);
  const progress = [spender(pace, 1_000, 10_000), spender(pace, 1_000, 10_000)];
  const spent = (): number => progress.reduce((sum, { done }) => sum + done, 0) * 10_000;
  for (let ms = 0; ms < 500; ms += 5) await advance(5);
  expect(spent()).toBeGreaterThanOrEqual(RATE * 0.48);
  expect(spent()).toBeLessThanOrEqual(RATE * 0.56);
  const before = spent();
  // As after a laptop's sleep: late by ten minutes, and no more than the usual to make up for.
  await advance(600_000);
  for (let ms = 0; ms < 100; ms += 5) await advance(5);
  expect(spent() - before).toBeLessThanOrEqual(RATE * 0.16);
});

test('a chunk larger than a second is paid for by what follows', async () => {
  const { clock, advance } = manualClock();
  const pace = new Pace(RATE, clock);
  const progress = spender(pace, 2, 3 * RATE);
  await advance(0);
  expect(progress.done).toBe(1);
  await advance(2_900);
  expect(progress.done).toBe(1);
  await advance(100);
  expect(progress.done).toBe(2);
});

test('0 is no limit', async () => {
  const { clock, advance, timers } = manualClock();
  const progress = spender(new Pace(0, clock), 100, 1e9);
  await advance(0);
  expect(progress.done).toBe(100);
  expect(timers.size).toBe(0);
});

test('a lifted pace lets go of those who wait, and holds nobody any more', async () => {
  const { clock, advance, timers } = manualClock();
  const pace = new Pace(1, clock);
  const progress = [spender(pace, 50, 1e9), spender(pace, 50, 1e9)];
  await advance(0);
  expect(timers.size).toBe(2);
  pace.lift();
  await advance(0);
  expect(progress).toEqual([{ done: 50 }, { done: 50 }]);
  expect(timers.size).toBe(0);
});
