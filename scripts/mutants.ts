/**
 * `npm run mutants -- [--seeds N] [--only TEXT] [--table FILE]`: plants each mutant of
 * `server/testing/simulation/mutants.ts` into a copy of the emitted server, and runs seeds on it
 * until one fails. Prints which invariant noticed, and after how many seeds. The exit code is 1 if
 * a mutant survives.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { MUTANTS, type Mutant } from '../server/testing/simulation/mutants.ts';
import { plant } from '../server/testing/simulation/plant.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** A mutant may loop for ever within one event; that counts as noticed. */
const HANG_MS = 300_000;

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
  const { seedCount, by } = run(mutant);
  if (seedCount === undefined) process.exitCode = 1;
  const verdict = seedCount === undefined ? `**survived ${seeds}**` : String(seedCount);
  const row = `| ${mutant.name} | ${mutant.world} | ${verdict} | ${by} |`;
  rows.push(row);
  console.log(row);
}
if (values.table !== undefined) writeTable(values.table);

function run(mutant: Mutant): { readonly seedCount: number | undefined; readonly by: string } {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-mutant-'));
  try {
    cpSync(join(ROOT, 'dist/server'), join(directory, 'server'), {
      recursive: true,
      filter: (path) => !/\.(map|test\.js)$/.test(path),
    });
    symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const file = join(directory, 'server', mutant.file);
    writeFileSync(file, plant(mutant, readFileSync(file, 'utf8')));
    return simulate(mutant, join(directory, 'server/testing/simulate.js'));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function simulate(mutant: Mutant, entry: string): ReturnType<typeof run> {
  const args = [entry, '--world', mutant.world, '--seeds', String(seeds), '--stop', '--json'];
  const { stdout, signal } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: HANG_MS,
    maxBuffer: 1 << 28,
  });
  if (signal !== null) return { seedCount: 1, by: 'it hangs' };
  const outcome = JSON.parse(stdout) as { failures: { seed: number; key: string }[] };
  const failure = outcome.failures[0];
  if (failure === undefined) return { seedCount: undefined, by: '' };
  return { seedCount: failure.seed, by: failure.key.replaceAll('|', '\\|') };
}

/** Replaces what stands between the marks. */
function writeTable(path: string): void {
  const text = readFileSync(path, 'utf8');
  const begin = '<!-- mutants -->';
  const end = '<!-- /mutants -->';
  const head = '| mutant | world | seeds | noticed by |\n| --- | --- | --: | --- |';
  const [before = ''] = text.split(begin);
  const after = text.slice(text.indexOf(end));
  writeFileSync(path, `${before}${begin}\n\n${head}\n${rows.join('\n')}\n\n${after}`);
}
