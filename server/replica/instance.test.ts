import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { segmentPath } from '../storage/log-writer.ts';
import { openInstance } from './instance.ts';

let directory: string;
beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'instance-')), 'log');
});
afterEach(() => rm(join(directory, '..'), { recursive: true }));

/** Something was promised here. */
async function writeLog(): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(segmentPath(directory, 1), '');
}

test('a directory with a log has one name, whatever is stored beside it', async () => {
  const name = await openInstance(directory);
  expect(name).toMatch(/^[0-9a-f]{32}$/);
  expect(await readdir(directory)).toEqual(['instance']);
  await writeLog();
  expect(await openInstance(directory)).toBe(name);
});

test('a directory whose log is gone is another', async () => {
  await writeLog();
  const name = await openInstance(directory);
  expect(await openInstance(directory)).toBe(name);
  await rm(segmentPath(directory, 1));
  expect(await openInstance(directory)).not.toBe(name);
});

test('a log from before there were names gets one, also after a crash in the attempt', async () => {
  await writeLog();
  await writeFile(join(directory, 'instance.new'), '0123');
  const name = await openInstance(directory);
  expect(name).toMatch(/^[0-9a-f]{32}$/);
  expect(await openInstance(directory)).toBe(name);
});

test.each(['', '0123\n', `${'g'.repeat(32)}\n`, '0'.repeat(32)])('%j is refused', async (text) => {
  await writeLog();
  await writeFile(join(directory, 'instance'), text);
  await expect(openInstance(directory)).rejects.toThrow('does not name an instance');
});
