/** `docs/parity.md` names a test for each of many claims: each of them must exist. */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ROWS_MIN = 250;

const rows = readFileSync(`${ROOT}docs/parity.md`, 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (-+|id|theirs) /.test(line))
  .map((line) => line.split('|').slice(1, -1))
  .map((cells) => ({ theirs: cells[0]?.trim() ?? '', ours: cells.at(-1)?.trim() ?? '' }));

test('every row names tests that exist, or says why there is none', () => {
  expect(rows.length).toBeGreaterThan(ROWS_MIN);
  const wrong = rows.flatMap(({ theirs, ours }) => {
    const references = ours.match(/`[^`]+`/g) ?? [];
    const isReason = /^not ours: /.test(ours);
    if (references.length === 0 && !isReason) return [`${theirs}: no test and no reason`];
    if (isReason) return [];
    return references
      .map((each) => each.slice(1, -1))
      .filter((each) => !exists(each))
      .map((each) => `${theirs}: ${each}`);
  });
  expect(wrong).toEqual([]);
});

test('every bug and hazard of the catalogue has its row', () => {
  const ids = rows.map(({ theirs }) => theirs).filter((theirs) => /^[SN]-\d\d$/.test(theirs));
  const catalogue = [...numbered('S', 67), ...numbered('N', 25)];
  expect(ids).toEqual(catalogue);
});

function numbered(letter: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${letter}-${String(i + 1).padStart(2, '0')}`);
}

/** `name` is a golden script, `file: words` a test that has these words in its title. */
function exists(reference: string): boolean {
  const [, path = '', words = ''] = /^(\S+\.ts): (.{7,})$/.exec(reference) ?? [];
  if (path === '') return existsSync(`${ROOT}server/raft/testdata/${reference}.txt`);
  const file = `${ROOT}${path.startsWith('scripts/') ? '' : 'server/'}${path}`;
  return (
    existsSync(file) && literalsOf(readFileSync(file, 'utf8')).some((each) => each.includes(words))
  );
}

/** What stands in quotes: a title, and nothing that is only said in a comment. */
function literalsOf(source: string): string[] {
  const code = source.replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, '');
  return [...code.matchAll(/'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|`([^`]*)`/g)].map(
    ([, single, double, template]) => single ?? double ?? template ?? '',
  );
}
