import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import type { RunReport } from './core-world.ts';
import { addCoverage, emptyCoverage } from './coverage.ts';
import { runNodeWorld } from './node-world.ts';
import { planOf } from './plan.ts';
import { TRANSFER_POINTS } from './transfer-plan.ts';

const SEEDS_PER_TEST = 5;
const BATCHES = 8;
const TIMEOUT_MS = 120_000;
const coverage = emptyCoverage();

async function replayable(seed: number): Promise<RunReport> {
  try {
    return await runNodeWorld(planOf(seed));
  } catch (cause) {
    throw new Error(`replay with: npm run sim -- --world node --seed ${seed}`, { cause });
  }
}

describe('a simulated cluster of whole nodes keeps every invariant and recovers', () => {
  test.each(Array.from({ length: BATCHES }, (_, batch) => 1 + SEEDS_PER_TEST * batch))(
    'with the seeds from %i on',
    async (firstSeed) => {
      for (let seed = firstSeed; seed < firstSeed + SEEDS_PER_TEST; seed += 1) {
        const report = await replayable(seed);
        expect(report.committedCount).toBeGreaterThan(0);
        addCoverage(coverage, report.coverage);
      }
    },
    TIMEOUT_MS,
  );

  test('and brings about what it is meant to bring about', () => {
    const { counts, evaluations } = coverage;
    const wanted = [
      'client: read bounded ok',
      'client: read linearizable ok',
      'client: read session ok',
      'client: read stale ok',
      'client: write ok',
      'client: write unknown',
      'client: write fail conflict',
      'commands in chunks: cut',
      'commands in chunks: joined',
      'crash losing subset',
      'disk: crash before sync',
      'disk: crash before write',
      'disk: disk fault syncError at sync',
      'snapshot delivered',
      'streams: broken',
      'streams: pieces held back',
    ];
    expect(wanted.filter((name) => (counts[name] ?? 0) === 0)).toEqual([]);
    const points = Object.keys(counts).filter((name) => name.startsWith('transfer: crash when'));
    expect(points.length).toBeGreaterThan(TRANSFER_POINTS.length / 3);
    const idle = Object.keys(evaluations).filter((id) => evaluations[id] === 0);
    expect(idle).toEqual([]);
  });
});

describe('a run of whole nodes is its seed', () => {
  test('with and without a reader of its trace', { timeout: TIMEOUT_MS }, async () => {
    const lines: string[] = [];
    const first = await runNodeWorld(planOf(7), { onEvent: (line) => lines.push(line) });
    expect(lines.length).toBeGreaterThan(100);
    expect(await runNodeWorld(planOf(7))).toEqual(first);
    expect((await runNodeWorld(planOf(8))).traceHash).not.toBe(first.traceHash);
  });

  test('in a process of its own', { timeout: TIMEOUT_MS }, async () => {
    const entry = fileURLToPath(new URL('../simulate.js', import.meta.url));
    const args = [entry, '--world', 'node', '--seed', '7'];
    const output = execFileSync(process.execPath, args, { encoding: 'utf8' });
    expect(output).toContain((await runNodeWorld(planOf(7))).traceHash);
  });
});
