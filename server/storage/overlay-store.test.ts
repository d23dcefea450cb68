import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { LevelBatch, LevelHome } from './level-home.ts';
import { FLUSH_BYTES, FLUSH_DELAY_MS, OVERLAY_BYTES_MAX, OverlayStore } from './overlay-store.ts';
import { applyAndPublish, collect, position, put, remove, textAt } from './store.contract.ts';
import type { StoreOperation } from './store.ts';

let directory: string;
let store: OverlayStore;
/** Batches that are being written, oldest first, each with the way to let it go on. */
let writes: { proceed: () => void; fail: (error: Error) => void }[];
let isHeld: boolean;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'overlay-store-'));
  writes = [];
  isHeld = false;
  const { write } = LevelBatch.prototype;
  vi.spyOn(LevelBatch.prototype, 'write').mockImplementation(async function (this: LevelBatch, at) {
    if (isHeld) await new Promise<void>((proceed, fail) => writes.push({ proceed, fail }));
    await write.call(this, at);
  });
  store = await open();
});
afterEach(async () => {
  isHeld = false;
  for (const { proceed } of writes) proceed();
  await store.close().catch(() => {});
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

async function open(): Promise<OverlayStore> {
  const opened = await LevelHome.open(directory, { reached: () => {} });
  return new OverlayStore(opened.home, opened.position);
}

/** Applies and publishes in this turn; fails if the store asks to wait. */
function publishNow(operations: readonly StoreOperation[], index: number): void {
  expect(store.apply(operations, position(index))).toBeUndefined();
  store.publish();
}

const MIB = 1024 * 1024;
const large = (key: string): StoreOperation => ({ kind: 'put', key, value: Buffer.alloc(MIB) });

test('a batch is visible in the turn in which it is applied', () => {
  publishNow([put('a', '1')], 1);
  expect(textAt(store, 'a')).toBe('1');
  expect(store.position()).toEqual(position(1));
  expect(store.durablePosition().lastIncludedIndex).toBe(0);
});

test('who keeps a value that was read does not keep what it came with', () => {
  const frame = Buffer.alloc(MIB);
  publishNow([{ kind: 'put', key: 'a', value: frame.subarray(0, 10) }], 1);
  expect(store.get('a')?.buffer.byteLength).toBe(10);
});

test('it becomes durable by itself after the delay, what came meanwhile in the same batch', async () => {
  const durable = new Promise<void>((resolve, reject) => {
    store.observe({ onDurable: resolve, onFailure: reject });
  });
  const startMs = performance.now();
  publishNow([put('a', '1')], 1);
  publishNow([put('b', '1')], 2);
  await durable;
  expect(performance.now() - startMs).toBeGreaterThan(FLUSH_DELAY_MS - 2);
  expect(store.durablePosition()).toEqual(position(2));
  expect(LevelBatch.prototype.write).toHaveBeenCalledTimes(1);
});

test('enough bytes do not wait for the delay', () => {
  isHeld = true;
  for (let index = 1; writes.length === 0; index += 1) publishNow([large('a')], index);
  expect(store.position().lastIncludedIndex).toBe(FLUSH_BYTES / MIB);
});

test('while one generation is written, later ones hide it, and go one by one', async () => {
  isHeld = true;
  publishNow([put('a', '1'), put('b', '1'), put('c', '1')], 1);
  const first = store.flush();
  publishNow([put('a', '2'), remove('b')], 2);
  const second = store.flush();
  publishNow([put('b', '3')], 3);
  expect(writes.length).toBe(1);
  const look = async () => [
    await store.list('', {}),
    ['a', 'b', 'c'].map((key) => textAt(store, key)),
  ];
  const seen = [
    ['a', 'b', 'c'],
    ['2', '3', '1'],
  ];
  expect(await look()).toEqual(seen);

  isHeld = false;
  writes[0]?.proceed();
  await Promise.all([first, second]);
  expect(store.durablePosition()).toEqual(position(2));
  expect(await look()).toEqual(seen);
  await store.flush();
  expect(store.durablePosition()).toEqual(position(3));
  expect(await look()).toEqual(seen);
});

test('listings and exports are of the turn in which they began, whatever is written then', async () => {
  publishNow([put('a', '1'), put('b', '1')], 1);
  await store.flush();
  publishNow([put('c', '2'), remove('b')], 2);
  const listing = store.list('', {});
  const exported = store.exportSnapshot();
  publishNow([remove('a'), put('d', '3')], 3);
  await store.flush();
  expect(await listing).toEqual(['a', 'c']);
  expect(exported.position).toEqual(position(2));
  const bytes = Buffer.concat(await collect(exported.chunks));
  await exported.close();

  const stream = async function* () {
    yield bytes;
  };
  await store.importSnapshot(position(2), stream());
  expect(await store.list('', {})).toEqual(['a', 'c']);
  expect(store.durablePosition()).toEqual(position(2));
});

test('a full overlay makes apply wait, not readers, until some of it is durable', async () => {
  isHeld = true;
  let index = 0;
  let waiting: Promise<void> | undefined;
  while (waiting === undefined) {
    index += 1;
    waiting = store.apply([large(`k/${index}`)], position(index));
    if (waiting === undefined) store.publish();
  }
  expect(index * MIB).toBeGreaterThan(OVERLAY_BYTES_MAX - FLUSH_BYTES);
  expect(index * MIB).toBeLessThanOrEqual(OVERLAY_BYTES_MAX + MIB);
  const first = await Promise.race([waiting.then(() => 'room'), store.list('k/', { limit: 1 })]);
  expect(first).toEqual(['1']);

  writes.shift()?.proceed();
  await waiting;
  store.publish();
  expect(store.position().lastIncludedIndex).toBe(index);
});

test('a failed write ends the store: nothing more is taken, and the observer hears of it', async () => {
  const failed = new Promise<unknown>((resolve) => {
    store.observe({ onDurable: () => {}, onFailure: resolve });
  });
  isHeld = true;
  publishNow([put('a', '1')], 1);
  const flushed = store.flush();
  writes.shift()?.fail(new Error('no space'));
  await expect(flushed).rejects.toThrow('Cannot write to the store');
  expect(String(await failed)).toContain('no space');
  await expect(store.apply([put('b', '1')], position(2))).rejects.toThrow('Cannot write');
  await expect(store.close()).rejects.toThrow('Cannot write to the store');

  isHeld = false;
  store = await open();
  expect(store.position().lastIncludedIndex).toBe(0);
});

test('a failed import leaves the state, in memory or not, as it was', async () => {
  await applyAndPublish(store, [put('a', '1')], 1);
  const garbage = async function* () {
    yield Buffer.from('garbage');
  };
  await expect(store.importSnapshot(position(9), garbage())).rejects.toThrow('Cannot');
  publishNow([put('b', '1')], 2);
  expect(await store.list('', {})).toEqual(['a', 'b']);
});

test('a value that a reader keeps is no larger than itself', () => {
  const chunk = Buffer.alloc(64 * 1024);
  publishNow([{ kind: 'put', key: 'a', value: chunk.subarray(10, 110) }], 1);
  expect(store.get('a')?.buffer.byteLength).toBe(100);
});
