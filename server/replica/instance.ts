/**
 * Which data directory this is. What a node has promised is on one disk; another disk under the same
 * node id has promised nothing, and must not be taken for the first. So each gets a random name when
 * it is made, which every hello says and the configuration knows (`callers.ts`).
 *
 * It lies among the segments of the log, and goes where they go: where there are none, nothing was
 * promised, or what was is gone, and the directory becomes another. A snapshot brings none.
 */

import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncPath } from '../storage/sync-path.ts';

const FILE = 'instance';
const INSTANCE_BYTES = 16;
const PATTERN = /^[0-9a-f]{32}\n$/;

/**
 * Reads the name of a directory in which there is a log, or makes one, which is durable when this
 * resolves. To be called once for a process: until it has written to its log, it would be another.
 */
export async function openInstance(logDirectory: string): Promise<string> {
  const file = join(logDirectory, FILE);
  await mkdir(logDirectory, { recursive: true });
  const names = await readdir(logDirectory);
  if (names.includes(FILE) && names.some((name) => name.endsWith('.wal'))) {
    const text = await readFile(file, 'utf8');
    if (!PATTERN.test(text)) throw new Error(`${file} does not name an instance`);
    return text.trim();
  }
  const instance = randomBytes(INSTANCE_BYTES).toString('hex');
  await writeDurably(`${file}.new`, `${instance}\n`);
  await rename(`${file}.new`, file);
  await syncPath(logDirectory);
  await syncPath(dirname(logDirectory));
  return instance;
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
