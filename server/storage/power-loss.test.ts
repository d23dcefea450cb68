/**
 * Why no batch may go to LevelDB unsynced (google/leveldb#193), and that ours do not.
 *
 * LevelDB appends batches to a log. When its memtable is full it begins the next log and closes the
 * last one, without a sync; that log is needed until a table with the same contents is synced and
 * named in the manifest. (Seen with strace in the version that classic-level bundles: thousands of
 * unsynced batches and the change of the log without one fdatasync.)
 *
 * Until something is synced, a kernel may write the pages of different files in any order, and a
 * power cut keeps whatever it had written. So after one, right after the change, the old log can
 * end anywhere after what was last synced of it while the new one is whole. Opening takes an old
 * log that ends early for one whose writer has died, and goes on with the new one: batches in the
 * middle are gone, and the position says that they are there.
 *
 * What is simulated is only that cut: from the files of a real database, which are recorded as they
 * grow, every combination of lengths that it may leave is laid out in a directory and opened.
 */

import assert from 'node:assert/strict';
import { cpSync, linkSync, mkdirSync, mkdtempSync } from 'node:fs';
import { readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ClassicLevel } from 'classic-level';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { openLevelStore } from './leveldb.ts';
import { position, textAt } from './store.contract.ts';
import type { Store } from './store.ts';

/** 64 of these fill LevelDB's memtable. */
const VALUE = Buffer.alloc(64 * 1024, 7);
const BATCHES_MAX = 100;
/** After the change of the log. */
const BATCHES_IN_NEW_LOG = 3;

type Batches = { write(options?: { sync?: boolean }): Promise<void> };

let root: string;
/** What all batches inherit from. */
let batches: Batches;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'power-loss-'));
  const level = new ClassicLevel(join(root, 'any'));
  await level.open();
  batches = Object.getPrototypeOf(Object.getPrototypeOf(level.batch())) as Batches;
  await level.close();
});
afterEach(() => rmSync(root, { recursive: true }));

/** The files of a database as they grow, and how much of each log a sync has covered. */
class Recording {
  readonly #directory: string;
  readonly #copy: string;
  readonly #logs = new Map<string, { length: number; synced: number }>();
  readonly #stop: () => void;

  /** `directory` has just been opened: all that is there is synced. */
  constructor(directory: string, copy: string) {
    this.#directory = directory;
    this.#copy = copy;
    cpSync(directory, copy, { recursive: true, filter: (path) => !/\.(log|ldb)$/.test(path) });
    this.#look(true);
    this.#stop = this.#watchBatches();
  }

  get logCount(): number {
    return this.#logs.size;
  }

  /** Sees with which options batches are really written, whoever writes them. */
  #watchBatches(): () => void {
    const { write } = batches;
    const look = this.#look.bind(this);
    batches.write = async function (options) {
      await write.call(this, options);
      look(options?.sync === true);
    };
    return () => (batches.write = write);
  }

  /** A sync covers the log that the batch went to, which is the newest. */
  #look(isSynced: boolean): void {
    const names = readdirSync(this.#directory).filter((name) => name.endsWith('.log'));
    for (const name of names.toSorted()) {
      // A link keeps what LevelDB removes when it needs it no more: after the cut it was needed.
      if (!this.#logs.has(name)) linkSync(join(this.#directory, name), join(this.#copy, name));
      const log = this.#logs.get(name) ?? { length: 0, synced: 0 };
      log.length = statSync(join(this.#directory, name)).size;
      this.#logs.set(name, log);
    }
    const newest = this.#logs.get([...this.#logs.keys()].toSorted().at(-1) ?? '');
    if (isSynced && newest !== undefined) newest.synced = newest.length;
  }

  /** Every state that a power cut now may leave, laid out in a directory of its own. */
  *afterPowerCut(): Iterable<string> {
    this.#stop();
    let cuts: Map<string, number>[] = [new Map()];
    for (const [name, { length, synced }] of this.#logs) {
      const middle = Math.floor((synced + length) / 2);
      const lengths = [...new Set([synced, middle, length])];
      cuts = cuts.flatMap((cut) => lengths.map((kept) => new Map(cut).set(name, kept)));
    }
    for (const [i, cut] of cuts.entries()) {
      const directory = `${this.#copy}-${i}`;
      cpSync(this.#copy, directory, { recursive: true });
      for (const [name, kept] of cut) truncateSync(join(directory, name), kept);
      yield directory;
    }
  }
}

type Outcome = { readonly index: number; readonly missing: number[]; readonly beyond: number[] };

/** Which batches are there, of those up to the stored index and of those after it. */
function outcomeOf(index: number, holds: (index: number) => boolean): Outcome {
  const missing: number[] = [];
  const beyond: number[] = [];
  for (let i = 1; i <= BATCHES_MAX; i += 1) {
    if (i <= index && !holds(i)) missing.push(i);
    if (i > index && holds(i)) beyond.push(i);
  }
  return { index, missing, beyond };
}

async function runUntilLogChanges(
  recording: Recording,
  write: (index: number) => Promise<void>,
): Promise<number> {
  let index = 0;
  for (let left = BATCHES_IN_NEW_LOG; left > 0;) {
    index += 1;
    assert(index < BATCHES_MAX, 'LevelDB keeps to one log');
    await write(index);
    if (recording.logCount > 1) left -= 1;
  }
  return index;
}

/** The unsafe way: it exists in this test alone. `isSynced` says which batches are synced. */
async function outcomesOfUnsafe(isSynced: (index: number, isNew: boolean) => boolean) {
  const directory = join(root, 'unsafe');
  const options = { keyEncoding: 'utf8', valueEncoding: 'buffer', compression: false } as const;
  const level = new ClassicLevel<string, Buffer>(directory, options);
  await level.open();
  const recording = new Recording(directory, join(root, 'unsafe-cut'));
  const last = await runUntilLogChanges(recording, async (index) => {
    const batch = level
      .batch()
      .put(`d${index}`, VALUE)
      .put('p', Buffer.from(String(index)));
    await batch.write({ sync: isSynced(index, recording.logCount > 1) });
  });
  const outcomes: Outcome[] = [];
  for (const cut of recording.afterPowerCut()) {
    const again = new ClassicLevel<string, Buffer>(cut, options);
    await again.open();
    const index = Number(again.getSync('p') ?? 0);
    outcomes.push(outcomeOf(index, (i) => again.getSync(`d${i}`) !== undefined));
    await again.close();
  }
  await level.close();
  return { last, outcomes };
}

test.each([
  { what: 'no batch is synced', isSynced: () => false },
  {
    what: 'the batches after the change are synced',
    isSynced: (_: number, isNew: boolean) => isNew,
  },
])('without a sync of every batch, power loss makes a hole: $what', async ({ isSynced }) => {
  const { last, outcomes } = await outcomesOfUnsafe(isSynced);
  const holes = outcomes.filter(({ missing }) => missing.length > 0);
  expect(holes.length).toBeGreaterThan(0);
  // The worst of them: the position says `last`, and nearly everything before it is gone.
  const worst = holes
    .filter(({ index }) => index === last)
    .toSorted((a, b) => b.missing.length - a.missing.length)[0];
  expect(worst).toMatchObject({ index: last, beyond: [] });
  expect(worst?.missing.length).toBeGreaterThan(last - BATCHES_IN_NEW_LOG - 3);
});

test('the simulated cut is not what makes the hole: with every batch synced there is none', async () => {
  const { last, outcomes } = await outcomesOfUnsafe(() => true);
  expect(outcomes).toEqual([{ index: last, missing: [], beyond: [] }]);
});

const keyOf = (index: number): string => `k/${index}`;

async function applyAt(store: Store, index: number): Promise<void> {
  const operations = [{ kind: 'put', key: keyOf(index), value: VALUE } as const];
  const written = store.apply(operations, position(index));
  if (written !== undefined) await written;
  store.publish();
}

test.each(['sync', 'overlay'] as const)(
  'our store (%s) keeps all that was durable, and nothing but a prefix',
  async (mode) => {
    const directory = join(root, 'ours');
    const store = await openLevelStore(directory, { mode });
    const copy = join(root, 'ours-cut');
    mkdirSync(copy);
    const recording = new Recording(join(directory, 'store-000001'), join(copy, 'store'));
    const last = await runUntilLogChanges(recording, async (index) => {
      await applyAt(store, index);
      if (index % 3 === 0) await store.flush();
    });
    const durable = store.durablePosition().lastIncludedIndex;
    expect(durable).toBeGreaterThan(last - 3);

    let cutCount = 0;
    for (const cut of recording.afterPowerCut()) {
      cutCount += 1;
      const whole = join(copy, `whole-${cutCount}`);
      cpSync(cut, join(whole, 'store-000001'), { recursive: true });
      cpSync(join(directory, 'current'), join(whole, 'current'));
      const again = await openLevelStore(whole, { mode });
      const index = again.position().lastIncludedIndex;
      expect(index).toBeGreaterThanOrEqual(durable);
      const holds = (i: number): boolean => textAt(again, keyOf(i)) !== undefined;
      expect(outcomeOf(index, holds)).toEqual({ index, missing: [], beyond: [] });
      await again.close();
    }
    expect(cutCount).toBeGreaterThan(0);
    await store.close();
  },
);
