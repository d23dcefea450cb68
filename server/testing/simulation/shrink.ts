/**
 * Takes away from a failing plan what its failure does not need (delta debugging, Zeller's ddmin):
 * nemesis actions and operations in chunks that halve, then single features of the network. A plan
 * counts as failing only while it fails in the same way.
 */

import { failureKey } from './failure.ts';
import type { Plan } from './plan.ts';

const RUNS_MAX = 2_000;

export type Shrunk = { readonly plan: Plan; readonly runs: number };

export async function shrink(
  plan: Plan,
  key: string,
  run: (plan: Plan) => Promise<unknown>,
): Promise<Shrunk> {
  let runs = 0;
  const fails = async (candidate: Plan): Promise<boolean> => {
    if (RUNS_MAX <= runs) return false;
    runs += 1;
    try {
      await run(candidate);
      return false;
    } catch (error) {
      return failureKey(error) === key;
    }
  };
  let smallest = plan;
  for (let before = -1; before !== sizeOf(smallest);) {
    before = sizeOf(smallest);
    const base = smallest;
    const nemesis = await minimize(base.nemesis, (rest) => fails({ ...base, nemesis: rest }));
    const operations = await minimize(base.operations, (rest) =>
      fails({ ...base, nemesis, operations: rest }),
    );
    smallest = await simplify({ ...base, nemesis, operations }, fails);
  }
  return { plan: smallest, runs };
}

function sizeOf({ nemesis, operations }: Plan): number {
  return nemesis.length + operations.length;
}

/** The items without which `fails` no longer holds, in their order. */
export async function minimize<T>(
  items: readonly T[],
  fails: (rest: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let rest = items;
  for (let size = Math.max(1, rest.length >> 1); rest.length > 0; size = size >> 1) {
    for (let start = 0; start < rest.length;) {
      const candidate = [...rest.slice(0, start), ...rest.slice(start + size)];
      if (await fails(candidate)) rest = candidate;
      else start += size;
    }
    if (size <= 1) break;
  }
  return rest;
}

async function simplify(plan: Plan, fails: (plan: Plan) => Promise<boolean>): Promise<Plan> {
  let simplest = plan;
  const quieter = [
    { dropProbability: 0 },
    { duplicateProbability: 0 },
    { corruptProbability: 0 },
    { replayProbability: 0 },
    { bytesPerSecond: 0 },
  ];
  for (const part of quieter) {
    const candidate = { ...simplest, network: { ...simplest.network, ...part } };
    if (await fails(candidate)) simplest = candidate;
  }
  for (const part of [{ spareCount: 0 }, { chaosUs: Math.ceil(simplest.chaosUs / 2) }]) {
    const candidate = { ...simplest, ...part };
    if (await fails(candidate)) simplest = candidate;
  }
  return simplest;
}
