/**
 * A snapshot is installed in four durable steps: its file, the store, the log's reset, and the
 * file's removal. Whenever a node is killed or loses power in between, it must start as wholly the
 * old node or wholly the new one, with nothing left over, and again so the next time.
 *
 * The steps are those of production, on real files. A state that a kill leaves is a copy made in
 * the midst of a step; one that power loss leaves is such a copy without some of what was not
 * synced by then: files, lengths of files, names.
 */

import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { openDurableLog, openDurableLogOn } from '../storage/durable-log.ts';
import type { DurableLogOptions } from '../storage/durable-log.ts';
import { openLevelStore, openLevelStoreWithSteps } from '../storage/leveldb.ts';
import { MemoryLogFiles } from '../storage/memory-log-files.ts';
import { applyAndPublish, collect, position, put, textAt } from '../storage/store.contract.ts';
import type { StorePosition } from '../storage/store.ts';
import { systemClock } from './clock.ts';
import { createInlineRaft } from './inline-raft.ts';
import { openReplicaStorage } from './replica-storage.ts';
import { replicaSettings } from './settings.ts';
import { syncPath } from '../storage/sync-path.ts';
import { snapshotFileName } from './snapshot-files.ts';

const OLD = position(5);
const NEW: StorePosition = { ...position(20), lastIncludedTerm: 4 };
const LOG: DurableLogOptions = { thread: 'inline', segmentBytes: 16_384, identity: 'n1' };
const HARD_STATE = { currentTerm: 3, votedFor: 'n2', commitIndex: 5 };
const PART = join('snapshots', `20-4-${'ab'.repeat(16)}.part`);
const COMPLETE = join('snapshots', snapshotFileName(NEW, 'snapshot'));
const OLD_STORE = join('store', 'store-000001');
const NEW_STORE = join('store', 'store-000002');
/** Each start opens a database; a test of dozens takes seconds, and more on a busy machine. */
const MANY_STARTS_MS = 180_000;
const SILENT = { info() {}, warn() {}, error() {} };

let root: string;
let copies = 0;
/** What a kill leaves, by the name of the moment. */
const states = new Map<string, string>();

function copyOf(directory: string): string {
  copies += 1;
  const copy = join(root, `copy-${copies}`);
  cpSync(directory, copy, { recursive: true, filter: (path) => basename(path) !== 'lock' });
  return copy;
}

/** Runs a whole installation and keeps the states in between. */
async function install(directory: string): Promise<void> {
  const note = (name: string): void => void states.set(name, copyOf(directory));
  await create(directory);
  const bytes = await snapshotBytes();
  note('a nothing has arrived');
  writeFileSync(join(directory, PART), bytes.subarray(0, bytes.length / 2));
  note('b the file is written in part');
  writeFileSync(join(directory, PART), bytes);
  note('c the file is complete');
  renameSync(join(directory, PART), join(directory, COMPLETE));
  note('d the file has its name');
  await syncPath(join(directory, 'snapshots'));

  let removed: () => void = () => undefined;
  const whenRemoved = new Promise<void>((resolve) => (removed = resolve));
  const steps = { wroteGroup: 'e the store is being built', synced: 'f the store is built' };
  const store = await openLevelStoreWithSteps(
    join(directory, 'store'),
    { mode: 'overlay' },
    (step) => {
      if (step === 'wroteGroup' || step === 'synced') note(steps[step]);
      if (step === 'switched') note('g the pointer names the new store');
      if (step === 'removedOld') removed();
    },
  );
  await store.importSnapshot(NEW, chunksOf(bytes));
  await whenRemoved;
  await store.close();

  const { log, recovered } = await openDurableLog(join(directory, 'log'), LOG);
  const hardState = { ...recovered.hardState, currentTerm: 4, votedFor: null };
  await log.append({ hardState, reset: { index: 20, term: 4 }, entries: [] });
  note('h the log is reset');
  await log.close();
  rmSync(join(directory, COMPLETE));
  note('i the file is removed');
}

/** A node that has applied 5 of 8 entries. */
async function create(directory: string): Promise<void> {
  mkdirSync(join(directory, 'snapshots'), { recursive: true });
  const store = await openLevelStore(join(directory, 'store'), { mode: 'sync' });
  await applyAndPublish(store, [put('which', 'old'), put('only old', '')], 5);
  await store.close();
  const { log } = await openDurableLog(join(directory, 'log'), LOG);
  const entries = [1, 2, 3, 4, 5, 6, 7, 8].map((index): Entry => {
    return { index, term: 3, kind: 'command', command: Buffer.from(`command ${index}`) };
  });
  await log.append({ hardState: HARD_STATE, entries });
  await log.close();
}

async function snapshotBytes(): Promise<Buffer> {
  const store = await openLevelStore(join(root, 'source'), { mode: 'sync' });
  await store.apply([put('which', 'new'), put('large', 'x'.repeat(300_000))], NEW);
  store.publish();
  const exported = store.exportSnapshot();
  const bytes = Buffer.concat(await collect(exported.chunks));
  await exported.close();
  await store.close();
  return bytes;
}

async function* chunksOf(bytes: Buffer) {
  yield bytes;
}

/** Starts the node as `openReplica` does, twice, and says what it is. */
async function startedAs(directory: string): Promise<string> {
  const first = await startOnce(directory);
  const second = await startOnce(directory);
  expect(second).toBe(first);
  return first;
}

async function startOnce(directory: string): Promise<string> {
  const storage = await openReplicaStorage(directory, {
    nodeId: 'n1',
    logThread: 'inline',
    fsmMode: 'overlay',
  });
  const { store } = storage;
  const at = store.position();
  const which = textAt(store, 'which');
  const keys = await store.list('', {});
  const raft = createInlineRaft({
    clock: systemClock,
    random: () => 0,
    nodeId: 'n1',
    settings: replicaSettings(),
    logger: SILENT,
    storage,
    network: { onConnection: () => undefined, dial: () => Promise.reject(new Error('alone')) },
  });
  try {
    await (await raft.open(at)).close();
  } finally {
    await store.close();
  }
  const { log, recovered } = await openDurableLog(join(directory, 'log'), LOG);
  await log.close();
  const { hardState, snapshot, entries } = recovered;

  expect(readdirSync(join(directory, 'snapshots'))).toEqual([]);
  expect(readdirSync(join(directory, 'store')).filter((name) => /^store-/.test(name))).toHaveLength(
    1,
  );
  const isNew = which === 'new';
  expect(at).toEqual(isNew ? NEW : OLD);
  expect(keys).toEqual(isNew ? ['large', 'which'] : ['only old', 'which']);
  expect(snapshot).toEqual(isNew ? { index: 20, term: 4 } : { index: 0, term: 0 });
  expect(entries.length).toBe(isNew ? 0 : 8);
  expect(hardState).toMatchObject(isNew ? { currentTerm: 4, votedFor: null } : HARD_STATE);
  return which ?? 'nothing';
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'install-crash-'));
  await install(join(root, 'node'));
});
afterAll(() => rmSync(root, { recursive: true }));

function stateOf(letter: string): string {
  const found = [...states].find(([name]) => name.startsWith(letter))?.[1];
  expect(found).toBeDefined();
  return found ?? '';
}

/** Subsets of the files in `folder` are missing; then each of them is cut in half. */
function* withoutUnsynced(state: string, folder: string): Iterable<string> {
  // LevelDB keeps nothing in its LOCK and its LOG.
  const names = readdirSync(join(state, folder)).filter((name) => !name.startsWith('LO'));
  for (let subset = 0; subset < 2 ** names.length; subset += 1) {
    const copy = copyOf(state);
    for (const [i, name] of names.entries()) {
      if ((subset >> i) % 2 === 1) rmSync(join(copy, folder, name));
    }
    yield copy;
  }
  for (const name of names) {
    const copy = copyOf(state);
    const path = join(copy, folder, name);
    truncateSync(path, Math.floor(readFileSync(path).length / 2));
    yield copy;
  }
  const copy = copyOf(state);
  rmSync(join(copy, folder), { recursive: true });
  yield copy;
}

function* partsOf(state: string, path: string): Iterable<string> {
  const { length } = readFileSync(join(state, path));
  for (const kept of [0, 1, Math.floor(length / 2), length]) {
    const copy = copyOf(state);
    truncateSync(join(copy, path), kept);
    yield copy;
  }
  const copy = copyOf(state);
  rmSync(join(copy, path));
  yield copy;
}

describe('killed when', () => {
  test.each([
    ['a', 'old'],
    ['b', 'old'],
    ['c', 'old'],
    ['d', 'old'],
    ['e', 'old'],
    ['f', 'old'],
    ['g', 'new'],
    ['h', 'new'],
    ['i', 'new'],
  ])('%s: the %s node starts', async (letter, expected) => {
    expect(await startedAs(copyOf(stateOf(letter)))).toBe(expected);
  });
});

describe('power lost when', () => {
  async function expectEach(variants: Iterable<string>, expected: string): Promise<number> {
    let count = 0;
    for (const variant of variants) {
      expect(await startOnce(variant)).toBe(expected);
      rmSync(variant, { recursive: true });
      count += 1;
    }
    return count;
  }

  test.each(['b', 'c'])('%s: any part of the file may be there', async (letter) => {
    expect(await expectEach(partsOf(stateOf(letter), PART), 'old')).toBe(5);
  });

  test('d: the file may have its old name, or none', async () => {
    const renamed = stateOf('d');
    const before = copyOf(renamed);
    renameSync(join(before, COMPLETE), join(before, PART));
    const gone = copyOf(renamed);
    rmSync(join(gone, COMPLETE));
    expect(await expectEach([before, gone], 'old')).toBe(2);
  });

  test(
    'e: any of the new store’s files may be there, whole or in part',
    async () => {
      const count = await expectEach(withoutUnsynced(stateOf('e'), NEW_STORE), 'old');
      expect(count).toBeGreaterThan(10);
    },
    MANY_STARTS_MS,
  );

  test('f: any part of the next pointer may be there', async () => {
    const pointing = copyOf(stateOf('f'));
    const next = join('store', 'current.next');
    writeFileSync(join(pointing, next), 'store-000002\n');
    expect(await expectEach(partsOf(pointing, next), 'old')).toBe(5);
  });

  test('g: the old pointer names the old store, the new one the new', async () => {
    const before = copyOf(stateOf('g'));
    writeFileSync(join(before, 'store', 'current'), 'store-000001\n');
    expect(await startedAs(before)).toBe('old');
    expect(await startedAs(copyOf(stateOf('g')))).toBe('new');
  });

  test(
    'h: any part of the reset may have reached the log',
    async () => {
      const directory = stateOf('g');
      const log = new Map(
        readdirSync(join(directory, 'log')).map((name) => {
          return [join('/log', name), readFileSync(join(directory, 'log', name))];
        }),
      );
      const kept = [() => false, () => true, alternating(0), alternating(1)];
      const seen = new Set<string>();
      let isReset = false;
      for (let changes = 0; !isReset; changes += 1) {
        const files = new MemoryLogFiles(log);
        const opened = await openDurableLogOn(files, '/log', LOG);
        files.failAfter(changes, new Error('power loss'));
        const hardState = { ...HARD_STATE, currentTerm: 4, votedFor: null };
        const reset = { index: 20, term: 4 };
        isReset = await opened.log.append({ hardState, reset, entries: [] }).then(
          () => true,
          () => false,
        );
        for (const isKept of kept) {
          const left = files.contentsAfterPowerLoss(isKept);
          const digest = digestOf(left);
          if (seen.has(digest)) continue;
          seen.add(digest);
          const variant = copyOf(directory);
          rmSync(join(variant, 'log'), { recursive: true });
          mkdirSync(join(variant, 'log'));
          for (const [path, content] of left) {
            writeFileSync(join(variant, 'log', basename(path)), content);
          }
          expect(await startOnce(variant)).toBe('new');
          rmSync(variant, { recursive: true });
        }
        expect(changes).toBeLessThan(50);
      }
      expect(seen.size).toBeGreaterThan(5);
    },
    MANY_STARTS_MS,
  );

  test(
    'i: any of the old store’s files and the snapshot may still be there',
    async () => {
      const removing = copyOf(stateOf('h'));
      cpSync(join(stateOf('f'), OLD_STORE), join(removing, OLD_STORE), { recursive: true });
      expect(existsSync(join(removing, COMPLETE))).toBe(true);
      expect(await expectEach(withoutUnsynced(removing, OLD_STORE), 'new')).toBeGreaterThan(10);
    },
    MANY_STARTS_MS,
  );

  /** Tells states apart in spite of random salts: by how much is written where. */
  function digestOf(contents: ReadonlyMap<string, Buffer>): string {
    return [...contents]
      .map(
        ([path, bytes]) => `${path} ${bytes.length} ${bytes.filter((byte) => byte !== 0).length}`,
      )
      .join(';');
  }

  function alternating(first: number): () => boolean {
    let count = first;
    return () => (count++ & 1) === 0;
  }
});
