import { expect, test } from 'vitest';
import { buildPlan, evenRouting, type PlannedWorkload } from './plan.ts';

const WORKLOAD: PlannedWorkload = {
  operations: [
    { name: 'read', weight: 90, writes: false },
    { name: 'write', weight: 10, writes: true },
  ],
  chooseKeys: (random) => ({ next: () => random.below(100) }),
  chooseValueBytes: (random) => () => 10 + random.below(5),
};

const OPTIONS = {
  seed: 5,
  schedule: { kind: 'poisson', rate: 1000 },
  durationMs: 3000,
  workload: WORKLOAD,
  routing: evenRouting(3),
} as const;

test('a seed gives the same plan again, another seed another plan', () => {
  const plan = buildPlan(OPTIONS);
  expect(buildPlan(OPTIONS)).toEqual(plan);
  expect(buildPlan({ ...OPTIONS, seed: 6 }).key).not.toEqual(plan.key);
});

test('another mix leaves arrivals, keys, and targets alone', () => {
  const plan = buildPlan(OPTIONS);
  const operations = [...WORKLOAD.operations, { name: 'list', weight: 50, writes: false }];
  const other = buildPlan({ ...OPTIONS, workload: { ...WORKLOAD, operations } });
  expect(other.intendedStartNs).toEqual(plan.intendedStartNs);
  expect(other.key).toEqual(plan.key);
  expect(other.valueBytes).toEqual(plan.valueBytes);
  expect(other.target).toEqual(plan.target);
  expect(other.operation).not.toEqual(plan.operation);
});

test('shares follow weights and routing', () => {
  const plan = buildPlan({ ...OPTIONS, routing: { reads: [0, 1, 1], writes: [1, 0, 0] } });
  const rows = Array.from({ length: plan.length }, (_, i) => [plan.operation[i], plan.target[i]]);
  const share = (operation: number, target: number) =>
    rows.filter(([op, to]) => op === operation && to === target).length / plan.length;
  expect(share(0, 0)).toBe(0);
  expect(share(0, 1)).toBeCloseTo(0.45, 1);
  expect(share(0, 2)).toBeCloseTo(0.45, 1);
  expect(share(1, 0)).toBeCloseTo(0.1, 1);
  expect(share(1, 1) + share(1, 2)).toBe(0);
  expect(plan.intendedStartNs.every((start) => start < 3e9)).toBe(true);
});

test('a plan beyond its limit is refused', () => {
  const tooLong = { ...OPTIONS, schedule: { kind: 'constant', rate: 1e9 } } as const;
  expect(() => buildPlan(tooLong)).toThrow('PLAN_ARRIVALS_MAX');
});
