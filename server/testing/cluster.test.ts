import { describe, expect, test } from 'vitest';

import { simulateCluster } from './cluster.ts';

const SEED_COUNT = 150;

describe('a simulated cluster', () => {
  test('keeps every invariant and recovers, whatever the seed brings', () => {
    let committedCount = 0;
    let crashCount = 0;
    let snapshotCount = 0;
    let configurationCount = 0;
    for (let seed = 1; seed <= SEED_COUNT; seed += 1) {
      try {
        const report = simulateCluster(seed);
        committedCount += report.committedCount;
        crashCount += report.crashCount;
        snapshotCount += report.snapshotCount;
        configurationCount += report.configurationCount;
      } catch (cause) {
        throw new Error(`replay with: npm run sim -- --seed ${seed}`, { cause });
      }
    }
    // A simulation in which little happens proves little.
    expect(committedCount).toBeGreaterThan(5000);
    expect(crashCount).toBeGreaterThan(200);
    expect(snapshotCount).toBeGreaterThan(200);
    expect(configurationCount).toBeGreaterThan(200);
  });

  test('runs the same, event for event, when the seed is the same', () => {
    for (const seed of [3, 17, 92]) {
      expect(simulateCluster(seed)).toEqual(simulateCluster(seed));
    }
    expect(simulateCluster(3).traceHash).not.toBe(simulateCluster(4).traceHash);
  });
});
