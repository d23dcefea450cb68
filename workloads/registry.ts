import { blogMix, blogMixWide } from './blog-mix.ts';
import { list } from './list.ts';
import { readMostly } from './read-mostly.ts';
import { readOnly } from './read-only.ts';
import { tokenLookup } from './token-lookup.ts';
import { updateHeavy } from './update-heavy.ts';
import type { Workload } from './workload.ts';

/** All workloads that can be named on the command line. */
export const WORKLOADS: readonly Workload[] = [
  readOnly,
  readMostly,
  blogMix,
  blogMixWide,
  updateHeavy,
  tokenLookup,
  list,
];

export function findWorkload(name: string): Workload {
  const found = WORKLOADS.find((workload) => workload.name === name);
  if (found === undefined) {
    const names = WORKLOADS.map((workload) => workload.name).join(', ');
    throw new Error(`Cannot find workload "${name}": must be one of ${names}`);
  }
  return found;
}
