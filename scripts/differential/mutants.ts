/**
 * Does the comparison bite? Plants the mutants of the simulation's core world one by one into our
 * side, and runs seeds until one disagrees. What only a slow disk, a lease, a lost message's repetition
 * or a limit would show cannot be seen from here: these survive, and the simulation has them.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runSeeds, withMutant } from '../../server/testing/simulation/mutant-run.ts';
import { MUTANTS } from '../../server/testing/simulation/mutants.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Prints a row for each; returns how many were found. */
export function runMutants(
  oracle: string,
  { seeds, only }: { readonly seeds: number; readonly only: string },
): number {
  const mutants = MUTANTS.filter(({ name, world }) => world === 'core' && name.includes(only));
  let found = 0;
  for (const mutant of mutants) {
    const { seedCount, by } = withMutant(
      mutant,
      { root: ROOT, folders: ['server', 'scripts'] },
      (directory) =>
        runSeeds(join(directory, 'scripts/differential/main.js'), [
          '--oracle',
          oracle,
          '--seeds',
          String(seeds),
        ]),
    );
    if (seedCount !== undefined) found += 1;
    console.log(`| ${mutant.name} | ${seedCount ?? '-'} | ${by} |`);
  }
  console.log(`${found} of ${mutants.length} mutants found in ${seeds} seeds`);
  return found;
}
