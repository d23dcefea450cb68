/** The `Clock` of replicas under simulation: its time is that of an event queue. */

import type { Clock } from '../../replica/clock.ts';
import type { EventQueue } from './event-queue.ts';

export function simulatedClock(queue: EventQueue): Clock {
  const after = (delayMs: number, run: () => void): (() => void) => {
    let isCancelled = false;
    queue.after(delayMs * 1000, () => {
      if (!isCancelled) run();
    });
    return () => (isCancelled = true);
  };
  return {
    nowMs: () => queue.nowUs / 1000,
    wallMs: () => queue.nowUs / 1000,
    nextTurn: (turn) => queue.after(0, turn),
    after,
    every: (periodMs, run) => {
      let cancel = (): void => undefined;
      const repeat = (): void => {
        cancel = after(periodMs, () => {
          // First, so that `run` may call it off.
          repeat();
          run();
        });
      };
      repeat();
      return () => cancel();
    },
  };
}
