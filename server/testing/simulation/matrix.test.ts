import { describe, expect, test } from 'vitest';

import { ROWS, SEEDS, SWARM, WORKLOADS } from './matrix.ts';
import { formatMatrix, runMatrix, type CellOutcome } from './matrix-run.ts';
import { runNodeWorld } from './node-world.ts';
import { planOf } from './plan.ts';

const TIMEOUT_MS = 120_000;

test('every row of the matrix is known and has a number of seeds for each workload', () => {
  for (const [row, counts] of Object.entries(SEEDS)) {
    expect([...Object.keys(ROWS), SWARM]).toContain(row);
    expect(counts).toHaveLength(Object.keys(WORKLOADS).length);
  }
});

test('one seed of each cell keeps every invariant', { timeout: TIMEOUT_MS }, async () => {
  const outcomes: CellOutcome[] = [];
  for await (const outcome of runMatrix(1)) outcomes.push(outcome);
  expect(outcomes.flatMap(({ failures }) => failures)).toEqual([]);
  const cellCount = Object.values(SEEDS)
    .flat()
    .filter((count) => count > 0).length;
  expect(outcomes).toHaveLength(cellCount);
  expect(formatMatrix(outcomes)).toContain('| 1 (');
});

test('a failure is told with its seed and makes its cell', () => {
  const failures = [{ seed: 7, key: 'I5 another entry is applied' }];
  const cell = { row: 'crashes', workload: 'register', seeds: 9, events: 4_400, committed: 3 };
  expect(formatMatrix([{ ...cell, failures }])).toContain('| crashes | 9 (4 k), 1 failed | - |');
});

describe('clients of a workload want nothing else', () => {
  const rows = [
    { name: 'register', level: 'linearizable' },
    { name: 'session', level: 'session' },
    { name: 'bounded', level: 'bounded' },
  ] as const;
  test.each(rows)('$name', { timeout: TIMEOUT_MS }, async ({ name, level }) => {
    const plan = planOf(5, { row: ROWS['none'], workload: WORKLOADS[name] });
    const { counts } = (await runNodeWorld(plan)).coverage;
    const reads = Object.keys(counts).filter((each) => each.startsWith('client: read '));
    expect(reads).toContain(`client: read ${level} ok`);
    expect(reads.filter((each) => !each.includes(level))).toEqual([]);
    const keysMax = Math.max(...plan.operations.map(({ sizes }) => sizes.length));
    expect(keysMax).toBe(WORKLOADS[name]?.keysMax);
  });
});

test('the workload of membership changes the configuration under any trouble', () => {
  const kinds = planOf(5, { row: ROWS['none'], workload: WORKLOADS['membership'] }).nemesis.map(
    ({ kind }) => kind,
  );
  expect(new Set(kinds)).toEqual(new Set(['configure', 'transfer', 'compact', 'transferFault']));
});

test('power loss loses something', () => {
  const losses = Array.from({ length: 20 }, (_, seed) =>
    planOf(seed + 1, { row: ROWS['power-loss'] }).nemesis.map((action) =>
      action.kind === 'crash' ? action.loss : undefined,
    ),
  ).flat();
  expect(losses).toContain('subset');
  expect(losses).not.toContain('nothing');
});
