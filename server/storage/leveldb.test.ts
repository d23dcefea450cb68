import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import * as fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import type { ImportStep } from './level-home.ts';
import { openLevelStore as openLevelStoreIn } from './leveldb.ts';
import type { StoreMode } from './leveldb.ts';
import { createMemoryStore } from './memory.ts';
import { applyAndPublish, collect, declareStoreContract } from './store.contract.ts';
import { position, put, remove, textAt } from './store.contract.ts';
import { encodePosition } from './store-position.ts';
import type { StoreOperation } from './store.ts';

let root: string;
let directory: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'leveldb-'));
});
afterAll(() => rmSync(root, { recursive: true }));
beforeEach(() => {
  directory = mkdtempSync(join(root, 'store-'));
});

const MODES = ['sync', 'overlay'] as const;

function openLevelStore(path: string, mode: StoreMode = 'sync') {
  return openLevelStoreIn(path, { mode });
}

describe.each(MODES)('leveldb, %s', (mode) => {
  declareStoreContract(() => openLevelStore(mkdtempSync(join(root, 'contract-')), mode));
});

describe('reopening', () => {
  test.each(MODES)('in mode %s shows what was published, in any mode', async (mode) => {
    const store = await openLevelStore(directory, mode);
    await applyAndPublish(store, [put('a', '1'), put('b', '1')], 1);
    await applyAndPublish(store, [remove('a'), put('b', '2')], 2);
    await store.close();

    for (const other of MODES) {
      const again = await openLevelStore(directory, other);
      expect(again.position()).toEqual(position(2));
      expect(again.durablePosition()).toEqual(position(2));
      expect(textAt(again, 'b')).toBe('2');
      expect(await again.list('', {})).toEqual(['b']);
      await again.close();
    }
  });

  test('shows what a synced store has applied and not published', async () => {
    const store = await openLevelStore(directory);
    await applyAndPublish(store, [put('a', '1')], 1);
    await store.apply([put('b', '2')], position(2));
    await store.close();

    const again = await openLevelStore(directory);
    expect(again.position()).toEqual(position(2));
    expect(await again.list('', {})).toEqual(['a', 'b']);
    await again.close();
  });

  test('refuses a directory in use', async () => {
    const store = await openLevelStore(directory);
    await expect(openLevelStore(directory)).rejects.toThrow('held by the running process');
    await store.close();
  });

  test('refuses a directory whose pointer or database is missing', async () => {
    await (await openLevelStore(directory)).close();
    rmSync(join(directory, 'store-000001'), { recursive: true });
    await expect(openLevelStore(directory)).rejects.toThrow('store-000001 is missing');

    const other = mkdtempSync(join(root, 'store-'));
    await (await openLevelStore(other)).close();
    rmSync(join(other, 'current'));
    await expect(openLevelStore(other)).rejects.toThrow('"current" is missing');
  });

  test('creates anew what was never completely created', async () => {
    const store = await openLevelStore(directory);
    await applyAndPublish(store, [put('a', '1')], 1);
    await store.close();
    writeFileSync(join(directory, 'current'), 'store-000001 creating\n');
    const again = await openLevelStore(directory);
    expect(again.position().lastIncludedIndex).toBe(0);
    await again.close();
  });
});

describe('a crash during an import', () => {
  const program = fileURLToPath(new URL('./import-until-killed.js', import.meta.url));
  const rows: [ImportStep, 'old' | 'new'][] = [
    ['began', 'old'],
    ['wroteGroup', 'old'],
    ['wroteAll', 'old'],
    ['closed', 'old'],
    ['synced', 'old'],
    ['switched', 'new'],
    ['opened', 'new'],
    ['removedOld', 'new'],
  ];

  test.each(rows)('after step %s leaves the %s store', async (step, survivor) => {
    const store = await openLevelStore(directory);
    await applyAndPublish(store, [put('store', 'new'), put('only new', '')], 8);
    const snapshot = store.exportSnapshot();
    const snapshotPath = `${directory}.snapshot`;
    writeFileSync(snapshotPath, Buffer.concat(await collect(snapshot.chunks)));
    await snapshot.close();
    await applyAndPublish(store, [put('store', 'old'), remove('only new')], 9);
    await store.close();

    const at = encodePosition(position(8)).toString();
    const child = spawnSync(process.execPath, [program, directory, snapshotPath, at, step]);
    expect(child.signal).toBe('SIGKILL');

    const again = await openLevelStore(directory);
    expect(textAt(again, 'store')).toBe(survivor);
    expect(again.position()).toEqual(position(survivor === 'new' ? 8 : 9));
    expect(await again.list('', {})).toEqual(
      survivor === 'new' ? ['only new', 'store'] : ['store'],
    );
    expect(readdirSync(directory).toSorted()).toEqual([
      'current',
      'lock',
      survivor === 'new' ? 'store-000002' : 'store-000001',
    ]);
    await again.close();
  });
});

test.each(MODES)('LevelDB (%s) and its twin agree on everything', async (mode) => {
  const store = await openLevelStore(directory, mode);
  const twin = createMemoryStore();
  const keys = fc.string({
    unit: fc.constantFrom('a', 'b', '/', '-', '0', '😀', '\uff21'),
    minLength: 1,
    maxLength: 5,
  });
  const operations = fc.array(
    fc.oneof(
      fc.tuple(keys, fc.string()).map(([key, value]) => put(key, value)),
      keys.map((key): StoreOperation => remove(key)),
    ),
    { maxLength: 12 },
  );
  const prefixes = keys.map((key) => key.slice(0, key.lastIndexOf('/') + 1));
  const pages = fc.record({
    after: fc.option(keys, { nil: undefined }),
    limit: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
  });
  // An overlay has several generations when some are being written.
  const flushes = fc.constantFrom('none', 'begun', 'ended');
  let index = 0;
  let flushed = Promise.resolve();
  await fc.assert(
    fc.asyncProperty(operations, prefixes, pages, flushes, async (batch, prefix, page, flush) => {
      index += 1;
      await applyAndPublish(store, batch, index);
      await applyAndPublish(twin, batch, index);
      if (flush !== 'none') flushed = store.flush();
      if (flush === 'ended') await flushed;
      expect(await store.list(prefix, page)).toEqual(await twin.list(prefix, page));
      for (const { key } of batch) expect(textAt(store, key)).toBe(textAt(twin, key));
    }),
    { numRuns: 150 },
  );
  expect(await store.stateHash()).toBe(await twin.stateHash());
  await store.close();
  const again = await openLevelStore(directory, mode);
  expect(await again.stateHash()).toBe(await twin.stateHash());
  await again.close();
});
