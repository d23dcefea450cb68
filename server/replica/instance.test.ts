import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openInstance } from './instance.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'instance-'));
});
afterEach(() => rm(directory, { recursive: true }));

test('a directory has one name, made with it; another directory has another', async () => {
  const name = await openInstance(join(directory, 'a', 'log'));
  expect(name).toMatch(/^[0-9a-f]{32}$/);
  expect(await openInstance(join(directory, 'a', 'log'))).toBe(name);
  expect(await openInstance(join(directory, 'b', 'log'))).not.toBe(name);
  expect(await readdir(join(directory, 'a', 'log'))).toEqual(['instance']);
});

test('what a crash left of the first attempt is no name', async () => {
  await writeFile(join(directory, 'instance.new'), '0123');
  expect(await openInstance(directory)).toMatch(/^[0-9a-f]{32}$/);
});

test.each(['', '0123\n', `${'g'.repeat(32)}\n`, '0'.repeat(32)])('%j is refused', async (text) => {
  await writeFile(join(directory, 'instance'), text);
  await expect(openInstance(directory)).rejects.toThrow('does not name an instance');
});
