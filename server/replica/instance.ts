/**
 * Which data directory this is. What a node has promised is on one disk; another disk under the same
 * node id has promised nothing, and must not be taken for the first. So each gets a random name when
 * it is made, which every hello says and the configuration knows (`callers.ts`).
 *
 * It lies among the segments of the log, and goes where they go: to remove the log is to become
 * another. A snapshot brings none.
 */

import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncDirectory } from './snapshot-files.ts';

const FILE = 'instance';
const INSTANCE_BYTES = 16;
const PATTERN = /^[0-9a-f]{32}\n$/;

/** Reads the name from the directory of the log, or makes one, which is durable when this resolves. */
export async function openInstance(logDirectory: string): Promise<string> {
  const file = join(logDirectory, FILE);
  const text = await readIfPresent(file);
  if (text !== undefined) {
    if (!PATTERN.test(text)) throw new Error(`${file} does not name an instance`);
    return text.trim();
  }
  const instance = randomBytes(INSTANCE_BYTES).toString('hex');
  await mkdir(logDirectory, { recursive: true });
  await writeDurably(`${file}.new`, `${instance}\n`);
  await rename(`${file}.new`, file);
  await syncDirectory(logDirectory);
  await syncDirectory(dirname(logDirectory));
  return instance;
}

async function readIfPresent(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
