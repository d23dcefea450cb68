/** A few cycles of each nemesis. The long runs: `npm run chaos`. */

import { expect, test } from 'vitest';

import { reportLines, violationCount } from './report.ts';
import { runChaos } from './run.ts';
import { NEMESES } from './stage.ts';

const CYCLES = 2;

test.each(NEMESES)(
  'under %s nothing is lost, doubled, stale or torn',
  async (nemesis) => {
    const report = await runChaos({
      nemesis,
      cyclesMax: CYCLES,
      secondsMax: 30,
      nodeCount: 3,
      operationsPerSecond: 100,
      seed: 7,
      historyDirectory: undefined,
    });
    if (report === undefined) {
      process.stderr.write(`${nemesis}: skipped, this process lacks the right to do that\n`);
      return;
    }
    const lines = reportLines(report);
    process.stderr.write(`${lines.join('\n')}\n`);
    expect(violationCount(report), lines.join('\n')).toBe(0);
    expect(report.cycleCount).toBe(CYCLES);
    for (const { name, count } of report.checks) expect(count, name).toBeGreaterThan(2);
  },
  90_000,
);
