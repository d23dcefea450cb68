/**
 * `npm run sim -- [--seed N] [--seeds K] [--minutes M]`: runs seeds from N on, for K of them or for
 * M minutes. A seed that fails prints the command that replays it, and the exit code is 1.
 */

import { parseArgs } from 'node:util';

import { planCluster } from './cluster-plan.ts';
import { simulateCluster } from './cluster.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
  },
});

const firstSeed = wholeNumber('seed', values.seed);
const seedCount =
  values.seeds === undefined
    ? values.minutes === undefined
      ? 1
      : Infinity
    : wholeNumber('seeds', values.seeds);
const endMs =
  values.minutes === undefined ? Infinity : Date.now() + 60_000 * Number(values.minutes);

const startMs = Date.now();
const totals = { seeds: 0, events: 0, committed: 0, elections: 0, crashes: 0, snapshots: 0 };
let failureCount = 0;

for (let seed = firstSeed; seed < firstSeed + seedCount && Date.now() < endMs; seed += 1) {
  totals.seeds += 1;
  try {
    const report = simulateCluster(seed);
    totals.events += report.eventCount;
    totals.committed += report.committedCount;
    totals.elections += report.electionCount;
    totals.crashes += report.crashCount;
    totals.snapshots += report.snapshotCount;
    if (seedCount === 1) console.log(JSON.stringify({ seed, plan: planCluster(seed), report }));
  } catch (error) {
    failureCount += 1;
    process.exitCode = 1;
    console.error(error);
    console.error(`seed ${seed} failed; replay it with: npm run sim -- --seed ${seed}`);
  }
}

const seconds = (Date.now() - startMs) / 1000;
const rate = Math.round(totals.events / seconds);
console.log(
  `${totals.seeds} seeds, ${failureCount} failed, ${seconds.toFixed(1)} s, ${rate} events/s: ` +
    `${totals.committed} entries committed, ${totals.elections} elections, ` +
    `${totals.crashes} crashes, ${totals.snapshots} snapshots`,
);

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new RangeError(`Cannot read --${name} "${text}": must be a whole number`);
  }
  return number;
}
