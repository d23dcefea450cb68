/** A short subset of `npm run mutants`, and whether every mutant still has its place. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { runMutant } from './mutant-run.ts';
import { MUTANTS } from './mutants.ts';
import { plant } from './plant.ts';

const SERVER = new URL('../../', import.meta.url);
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

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
    const mutant = MUTANTS.find((each) => each.name === name);
    expect(mutant).toBeDefined();
    if (mutant === undefined) return;
    expect(runMutant(mutant, { root: ROOT, seeds: 200 }).by).toMatch(/^I\d+ \(/);
  },
  60_000,
);
