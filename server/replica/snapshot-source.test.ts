/** Snapshots of a store on a disk, which a thread of its own writes. */

import { mkdtemp, readdir, readFile, rm, stat, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openLevelStore } from '../storage/leveldb.ts';
import { applyAndPublish, collect, put } from '../storage/store.contract.ts';
import type { Store } from '../storage/store.ts';
import { silentLogger } from '../testing/replica-cluster.ts';
import { snapshotHost } from '../testing/snapshot-host.ts';
import { AT_ONCE } from './pace.ts';
import { SnapshotBuilder } from './snapshot-builder.ts';
import type { SourceStore } from './snapshot-source.ts';

/** So slow that a build never ends, and a close that waits for it neither. */
const NEVER = 1;

let root: string;
let store: Store;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'source-'));
  store = await openLevelStore(join(root, 'store'), { mode: 'overlay' });
  const values = Array.from({ length: 20 }, (_, number) => put(`k${number}`, 'x'.repeat(50_000)));
  await applyAndPublish(store, values, 1);
});
afterEach(async () => {
  await store.close();
  await rm(root, { recursive: true });
});

function builderOf(source: SourceStore, bytesPerSecond: number): SnapshotBuilder {
  const directory = join(root, 'snapshots');
  const logger = silentLogger;
  return new SnapshotBuilder({ ...snapshotHost, directory, store: source, bytesPerSecond, logger });
}

/** A store whose checkpoints are followed by `then`. */
function followedBy(then: (directory: string) => Promise<unknown>): SourceStore {
  return {
    exportSnapshot: () => store.exportSnapshot(),
    checkpoint: async (directory) => {
      const position = await store.checkpoint?.(directory);
      if (position === undefined) throw new Error('no checkpoints here');
      await then(directory);
      return position;
    },
  };
}

async function left(): Promise<string[]> {
  return await readdir(join(root, 'snapshots'));
}

async function writtenBytes(): Promise<number> {
  const name = (await left().catch(() => [])).find((each) => each.endsWith('.outgoing'));
  return name === undefined ? 0 : (await stat(join(root, 'snapshots', name))).size;
}

test('the file is what the store exports, and nothing else is left', async () => {
  const builder = builderOf(store, 0);
  const { file, release } = await builder.lease(() => 1);
  const exported = Buffer.concat(await collect(store.exportSnapshot().chunks));
  expect((await readFile(file)).equals(exported)).toBe(true);
  expect(await left()).toHaveLength(1);
  release();
  await builder.close();
  expect(await left()).toEqual([]);
});

test('a node that stops during the checkpoint does not wait for a snapshot', async () => {
  let stopped: Promise<void> | undefined;
  const builder: SnapshotBuilder = builderOf(
    followedBy(async () => {
      stopped = builder.close();
    }),
    NEVER,
  );
  await expect(builder.lease(() => 1)).rejects.toThrow('the node stops');
  await stopped;
  expect(await left()).toEqual([]);
});

test('a node that stops while the thread writes does not wait for its pace', async () => {
  const builder = builderOf(store, NEVER);
  const refused = builder.lease(() => 1).catch((error: unknown) => error);
  // One chunk goes through at once, the next one would in three days.
  while ((await writtenBytes()) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await builder.close();
  expect(await refused).toMatchObject({ code: 'no-leader', message: 'the node stops' });
  await expect(builder.lease(() => 1)).rejects.toMatchObject({ code: 'no-leader' });
  expect(await left()).toEqual([]);
});

test('what the thread cannot read is an error of that snapshot only', async () => {
  let isDamaged = true;
  const damaged = followedBy(async (directory) => {
    if (isDamaged) await unlink(join(directory, 'CURRENT'));
  });
  const builder = builderOf(damaged, 0);
  await expect(builder.lease(() => 1)).rejects.toThrow('Database failed to open');
  expect(await left()).toEqual([]);
  isDamaged = false;
  const lease = await builder.lease(() => 1);
  expect(lease.snapshot.lastIncludedIndex).toBe(1);
  lease.release();
  await builder.close();
});

test('for who waits for it a snapshot is built at once', async () => {
  const builder = builderOf(store, NEVER);
  const { file, release } = await builder.lease(() => 1, AT_ONCE);
  expect((await stat(file)).size).toBeGreaterThan(1_000_000);
  release();
  await builder.close();
});
