import { describe, expect, test } from 'vitest';

import { simulateCluster } from './cluster.ts';

const SEEDS_PER_TEST = 15;
/** Over these, each kind of event must happen more than once a seed on average. */
const COVERAGE_SEEDS = 30;

function replayable(seed: number): ReturnType<typeof simulateCluster> {
  try {
    return simulateCluster(seed);
  } catch (cause) {
    throw new Error(`replay with: npm run sim -- --seed ${seed}`, { cause });
  }
}

describe('a simulated cluster keeps every invariant and recovers', () => {
  test.each(Array.from({ length: 10 }, (_, batch) => 1 + SEEDS_PER_TEST * batch))(
    'with the seeds from %i on',
    (firstSeed) => {
      for (let seed = firstSeed; seed < firstSeed + SEEDS_PER_TEST; seed += 1) {
        expect(replayable(seed).committedCount).toBeGreaterThan(0);
      }
    },
  );
});

describe('a simulation', () => {
  test('runs the same, event for event, when the seed is the same', () => {
    for (const seed of [3, 17, 92]) {
      expect(simulateCluster(seed)).toEqual(simulateCluster(seed));
    }
    expect(simulateCluster(3).traceHash).not.toBe(simulateCluster(4).traceHash);
  });

  test('brings about what it is meant to bring about', () => {
    const totals = { committed: 0, elections: 0, crashes: 0, snapshots: 0, configurations: 0 };
    for (let seed = 1; seed <= COVERAGE_SEEDS; seed += 1) {
      const report = simulateCluster(seed);
      totals.committed += report.committedCount;
      totals.elections += report.electionCount;
      totals.crashes += report.crashCount;
      totals.snapshots += report.snapshotCount;
      totals.configurations += report.configurationCount;
    }
    expect(totals.committed).toBeGreaterThan(20 * COVERAGE_SEEDS);
    expect(totals.elections).toBeGreaterThan(COVERAGE_SEEDS);
    expect(totals.crashes).toBeGreaterThan(COVERAGE_SEEDS);
    expect(totals.snapshots).toBeGreaterThan(COVERAGE_SEEDS);
    expect(totals.configurations).toBeGreaterThan(COVERAGE_SEEDS);
  });
});
