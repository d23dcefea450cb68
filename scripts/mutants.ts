/**
 * `npm run mutants -- [--seeds N] [--only TEXT] [--table FILE]`: plants each mutant of
 * `server/testing/simulation/mutants.ts` into a copy of the emitted server, and runs seeds on it
 * until one fails. Prints which invariant noticed, and after how many seeds. The exit code is 1 if
 * a mutant survives.
 */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { runMutant } from '../server/testing/simulation/mutant-run.ts';
import { MUTANTS } from '../server/testing/simulation/mutants.ts';
import { writeMutantTable } from './mutant-table.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    table: { type: 'string' },
  },
});

const seeds = Number(values.seeds);
const rows: string[] = [];
for (const mutant of MUTANTS) {
  if (!mutant.name.includes(values.only)) continue;
  const { seedCount, by } = runMutant(mutant, { root: ROOT, seeds });
  if (seedCount === undefined) process.exitCode = 1;
  const verdict = seedCount === undefined ? `**survived ${seeds}**` : String(seedCount);
  const row = `| ${mutant.name} | ${mutant.world} | ${verdict} | ${by} |`;
  rows.push(row);
  console.log(row);
}
if (values.table !== undefined) {
  const head = ['| mutant | world | seeds | noticed by |', '| --- | --- | --: | --- |'];
  writeMutantTable(values.table, { head, rows });
}
