/** Plants a mutant into a copy of the emitted server, and runs seeds on it until one fails. */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Mutant } from './mutants.ts';
import { plant } from './plant.ts';

/** A mutant may loop for ever within one event; that counts as noticed. */
const HANG_MS = 300_000;

export type MutantVerdict = {
  /** How many seeds it took; undefined if it survived them. */
  readonly seedCount: number | undefined;
  readonly by: string;
};

export function runMutant(
  mutant: Mutant,
  { root, seeds }: { readonly root: string; readonly seeds: number },
): MutantVerdict {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-mutant-'));
  try {
    cpSync(join(root, 'dist/server'), join(directory, 'server'), {
      recursive: true,
      filter: (path) => !/\.(map|test\.js)$/.test(path),
    });
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const file = join(directory, 'server', mutant.file);
    writeFileSync(file, plant(mutant, readFileSync(file, 'utf8')));
    return simulate(mutant, seeds, join(directory, 'server/testing/simulate.js'));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function simulate(mutant: Mutant, seeds: number, entry: string): MutantVerdict {
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
