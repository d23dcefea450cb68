import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import { runScript } from './golden.ts';

const directory = new URL('../../../server/raft/testdata/', import.meta.url);

describe('golden scripts of the consensus core', () => {
  test.each(readdirSync(directory).filter((name) => name.endsWith('.txt')))('%s', (name) => {
    const file = new URL(name, directory);
    const text = readFileSync(file, 'utf8');
    const actual = runScript(text);
    const isUpdate = process.env['UPDATE'] === '1';
    if (isUpdate) writeFileSync(file, actual);
    expect(actual).toBe(isUpdate ? actual : text);
  });
});
