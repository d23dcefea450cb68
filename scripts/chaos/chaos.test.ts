/** A few cycles of each nemesis. The long runs: `npm run chaos`. */

import { expect, test } from 'vitest';

import type { Operation } from '../../server/testing/history/operation.ts';
import { checkAnswers } from './audit.ts';
import { reportLines, violationCount } from './report.ts';
import { runChaos, type RunReport } from './run.ts';
import { NEMESES } from './stage.ts';

const CYCLES = 2;

/** Each nemesis has one of the two; `npm run chaos` has both of each. */
const CASES = NEMESES.map((nemesis, position) => ({
  nemesis,
  raftThreads: position % 2 === 0 ? ('inline' as const) : ('worker' as const),
}));

test.each(CASES)(
  'under $nemesis ($raftThreads) nothing is lost, doubled, stale or torn',
  async ({ nemesis, raftThreads }) => {
    const report = await runChaos({
      nemesis,
      cyclesMax: CYCLES,
      secondsMax: 30,
      nodeCount: 3,
      raftThreads,
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
    // The same history with one answer changed does not pass.
    for (const history of [withWriteRenumbered(report), withSessionReadBack(report)]) {
      expect(violationCount({ checks: checkAnswers(history) })).toBeGreaterThan(0);
    }
  },
  90_000,
);

function withWriteRenumbered({ operations }: RunReport): Operation[] {
  const target = operations.find(
    ({ outcome }) => outcome.kind === 'ok' && outcome.answer.kind === 'written',
  );
  return operations.map((operation): Operation => {
    const { outcome } = operation;
    if (operation !== target || outcome.kind !== 'ok') return operation;
    return { ...operation, outcome: { ...outcome, answer: { kind: 'written', version: 99 } } };
  });
}

function withSessionReadBack({ operations }: RunReport): Operation[] {
  const target = operations.find(
    ({ call, outcome }) =>
      call.kind === 'read' && call.level === 'session' && outcome.kind === 'ok',
  );
  return operations.map((operation): Operation => {
    const { call, outcome } = operation;
    if (operation !== target || outcome.kind !== 'ok' || call.kind !== 'read') return operation;
    return { ...operation, outcome: { ...outcome, index: (call.token ?? 0) - 1 } };
  });
}
