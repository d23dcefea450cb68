/** Runs every cell of the matrix on whole nodes, and tells what each of them went through. */

import assert from 'node:assert/strict';

import type { RunReport } from './core-world.ts';
import { failureKey } from './failure.ts';
import { ROWS, SEEDS, WORKLOADS } from './matrix.ts';
import { runNodeWorld } from './node-world.ts';
import { planOf, type Plan } from './plan.ts';

export type CellOutcome = {
  readonly row: string;
  readonly workload: string;
  seeds: number;
  events: number;
  committed: number;
  readonly failures: { readonly seed: number; readonly key: string }[];
};

/** Every cell has seeds, and thereby clusters, of its own. */
const SEEDS_APART = 1_000;

/** In the order of the matrix; `seedsMax` of each cell. */
export async function* runMatrix(seedsMax: number): AsyncGenerator<CellOutcome> {
  let firstSeed = 1;
  for (const [row, counts] of Object.entries(SEEDS)) {
    for (const [position, workload] of Object.keys(WORKLOADS).entries()) {
      const count = Math.min(seedsMax, counts[position] ?? 0);
      if (count > 0) yield await runCell(row, workload, { firstSeed, count });
      firstSeed += SEEDS_APART;
    }
  }
}

async function runCell(
  row: string,
  workload: string,
  { firstSeed, count }: { readonly firstSeed: number; readonly count: number },
): Promise<CellOutcome> {
  const outcome: CellOutcome = { row, workload, seeds: 0, events: 0, committed: 0, failures: [] };
  for (let seed = firstSeed; seed < firstSeed + count; seed += 1) {
    const plan = planOf(seed, { row: ROWS[row], workload: WORKLOADS[workload] });
    outcome.seeds += 1;
    try {
      const report = await runNodeWorld(plan);
      if (row === 'none') await checkRepeats(plan, report);
      outcome.events += report.coverage.totals['events'] ?? 0;
      outcome.committed += report.committedCount;
    } catch (error) {
      outcome.failures.push({ seed, key: failureKey(error) });
    }
  }
  return outcome;
}

/** What is not the same twice cannot be replayed. */
async function checkRepeats(plan: Plan, { traceHash }: RunReport): Promise<void> {
  assert.equal((await runNodeWorld(plan)).traceHash, traceHash, 'a seed runs in two ways');
}

/** One line for each row: seeds, thousands of events and, if there are any, failures. */
export function formatMatrix(outcomes: readonly CellOutcome[]): string {
  const workloads = Object.keys(WORKLOADS);
  const lines = [
    `| nemesis | ${workloads.join(' | ')} |`,
    `| --- |${' --- |'.repeat(workloads.length)}`,
  ];
  for (const row of Object.keys(SEEDS)) {
    const cells = workloads.map((workload) =>
      formatCell(outcomes.find((each) => each.row === row && each.workload === workload)),
    );
    lines.push(`| ${row} | ${cells.join(' | ')} |`);
  }
  return lines.join('\n');
}

function formatCell(outcome: CellOutcome | undefined): string {
  if (outcome === undefined) return '-';
  const { seeds, events, failures } = outcome;
  return `${seeds} (${Math.round(events / 1000)} k), ${failures.length} failed`;
}
