import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { DirectoryLockedError, lockDirectory } from './directory-lock.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'directory-lock-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a locked directory is refused until it is released', () => {
  const unlock = lockDirectory(directory);
  expect(() => lockDirectory(directory)).toThrow(DirectoryLockedError);
  unlock();
  lockDirectory(directory)();
  expect(readdirSync(directory)).toEqual([]);
});

test('another process is refused, and takes over when the holder is gone', () => {
  const module = JSON.stringify(new URL('./directory-lock.js', import.meta.url).href);
  const path = JSON.stringify(directory);
  const script = `const { lockDirectory } = await import(${module}); lockDirectory(${path});`;
  const run = () => spawnSync(process.execPath, ['--input-type=module', '-e', script]);

  const unlock = lockDirectory(directory);
  expect(run().stderr.toString()).toContain('held by the running process');
  unlock();

  expect(run().status).toBe(0);
  expect(readdirSync(directory)).toEqual(['lock']);
  lockDirectory(directory)();
});

const STALE: [string, (claim: string) => string][] = [
  ['of another boot', (claim) => claim.replace(/ \S+ /, ' 00000000-0000-0000-0000-000000000000 ')],
  ['of an earlier process with the same pid', (claim) => claim.replace(/ \d+$/m, ' 1')],
  ['that is empty', () => ''],
];
test.each(STALE)('a lock %s is taken over', (_name, change) => {
  lockDirectory(directory);
  const path = join(directory, 'lock');
  writeFileSync(path, change(readFileSync(path, 'utf8')));
  lockDirectory(directory)();
  expect(readdirSync(directory)).toEqual([]);
});
