/** What a run says on the terminal: what was done, what came of it, and every violation. */

import { describeOperation, type Operation } from '../../server/testing/history/operation.ts';
import type { Check } from './audit.ts';
import type { Damage, RunReport } from './run.ts';

const VIOLATIONS_SHOWN = 3;

export function reportLines(report: RunReport): string[] {
  const { nemesis, seconds, cycleCount, operations, droppedCount, checks } = report;
  return [
    `${nemesis}: ${cycleCount} cycles in ${seconds.toFixed(0)} s, ${operations.length} operations` +
      ` (${droppedCount} dropped); reads ${report.levels.join(', ')}`,
    ...(['read', 'write', 'delete'] as const).map((kind) => outcomeLine(kind, operations)),
    ...outageLines(report),
    ...checks.flatMap(checkLines),
  ];
}

export function violationCount({ checks }: Pick<RunReport, 'checks'>): number {
  return checks.reduce((sum, { violations }) => sum + violations.length, 0);
}

function outcomeLine(kind: Operation['call']['kind'], operations: readonly Operation[]): string {
  const counts = { ok: 0, fail: 0, unknown: 0 };
  for (const { call, outcome } of operations) if (call.kind === kind) counts[outcome.kind] += 1;
  const { ok, fail, unknown } = counts;
  return `  ${kind.padEnd(6)} ok ${ok}, failed ${fail}, unknown ${unknown}`;
}

/** From each damage to the first answer to a write that began after it. */
function outageLines({ damages, operations }: RunReport): string[] {
  const writes = operations
    .filter(({ call, outcome }) => call.kind === 'write' && outcome.kind === 'ok')
    .toSorted((a, b) => a.invokedNs - b.invokedNs);
  const byKind = new Map<string, number[]>();
  for (const damage of damages) {
    const outageMs = outageMsOf(damage, writes);
    if (outageMs === undefined) continue;
    byKind.set(damage.what, [...(byKind.get(damage.what) ?? []), outageMs]);
  }
  return [...byKind].map(([what, outagesMs]) => {
    const sorted = outagesMs.toSorted((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
    const longest = sorted.at(-1) ?? 0;
    return (
      `  ${what}, ${sorted.length} times: writes again after ` +
      `${median.toFixed(0)} ms (median), ${longest.toFixed(0)} ms (longest)`
    );
  });
}

function outageMsOf({ atNs }: Damage, writes: readonly Operation[]): number | undefined {
  let firstNs = Infinity;
  for (const { invokedNs, completedNs } of writes) {
    if (firstNs < invokedNs) break;
    if (atNs <= invokedNs) firstNs = Math.min(firstNs, completedNs);
  }
  return firstNs === Infinity ? undefined : (firstNs - atNs) / 1e6;
}

export function checkLines({ name, count, unit, violations }: Check): string[] {
  const verdict = violations.length === 0 ? 'ok' : `${violations.length} VIOLATIONS`;
  return [
    `  ${name}: ${verdict} (${count} ${unit})`,
    ...violations
      .slice(0, VIOLATIONS_SHOWN)
      .flatMap(({ rule, message, key, evidence }) => [
        `    ${rule}${key === '' ? '' : ` of ${key}`}: ${message}`,
        ...evidence.map((operation) => `      ${describeOperation(operation)}`),
      ]),
  ];
}
