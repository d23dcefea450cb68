/**
 * Which LevelDB directory is the store, and how another one takes its place.
 *
 *     <directory>/current            "store-000007\n": the one that counts
 *     <directory>/store-000007/      a LevelDB database
 *
 * `current` changes only by an atomic rename, after everything it will name is durable. So a crash
 * leaves the old store or the new one; every other directory is a leftover and is removed. While
 * the first database is being created `current` ends in " creating"; nothing can be in it then, and
 * it is created anew.
 */

import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { syncPath } from './sync-path.ts';

const STORE_NAME = /^store-(\d+)$/;
const POINTER = /^(store-\d+)( creating)?\n$/;

export type StorePlace = {
  readonly name: string;
  /** Whether it is to be created. */
  readonly isNew: boolean;
};

/** Finds the store, removes leftovers, and prepares a first store if there never was one. */
export async function findStore(directory: string): Promise<StorePlace> {
  const names = await readdir(directory);
  const stores = names.filter((name) => STORE_NAME.test(name));
  if (!names.includes('current')) {
    if (stores.length > 0) {
      throw new Error(`Cannot open the store in ${directory}: the file "current" is missing`);
    }
    const place = { name: storeName(1), isNew: true };
    await pointTo(directory, place);
    return place;
  }

  const text = await readFile(join(directory, 'current'), 'utf8');
  const [, name, creating] = POINTER.exec(text) ?? [];
  if (name === undefined) {
    throw new Error(`Cannot open the store in ${directory}: "current" names no store: ${text}`);
  }
  const isNew = creating !== undefined;
  if (!isNew && !stores.includes(name)) {
    throw new Error(`Cannot open the store in ${directory}: ${name} is missing`);
  }
  for (const leftover of stores) {
    if (leftover !== name || isNew) await removeStore(directory, leftover);
  }
  return { name, isNew };
}

export function nameAfter(name: string): string {
  return storeName(Number(STORE_NAME.exec(name)?.[1]) + 1);
}

/** Makes every file of a closed database durable, and its name. */
export async function syncStore(directory: string, name: string): Promise<void> {
  const path = join(directory, name);
  for (const file of await readdir(path)) await syncPath(join(path, file));
  await syncPath(path);
  await syncPath(directory);
}

/** Atomically and durably makes a store the one that counts. */
export async function pointTo(directory: string, place: StorePlace): Promise<void> {
  const path = join(directory, 'current');
  const file = openSync(`${path}.next`, 'w', 0o600);
  writeSync(file, `${place.name}${place.isNew ? ' creating' : ''}\n`);
  fsyncSync(file);
  closeSync(file);
  renameSync(`${path}.next`, path);
  await syncPath(directory);
}

export async function removeStore(directory: string, name: string): Promise<void> {
  await rm(join(directory, name), { recursive: true, force: true });
}

function storeName(sequence: number): string {
  return `store-${String(sequence).padStart(6, '0')}`;
}
