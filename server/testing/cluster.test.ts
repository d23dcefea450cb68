import { describe, expect, test } from 'vitest';

import { simulateCluster } from './cluster.ts';

const SEEDS_PER_TEST = 15;

describe('a simulated cluster keeps every invariant and recovers', () => {
  test.each(Array.from({ length: 10 }, (_, batch) => 1 + SEEDS_PER_TEST * batch))(
    'with the seeds from %i on',
    (firstSeed) => {
      const totals = { committed: 0, crashes: 0, snapshots: 0, configurations: 0 };
      for (let seed = firstSeed; seed < firstSeed + SEEDS_PER_TEST; seed += 1) {
        try {
          const report = simulateCluster(seed);
          totals.committed += report.committedCount;
          totals.crashes += report.crashCount;
          totals.snapshots += report.snapshotCount;
          totals.configurations += report.configurationCount;
        } catch (cause) {
          throw new Error(`replay with: npm run sim -- --seed ${seed}`, { cause });
        }
      }
      // A simulation in which little happens proves little.
      expect(totals.committed).toBeGreaterThan(300);
      expect(totals.crashes).toBeGreaterThan(10);
      expect(totals.snapshots).toBeGreaterThan(10);
      expect(totals.configurations).toBeGreaterThan(10);
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
});
