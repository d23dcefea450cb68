/**
 * The format of cockroachdb/datadriven, in which etcd-io/raft keeps tables of cases:
 *
 *     command argument=(value,value)
 *     input
 *     ----
 *     expected output
 *
 * parted by empty lines. The files are read from where Debian has installed them.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Case = {
  /** `file:line`. */
  readonly place: string;
  readonly command: string;
  readonly arguments: ReadonlyMap<string, readonly string[]>;
  readonly input: string;
  readonly expected: readonly string[];
};

/** What became of the cases of one folder. */
export type Tally = { files: number; equal: number; meant: string[]; wrong: string[] };

export function readCases(directory: string): { files: number; cases: Case[] } {
  const names = readdirSync(directory).filter((name) => name.endsWith('.txt'));
  const cases = names.flatMap((name) =>
    parseCases(name, readFileSync(join(directory, name), 'utf8')),
  );
  return { files: names.length, cases };
}

export function parseCases(name: string, text: string): Case[] {
  const lines = text.split('\n');
  const cases: Case[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    if (lines[at] !== '----') continue;
    let start = at;
    while (start > 0 && isPartOfHead(lines[start - 1])) start -= 1;
    let end = at + 1;
    while (end < lines.length && lines[end] !== '') end += 1;
    const [head = '', ...input] = lines.slice(start, at);
    const [command = '', ...words] = splitWords(head);
    cases.push({
      place: `${name}:${start + 1}`,
      command,
      arguments: new Map(words.map(parseArgument)),
      input: input.join('\n').trim(),
      expected: lines.slice(at + 1, end),
    });
  }
  return cases;
}

function isPartOfHead(line: string | undefined): boolean {
  return line !== undefined && line !== '' && !line.startsWith('#');
}

/** At spaces that are not within parentheses. */
function splitWords(head: string): string[] {
  return head.match(/[^\s(]+(\([^)]*\))?/g) ?? [];
}

function parseArgument(word: string): [string, readonly string[]] {
  const [name = '', value = ''] = word.split('=');
  const values = value.replaceAll(/[()\s]/g, '').split(',');
  return [name, values.filter((each) => each !== '')];
}
