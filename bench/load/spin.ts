/**
 * Keeps the generator's event loop awake while a server's CPU is measured.
 *
 * A process that sleeps has to be woken by whoever answers it, and on one machine that wake-up is
 * charged to the server: a third of the price of a small read, and the more the slower the server
 * is. Real clients sit behind a network card. A loop that spins never has to be woken; the price is
 * a core for the generator.
 */

import { setTimeout as delay } from 'node:timers/promises';

/** Turns of an idle loop are counted for so long before each spin. */
const CALIBRATION_MS = 20;

export type Spin = {
  /** Ends it. Returns the share of the time in which the loop had something to do. */
  stop(): number;
};

/** The shortest seen: a loop that was not quite idle, or code not yet compiled, only makes it longer. */
let idleTurnNs = Infinity;

export async function startSpin(nowNs: () => number): Promise<Spin> {
  const calibration = countTurns(nowNs);
  await delay(CALIBRATION_MS);
  const { turns, elapsedNs } = calibration.stop();
  idleTurnNs = Math.min(idleTurnNs, elapsedNs / turns);
  const turnNs = idleTurnNs;
  const counter = countTurns(nowNs);
  return {
    stop: () => {
      const counted = counter.stop();
      return Math.max(0, 1 - (counted.turns * turnNs) / counted.elapsedNs);
    },
  };
}

/** Spins until it is stopped. A turn does nothing else, for its length is the unit of idleness. */
function countTurns(nowNs: () => number): { stop(): { turns: number; elapsedNs: number } } {
  let turns = 0;
  let isSpinning = true;
  const startNs = nowNs();
  const turn = (): void => {
    turns += 1;
    if (isSpinning) setImmediate(turn);
  };
  setImmediate(turn);
  return {
    stop: () => {
      isSpinning = false;
      return { turns: Math.max(1, turns), elapsedNs: nowNs() - startNs };
    },
  };
}
