/** The tables of mutants in the documents are written by the runs that they are of. */

import { readFileSync, writeFileSync } from 'node:fs';

/** Replaces what stands between the marks. */
export function writeMutantTable(
  path: string,
  table: { readonly head: readonly string[]; readonly rows: readonly string[] },
): void {
  const text = readFileSync(path, 'utf8');
  const begin = '<!-- mutants -->';
  const end = '<!-- /mutants -->';
  const [before = ''] = text.split(begin);
  const after = text.slice(text.indexOf(end));
  const lines = [...table.head, ...table.rows].join('\n');
  writeFileSync(path, `${before}${begin}\n\n${lines}\n\n${after}`);
}
