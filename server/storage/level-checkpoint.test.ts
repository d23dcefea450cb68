import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { checkLevelFiles } from './level-check.ts';
import { checkpointLevel } from './level-checkpoint.ts';
import { exportCheckpoint } from './level-reads.ts';
import { openLevelStore } from './leveldb.ts';
import { applyAndPublish, collect, position, put } from './store.contract.ts';
import type { Store } from './store.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'checkpoint-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function checkpointOf(store: Store, name: string) {
  const directory = join(root, name);
  if (store.checkpoint === undefined) throw new Error('no checkpoints here');
  return { directory, made: store.checkpoint(directory) };
}

/** Throws if LevelDB finds anything missing or damaged. */
async function hashOfCheckpoint(directory: string, at: ReturnType<typeof position>) {
  const hash = createHash('sha256');
  for (const chunk of await collect(exportCheckpoint(directory, at))) hash.update(chunk);
  return hash.digest('hex');
}

describe.each(['sync', 'overlay'] as const)('a checkpoint, %s', (mode) => {
  let store: Store;
  beforeEach(async () => {
    store = await openLevelStore(join(root, 'store'), { mode });
  });
  afterEach(() => store.close());

  test('is of all that was published, and stays so', async () => {
    await applyAndPublish(store, [put('a', '1'), put('b', '1')], 1);
    const expected = await store.stateHash();
    const { directory, made } = checkpointOf(store, 'one');
    const at = await made;
    await applyAndPublish(store, [put('a', '2')], 2);
    expect(at).toEqual(position(1));
    expect(await hashOfCheckpoint(directory, at)).toBe(expected);
  });

  test('is whole while LevelDB compacts, and takes nothing from the store', async () => {
    // Far more than fits into LevelDB's memory, written over and over.
    const values = Array.from({ length: 64 }, () => randomBytes(32 * 1024).toString('hex'));
    const expected = new Map<number, string>();
    const checkpoints: { directory: string; made: Promise<ReturnType<typeof position>> }[] = [];
    for (let index = 1; index <= 40; index += 1) {
      const pairs = values.map((value, i) => put(`k${(i * 7 + index) % 97}`, value));
      await applyAndPublish(store, pairs, index);
      // It may be of a later state than the one in which it was asked for.
      expected.set(index, await store.stateHash());
      if (index % 4 === 0) checkpoints.push(checkpointOf(store, `at-${index}`));
    }
    for (const { directory, made } of checkpoints) {
      const at = await made;
      const hash = expected.get(at.lastIncludedIndex);
      expect(await hashOfCheckpoint(directory, at)).toBe(hash ?? 'one that was not taken');
      rmSync(directory, { recursive: true });
    }
    await store.flush();
    const [name = ''] = readdirSync(join(root, 'store')).filter((each) => /^store-/.test(each));
    await expect(checkLevelFiles(join(root, 'store', name))).resolves.toBeUndefined();
  });

  test('at another position than was said is refused', async () => {
    await applyAndPublish(store, [put('a', '1')], 1);
    const { directory, made } = checkpointOf(store, 'one');
    await made;
    await expect(hashOfCheckpoint(directory, position(2))).rejects.toThrow('another position');
  });
});

const OTHER_DISK = '/dev/shm';
const hasOtherDisk =
  statSync(OTHER_DISK, { throwIfNoEntry: false })?.isDirectory() === true &&
  statSync(OTHER_DISK).dev !== statSync(tmpdir()).dev;

test.skipIf(!hasOtherDisk)('a checkpoint on another disk is a copy', async () => {
  const store = await openLevelStore(join(root, 'store'), { mode: 'sync' });
  const other = mkdtempSync(join(OTHER_DISK, 'checkpoint-'));
  try {
    const value = randomBytes(64 * 1024).toString('hex');
    for (let index = 1; index <= 100; index += 1) {
      await applyAndPublish(store, [put(`k${index}`, value)], index);
    }
    const directory = join(other, 'one');
    const at = await store.checkpoint?.(directory);
    expect(readdirSync(directory).some((name) => name.endsWith('.ldb'))).toBe(true);
    expect(await hashOfCheckpoint(directory, at ?? position(0))).toBe(await store.stateHash());
  } finally {
    await store.close();
    rmSync(other, { recursive: true });
  }
});

test('a database that lacks a table has no checkpoint', async () => {
  const store = await openLevelStore(join(root, 'store'), { mode: 'sync' });
  const value = randomBytes(64 * 1024).toString('hex');
  for (let index = 1; index <= 100; index += 1) {
    await applyAndPublish(store, [put(`k${index}`, value)], index);
  }
  await store.close();
  const directory = join(root, 'store', 'store-000001');
  const table = readdirSync(directory).find((name) => name.endsWith('.ldb'));
  unlinkSync(join(directory, table ?? 'there is none'));
  await expect(checkpointLevel(directory, join(root, 'one'))).rejects.toThrow('ENOENT');
});
