import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { runCoreWorld, type RunReport } from './core-world.ts';
import { addCoverage, emptyCoverage } from './coverage.ts';
import { PARTITION_KINDS } from './partitions.ts';
import { planOf } from './plan.ts';
import { ROWS } from './matrix.ts';

const SEEDS_PER_TEST = 20;
const BATCHES = 10;
const coverage = emptyCoverage();

function replayable(seed: number): RunReport {
  try {
    return runCoreWorld(planOf(seed));
  } catch (cause) {
    throw new Error(`replay with: npm run sim -- --seed ${seed}`, { cause });
  }
}

describe('a simulated cluster keeps every invariant and recovers', () => {
  test.each(Array.from({ length: BATCHES }, (_, batch) => 1 + SEEDS_PER_TEST * batch))(
    'with the seeds from %i on',
    (firstSeed) => {
      for (let seed = firstSeed; seed < firstSeed + SEEDS_PER_TEST; seed += 1) {
        const report = replayable(seed);
        expect(report.committedCount).toBeGreaterThan(0);
        addCoverage(coverage, report.coverage);
      }
    },
  );

  test('and brings about what it is meant to bring about', () => {
    const { totals, counts, evaluations } = coverage;
    const seeds = SEEDS_PER_TEST * BATCHES;
    expect(totals['committed']).toBeGreaterThan(20 * seeds);
    expect(totals['elections']).toBeGreaterThan(seeds);
    const wanted = [
      'nemesis crash',
      'nemesis pause',
      'nemesis clog',
      'nemesis transfer',
      'nemesis campaign',
      'snapshot delivered',
      'configuration applied',
      'joint configuration applied',
      'packets: replayed',
      'packets: resets',
      ...PARTITION_KINDS.map((kind) => `nemesis partition: ${kind}`),
    ];
    expect(wanted.filter((name) => (counts[name] ?? 0) === 0)).toEqual([]);
    const idle = Object.keys(evaluations).filter((id) => evaluations[id] === 0);
    // What only real disks and frames do is the node world's.
    expect(idle).toEqual(['I19', 'I24']);
  });
});

describe('each kind of trouble alone', () => {
  test.each(Object.keys(ROWS))('%s', (name) => {
    for (let seed = 1; seed <= 8; seed += 1) {
      const report = runCoreWorld(planOf(seed, { row: ROWS[name] }));
      expect(report.committedCount).toBeGreaterThan(0);
    }
  });
});

describe('a run is its seed', () => {
  test('so the same seed runs the same, event for event', () => {
    for (const seed of [3, 17, 92]) {
      expect(runCoreWorld(planOf(seed))).toEqual(runCoreWorld(planOf(seed)));
    }
    const hashes = [3, 4].map((seed) => runCoreWorld(planOf(seed)).traceHash);
    expect(hashes[0]).not.toBe(hashes[1]);
  });

  test('whether or not somebody reads the trace', () => {
    const lines: string[] = [];
    const traced = runCoreWorld(planOf(17), { onEvent: (line) => lines.push(line) });
    expect(lines.length).toBeGreaterThan(100);
    expect(traced).toEqual(runCoreWorld(planOf(17)));
  });

  test('in a process of its own, too', () => {
    const entry = fileURLToPath(new URL('../simulate.js', import.meta.url));
    const output = execFileSync(process.execPath, [entry, '--seed', '17'], { encoding: 'utf8' });
    expect(output).toContain(runCoreWorld(planOf(17)).traceHash);
  });
});
