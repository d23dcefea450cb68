import { describe, expect, test } from 'vitest';

import { runScript } from '../golden.ts';
import { runCoreWorld } from './core-world.ts';
import { InvariantViolation } from './invariants.ts';
import { planOf } from './plan.ts';
import { Script } from './script.ts';
import { minimize, shrink } from './shrink.ts';

describe('shrinking', () => {
  test('keeps just what the failure needs', async () => {
    const items = Array.from({ length: 100 }, (_, item) => item);
    const fails = async (rest: readonly number[]): Promise<boolean> =>
      rest.includes(7) && rest.includes(83);
    expect(await minimize(items, fails)).toEqual([7, 83]);
    expect(await minimize(items, async () => true)).toEqual([]);
    expect(await minimize(items, async () => false)).toEqual(items);
  });

  test('goes on only while the plan fails in the same way', async () => {
    const plan = planOf(5);
    const culprit = plan.nemesis[3];
    expect(culprit).toBeDefined();
    const small = await shrink(plan, 'Error: first', async ({ nemesis, operations }) => {
      if (operations.length === 0) throw new Error('second');
      if (culprit !== undefined && nemesis.includes(culprit)) throw new Error('first');
    });
    expect(small.plan.nemesis).toEqual([culprit]);
    expect(small.plan.operations).toHaveLength(1);
  });
});

describe('a run written as a golden script', () => {
  test.each([2, 5, 11])('leads to the same statuses when it is replayed: seed %i', (seed) => {
    const whole = planOf(seed);
    const plan = {
      ...whole,
      chaosUs: 1_000_000,
      nemesis: whole.nemesis.filter(({ atUs }) => atUs < 1_000_000),
      operations: whole.operations.filter(({ atUs }) => atUs < 1_000_000),
    };
    const script = new Script();
    const report = runCoreWorld(plan, { script });
    const output = runScript(script.text());
    expect(output).toContain(`commit=${report.committedCount} `);
  });
});

test('a violation is told by its invariant and its words', () => {
  expect(new InvariantViolation('I7', 'committed without a majority').message).toMatch(/^I7 \(/);
});
