import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { encodeConfiguration } from '../raft/configuration.ts';
import type { Entry } from '../raft/message.ts';
import { encodeCommand } from '../storage/command.ts';
import { LevelBatch } from '../storage/level-home.ts';
import { openLevelStore } from '../storage/leveldb.ts';
import type { StoreMode } from '../storage/leveldb.ts';
import type { Store } from '../storage/store.ts';
import { Applier, BACKLOG_BYTES_MAX } from './applier.ts';
import { ENTRY_BYTES, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX } from './apply-queue.ts';
import { systemClock } from './clock.ts';

let directory: string;
let store: Store;
/** Ends of batches that are held. */
let held: (() => void)[];
let isHeld: boolean;
let events: string[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'applier-'));
  held = [];
  isHeld = true;
  events = [];
  const { write } = LevelBatch.prototype;
  vi.spyOn(LevelBatch.prototype, 'write').mockImplementation(async function (this: LevelBatch, at) {
    if (isHeld) await new Promise<void>((proceed) => held.push(proceed));
    await write.call(this, at);
  });
});
afterEach(async () => {
  release();
  await store.close();
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

function release(): void {
  isHeld = false;
  for (const proceed of held) proceed();
}

async function applierOn(mode: StoreMode): Promise<Applier> {
  store = await openLevelStore(directory, { mode });
  return new Applier({
    clock: systemClock,
    store,
    onApplied: ({ position }) => events.push(`applied ${position.lastIncludedIndex}`),
    onDurable: (index) => events.push(`durable ${index}`),
    onFatal: (error) => events.push(String(error)),
  });
}

function command(index: number, value = new Uint8Array(1)): Entry {
  const operations = [{ kind: 'put', key: `k/${index}`, value } as const];
  return { index, term: 1, kind: 'command', command: encodeCommand(operations) };
}

function configuration(index: number): Entry {
  const servers = [{ id: `n${index}`, address: 'h:1', suffrage: 'voter' as const }];
  return { index, term: 1, kind: 'configuration', command: encodeConfiguration({ servers }) };
}

test('overlay: entries are visible before enqueue returns, and durable later', async () => {
  const applier = await applierOn('overlay');
  applier.enqueue([command(1), command(2)]);
  expect(applier.appliedIndex()).toBe(2);
  expect(store.get('k/2')).toBeDefined();
  expect(events).toEqual(['applied 2']);

  release();
  await applier.stop();
  expect(events).toEqual(['applied 2', 'durable 2']);
});

test('sync: entries are durable when they become visible', async () => {
  const applier = await applierOn('sync');
  applier.enqueue([command(1)]);
  expect(applier.appliedIndex()).toBe(0);
  expect(events).toEqual([]);
  release();
  expect(await applier.awaitApplied(1, 5_000)).toBe(true);
  expect(events).toEqual(['applied 1', 'durable 1']);
});

test('overlay: a configuration is written at once, and reported when it is durable', async () => {
  const applier = await applierOn('overlay');
  applier.enqueue([command(1)]);
  expect(held.length).toBe(0);
  applier.enqueue([configuration(2)]);
  expect(held.length).toBe(1);
  applier.enqueue([command(3)]);
  expect(applier.configuration().servers.map(({ id }) => id)).toEqual(['n2']);
  expect(events).toEqual(['applied 1', 'applied 2', 'applied 3']);
  release();
  await store.flush();
  expect(events.slice(3)).toEqual(['durable 2', 'durable 3']);
});

test('a backlog leaves turns to others between its groups', async () => {
  const applier = await applierOn('overlay');
  const count = 2 * GROUP_ENTRIES_MAX + 1;
  applier.enqueue(Array.from({ length: count }, (_, offset) => command(1 + offset)));
  expect(applier.appliedIndex()).toBe(GROUP_ENTRIES_MAX);
  const seen: number[] = [];
  while (applier.appliedIndex() < count) {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(applier.appliedIndex());
  }
  expect(seen.length).toBeGreaterThan(1);
});

test('entries without a command count for what they take', async () => {
  const applier = await applierOn('sync');
  const count = BACKLOG_BYTES_MAX / ENTRY_BYTES;
  const empty = new Uint8Array(0);
  const entries = Array.from({ length: count }, (_, at): Entry => ({
    index: 1 + at,
    term: 1,
    kind: 'noop',
    command: empty,
  }));
  // The first group is being applied, and waits no more.
  applier.enqueue(entries);
  expect(applier.isBacklogged()).toBe(false);
  const rest = Array.from({ length: GROUP_ENTRIES_MAX }, (_, at) => ({
    ...{ index: count + 1 + at, term: 1, kind: 'noop' as const, command: empty },
  }));
  applier.enqueue(rest);
  expect(applier.isBacklogged()).toBe(false);
  applier.enqueue([{ index: count + rest.length + 1, term: 1, kind: 'noop', command: empty }]);
  expect(applier.isBacklogged()).toBe(true);
  const stopped = applier.stop();
  release();
  await stopped;
  expect(applier.isBacklogged()).toBe(false);
});

test('so much that waits that nothing more should be proposed is said', async () => {
  const applier = await applierOn('sync');
  const value = new Uint8Array(GROUP_BYTES_MAX);
  let index = 0;
  while (!applier.isBacklogged()) {
    index += 1;
    applier.enqueue([command(index, value)]);
    expect(index).toBeLessThan(2 + BACKLOG_BYTES_MAX / GROUP_BYTES_MAX);
  }
  expect(index).toBeGreaterThan(BACKLOG_BYTES_MAX / GROUP_BYTES_MAX - 1);
  release();
  expect(await applier.awaitApplied(index, 20_000)).toBe(true);
  expect(applier.isBacklogged()).toBe(false);
});
