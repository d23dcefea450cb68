/**
 * Keeps the generator's event loop awake while a server's CPU is measured.
 *
 * A process that sleeps has to be woken by whoever answers it, and on one machine that wake-up is
 * charged to the server: a third of the price of a small read, and the more the slower the server
 * is. Real clients sit behind a network card. A loop that spins never has to be woken; the price is
 * a core for the generator.
 */

/** Turns of an idle loop are timed for so long, once. */
const CALIBRATION_NS = 50_000_000;

export type Spin = {
  /** Ends it. Returns the share of the time in which the loop had something to do. */
  stop(): number;
};

let idleTurnNs: number | undefined;

export async function startSpin(nowNs: () => number): Promise<Spin> {
  idleTurnNs ??= await timeIdleTurn(nowNs);
  const turnNs = idleTurnNs;
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
      return Math.max(0, 1 - (turns * turnNs) / (nowNs() - startNs));
    },
  };
}

function timeIdleTurn(nowNs: () => number): Promise<number> {
  return new Promise((resolve) => {
    const startNs = nowNs();
    let turns = 0;
    const turn = (): void => {
      turns += 1;
      const elapsedNs = nowNs() - startNs;
      if (elapsedNs < CALIBRATION_NS) setImmediate(turn);
      else resolve(elapsedNs / turns);
    };
    setImmediate(turn);
  });
}
