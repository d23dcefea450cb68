/**
 * A database as it is now, under another name, for the price of some links: tables never change, so
 * both have them; manifest and logs grow, and are copied. It is a database like any other, which can
 * be read, even by another thread, while the first one goes on and removes what it needs no more.
 */

import { copyFile, link, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { isInUse, manifestName, readManifestFile } from './level-manifest.ts';

/** A compaction takes longer than an attempt, so one after the other is unlikely to interfere. */
const ATTEMPTS_MAX = 10;

/**
 * Nobody may write meanwhile. LevelDB may still compact, and remove what the copied manifest names:
 * then again, with a manifest that knows. `to` is removed if it exists; nothing in it is durable.
 */
export async function checkpointLevel(from: string, to: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await rm(to, { recursive: true, force: true });
    await mkdir(to, { mode: 0o700 });
    try {
      await linkFiles(from, to);
      return;
    } catch (error) {
      const isCompacted = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isCompacted || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

/**
 * The manifest comes first: what it does not know yet is not needed to go on from it. Its first log
 * exists until a later one says that it has become a table.
 */
async function linkFiles(from: string, to: string): Promise<void> {
  const current = await manifestName(from);
  await copyFile(join(from, current), join(to, current));
  const { manifest } = await readManifestFile(join(to, current));
  const logs = (await readdir(from)).filter(
    (name) => name.endsWith('.log') && isInUse(name, manifest),
  );
  for (const name of new Set([fileName(manifest.firstLog, 'log'), ...logs])) {
    await copyFile(join(from, name), join(to, name));
  }
  for (const number of manifest.tables) {
    const name = fileName(number, 'ldb');
    await linkOrCopy(join(from, name), join(to, name));
  }
  await writeFile(join(to, 'CURRENT'), `${current}\n`);
}

/** Some file systems know no links, and none reaches into another one. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw error;
    await copyFile(from, to);
  }
}

function fileName(number: number, extension: 'ldb' | 'log'): string {
  return `${String(number).padStart(6, '0')}.${extension}`;
}
