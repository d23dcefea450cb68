/** A short subset of `npm run mutants`, and whether every mutant still has its place. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { MUTANTS } from './mutants.ts';
import { plant } from './plant.ts';

const SERVER = new URL('../../', import.meta.url);

test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  'there is one place for: %s',
  (_, mutant) => {
    const text = readFileSync(fileURLToPath(new URL(mutant.file, SERVER)), 'utf8');
    expect(plant(mutant, text)).not.toBe(text);
  },
);

test('a mutant without its place is refused', () => {
  const [mutant] = MUTANTS;
  expect(mutant).toBeDefined();
  if (mutant === undefined) return;
  expect(() => plant(mutant, 'nothing of it')).toThrow(/0 times/);
  expect(() => plant(mutant, mutant.find + mutant.find)).toThrow(/2 times/);
});

test.each([
  'a match is acknowledged before it is durable',
  'a leader counts what it has not written',
  'entries of earlier terms are committed by counting',
])(
  'the simulation notices that %s',
  (name) => {
    const entry = fileURLToPath(new URL('../../../scripts/mutants.js', import.meta.url));
    const output = execFileSync(process.execPath, [entry, '--seeds', '200', '--only', name], {
      encoding: 'utf8',
    });
    expect(output).toMatch(/\| I\d+ \(/);
  },
  60_000,
);
