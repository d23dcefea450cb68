/** Plants a mutant into a copy of what is emitted, and runs seeds on it until one fails. */

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
  const world = ['--world', mutant.world];
  return withMutant(mutant, { root, folders: ['server'] }, (directory) =>
    runSeeds(join(directory, 'server/testing/simulate.js'), [...world, '--seeds', String(seeds)]),
  );
}

/** Gives `run` a copy of these emitted folders, with the mutant in it. */
export function withMutant<T>(
  mutant: Mutant,
  { root, folders }: { readonly root: string; readonly folders: readonly string[] },
  run: (directory: string) => T,
): T {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-mutant-'));
  try {
    for (const folder of folders) {
      cpSync(join(root, 'dist', folder), join(directory, folder), {
        recursive: true,
        filter: (path) => !/\.(map|test\.js)$/.test(path),
      });
    }
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const file = join(directory, 'server', mutant.file);
    writeFileSync(file, plant(mutant, readFileSync(file, 'utf8')));
    return run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs seeds from 1 on until one fails, by a program that says so with `--json`. */
export function runSeeds(entry: string, options: readonly string[]): MutantVerdict {
  const { stdout, signal } = spawnSync(process.execPath, [entry, ...options, '--stop', '--json'], {
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
