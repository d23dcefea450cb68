/**
 * Does the comparison bite? Plants the mutants of the simulation's core world one by one into our
 * side, and runs seeds until one disagrees. `UNSEEN` says which of them it cannot see and why: these
 * are the simulation's alone. Any other that survives is a failure.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runSeeds, withMutant } from '../../server/testing/simulation/mutant-run.ts';
import { MUTANTS, type Mutant } from '../../server/testing/simulation/mutants.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const NOTICED_LENGTH_MAX = 90;

const UNSEEN: Readonly<Record<string, readonly string[]>> = {
  'no write is ever under way': [
    'a vote is told before it is durable',
    'votes are requested before the term is durable',
    'the own vote counts before it is durable',
    'a leader counts what it has not written',
    'a match is acknowledged before it is durable',
    'messages do not wait for a write under way',
    'a write under way proves what was truncated (A-B-A)',
    'entries are applied before they are durable here',
    'the stored commit index is ahead of the stored log',
    'a server campaigns with a configuration it knows to be old',
  ],
  'each side sends at its own pace': [
    'the window by count is ignored',
    'uncommitted bytes have no limit',
    'appends have no size',
    'a probe that was lost is not sent again',
    'a lost append is not noticed by the heartbeat',
    'a failed snapshot is never sent again',
  ],
  'leases are off, and freshness is ours alone': [
    'a lease lasts longer than voters keep to it',
    'a lease outlives the order to hand over',
    'a lease outlives a change of the configuration',
    'a heartbeat that comes once more is news',
    "freshness is counted from the leader's word",
    'an answer is fresh though no later round has confirmed the leader',
  ],
  'etcd 3.4 does the same': [
    'a removed leader never lets go',
    'reads of a leader that is deposed are confirmed by its successor',
  ],
  'too rare': ['a read is confirmed by the round before it'],
};

/** Prints a row for each mutant, and returns the rows, and how many should have been found. */
export function runMutants(
  oracle: string,
  { seeds, only }: { readonly seeds: number; readonly only: string },
): { readonly rows: readonly string[]; readonly missed: number } {
  const rows: string[] = [];
  let [found, missed] = [0, 0];
  for (const mutant of MUTANTS) {
    if (mutant.world !== 'core' || !mutant.name.includes(only)) continue;
    const { seedCount, by } = runMutant(mutant, oracle, seeds);
    const reason = reasonFor(mutant);
    if (seedCount !== undefined) found += 1;
    else if (reason === undefined) missed += 1;
    const verdict = seedCount ?? (reason === undefined ? `**survived ${seeds}**` : '-');
    const noticed = by.length > NOTICED_LENGTH_MAX ? `${by.slice(0, NOTICED_LENGTH_MAX)}…` : by;
    const row = `| ${mutant.name} | ${verdict} | ${seedCount === undefined ? (reason ?? '') : noticed} |`;
    rows.push(row);
    console.log(row);
  }
  console.log(`${found} of ${rows.length} mutants found, ${missed} missed, in ${seeds} seeds each`);
  return { rows, missed };
}

function runMutant(mutant: Mutant, oracle: string, seeds: number): ReturnType<typeof runSeeds> {
  return withMutant(mutant, { root: ROOT, folders: ['server', 'scripts'] }, (directory) => {
    const options = ['--oracle', oracle, '--seeds', String(seeds)];
    return runSeeds(join(directory, 'scripts/differential/main.js'), options);
  });
}

function reasonFor({ name }: Mutant): string | undefined {
  return Object.entries(UNSEEN).find(([, names]) => names.includes(name))?.[0];
}
