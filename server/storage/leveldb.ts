/**
 * The store on LevelDB.
 *
 * Every apply is one synced batch that holds data and position. LevelDB can lose a batch in the
 * middle at power loss if an unsynced one is among them (google/leveldb#193), so there is none.
 *
 * Readers look through an explicit snapshot, which `publish` replaces: a batch that is already
 * written is not yet visible. Data keys begin with `d`, and the position is at `p`, out of their
 * reach. An import goes to a database of its own, see `store-directory.ts`.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { ClassicLevel } from 'classic-level';

import { lockDirectory } from './directory-lock.ts';
import { childOf, compareKeys, keyAfterChild } from './key-order.ts';
import { SharedResource } from './shared-resource.ts';
import { decodeSnapshot, encodeSnapshot } from './snapshot-codec.ts';
import type { StorePair } from './snapshot-codec.ts';
import { findStore, nameAfter, pointTo, removeStore, syncStore } from './store-directory.ts';
import { INITIAL_POSITION, decodePosition, encodePosition } from './store-position.ts';
import type { Store, StoreOperation, StorePosition, StoreStream } from './store.ts';

const DATA = 'd';
/** All data keys are below this. */
const DATA_END = 'e';
const POSITION_KEY = 'p';

const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024;
// A listing reads this many keys, then seeks if it is still in the same subdirectory: cheaper than
// a seek per child where subdirectories are small, and bounded where they are large.
const LIST_KEYS = 64;
const EXPORT_PAIRS = 256;

export type LevelStoreOptions = { readonly cacheBytes?: number };

/** The moments of an import between which a crash makes a difference. */
export type ImportStep =
  'began' | 'wroteGroup' | 'wroteAll' | 'closed' | 'synced' | 'switched' | 'opened' | 'removedOld';

type Level = ClassicLevel<string, Buffer>;
type Snapshot = ReturnType<Level['snapshot']>;

/** Opens or creates a store in a directory of its own. */
export async function openLevelStore(
  directory: string,
  options: LevelStoreOptions = {},
): Promise<Store> {
  return openLevelStoreWithSteps(directory, options, () => {});
}

/** `openLevelStore` that tells how far an import is, for crash tests. */
export async function openLevelStoreWithSteps(
  directory: string,
  options: LevelStoreOptions,
  reached: (step: ImportStep) => void,
): Promise<Store> {
  await mkdir(directory, { recursive: true });
  // LevelDB's own lock does not cover leftovers, which are removed before a database is opened.
  const unlock = lockDirectory(directory);
  try {
    const cacheBytes = options.cacheBytes ?? CACHE_BYTES_DEFAULT;
    const { name, level } = await openCurrent(directory, cacheBytes);
    const position = await readPosition(level);
    const setting = { directory, cacheBytes, reached, unlock };
    return new LevelStore(setting, new Database(name, level), position);
  } catch (error) {
    unlock();
    throw error;
  }
}

async function openCurrent(directory: string, cacheBytes: number) {
  const { name, isNew } = await findStore(directory);
  const level = await openLevel(join(directory, name), { cacheBytes, create: isNew });
  if (isNew) {
    await level.put(POSITION_KEY, encodePosition(INITIAL_POSITION), { sync: true });
    await pointTo(directory, { name, isNew: false });
  }
  return { name, level };
}

async function readPosition(level: Level): Promise<StorePosition> {
  const stored = level.getSync(POSITION_KEY);
  if (stored !== undefined) return decodePosition(stored);
  await level.close();
  throw new Error(`Cannot open the store: ${level.location} has no position`);
}

async function openLevel(
  path: string,
  options: { cacheBytes: number; create: boolean },
): Promise<Level> {
  const level: Level = new ClassicLevel<string, Buffer>(path, {
    keyEncoding: 'utf8',
    valueEncoding: 'buffer',
    // Values are encrypted, and ciphertext does not compress.
    compression: false,
    cacheSize: options.cacheBytes,
    createIfMissing: options.create,
  });
  await level.open();
  return level;
}

/** A database, and the views of it as its users. */
class Database extends SharedResource {
  readonly name: string;
  readonly level: Level;

  constructor(name: string, level: Level) {
    super(() => level.close());
    this.name = name;
    this.level = level;
  }
}

/** What readers see: a database as of one position. Its users are listings and exports. */
class View extends SharedResource {
  readonly level: Level;
  readonly position: StorePosition;
  readonly readOptions: { snapshot: Snapshot; keyEncoding: 'utf8'; valueEncoding: 'buffer' };

  constructor(database: Database, position: StorePosition) {
    const leave = database.enter();
    const snapshot = database.level.snapshot();
    super(async () => {
      await snapshot.close();
      leave();
    });
    this.level = database.level;
    this.position = position;
    this.readOptions = { snapshot, keyEncoding: 'utf8', valueEncoding: 'buffer' };
  }
}

type LevelStoreSetting = {
  readonly directory: string;
  readonly cacheBytes: number;
  readonly reached: (step: ImportStep) => void;
  readonly unlock: () => void;
};

/**
 * Invariants:
 * - `#view` is of `#database`, as of what was published last.
 * - `#applied` is the position of a batch that is written, or being written, and not published.
 */
class LevelStore implements Store {
  readonly #setting: LevelStoreSetting;
  #database: Database;
  #view: View;
  #applied: StorePosition | undefined;
  /** Stays set if an import fails after the switch: this object then shows the wrong store. */
  #isImporting = false;
  readonly #exports = new Set<() => void>();
  /** The end of the last database that an import replaced. */
  #retired: Promise<void> = Promise.resolve();

  constructor(setting: LevelStoreSetting, database: Database, position: StorePosition) {
    this.#setting = setting;
    this.#database = database;
    this.#view = new View(database, position);
  }

  position(): StorePosition {
    return this.#view.position;
  }

  get(key: string): Uint8Array | undefined {
    return this.#view.level.getSync(DATA + key, this.#view.readOptions);
  }

  async list(
    prefix: string,
    page: { after?: string | undefined; limit?: number | undefined },
  ): Promise<string[]> {
    assert(prefix === '' || prefix.endsWith('/'), 'a listed prefix must end in a slash');
    const after = page.after ?? '';
    const limit = page.limit ?? Infinity;
    assert(limit > 0, 'a page must have room');
    const view = this.#view;
    const leave = view.enter();
    const keys = view.level.keys({
      gte: DATA + prefix + after,
      lt: prefix === '' ? DATA_END : DATA + keyAfterChild('', prefix),
      snapshot: view.readOptions.snapshot,
    });
    const children: string[] = [];
    let last = after;
    try {
      while (children.length < limit) {
        const group = await keys.nextv(Math.min(LIST_KEYS, limit - children.length + 1));
        const lastKey = group.at(-1);
        if (lastKey === undefined) break;
        for (const key of group) {
          const child = childOf(prefix, key.slice(DATA.length));
          if (compareKeys(child, last) <= 0) continue;
          last = child;
          if (children.length < limit) children.push(child);
        }
        const lastChild = childOf(prefix, lastKey.slice(DATA.length));
        if (lastChild.endsWith('/')) keys.seek(DATA + keyAfterChild(prefix, lastChild));
      }
      return children;
    } finally {
      await keys.close();
      leave();
    }
  }

  async apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void> {
    assert(this.#applied === undefined, 'apply before the last one was published');
    assert(!this.#isImporting, 'apply during an import');
    assert(
      this.#view.position.lastIncludedIndex <= position.lastIncludedIndex,
      'the position recedes',
    );
    this.#applied = position;

    const batch = this.#database.level.batch();
    for (const operation of operations) {
      if (operation.kind === 'put') batch.put(DATA + operation.key, asBuffer(operation.value));
      else batch.del(DATA + operation.key);
    }
    batch.put(POSITION_KEY, encodePosition(position));
    await batch.write({ sync: true });
  }

  publish(): void {
    assert(this.#applied !== undefined, 'publish without apply');
    this.#showFrom(this.#database, this.#applied);
    this.#applied = undefined;
  }

  exportSnapshot() {
    const view = this.#view;
    const leave = view.enter();
    const release = () => {
      if (this.#exports.delete(release)) leave();
    };
    this.#exports.add(release);
    const chunks = encodeSnapshot(view.position, readPairs(view));
    return { position: view.position, chunks, close: async () => release() };
  }

  async importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
    assert(this.#applied === undefined, 'import before the last apply was published');
    assert(!this.#isImporting, 'import during an import');
    this.#isImporting = true;
    const { directory, reached } = this.#setting;
    const name = nameAfter(this.#database.name);
    try {
      // Its directory must be gone before there is another old one.
      await this.#retired;
      await this.#build(name, position, chunks);
    } catch (error) {
      await removeStore(directory, name);
      this.#isImporting = false;
      throw error;
    }
    await pointTo(directory, { name, isNew: false });
    reached('switched');
    const level = await openLevel(join(directory, name), { ...this.#setting, create: false });
    reached('opened');
    this.#replace(new Database(name, level), position);
    this.#isImporting = false;
  }

  async stateHash(): Promise<string> {
    const hash = createHash('sha256');
    const snapshot = this.exportSnapshot();
    try {
      for await (const chunk of snapshot.chunks) hash.update(chunk);
    } finally {
      await snapshot.close();
    }
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    for (const release of this.#exports) release();
    try {
      await this.#retired;
      void this.#view.retire();
      await this.#database.retire();
    } finally {
      this.#setting.unlock();
    }
  }

  /** Builds a durable database from a snapshot. */
  async #build(name: string, position: StorePosition, chunks: StoreStream): Promise<void> {
    const { directory, reached } = this.#setting;
    const level = await openLevel(join(directory, name), { ...this.#setting, create: true });
    reached('began');
    try {
      for await (const pairs of decodeSnapshot(position, chunks)) {
        const batch = level.batch();
        for (const { key, value } of pairs) batch.put(DATA + key, asBuffer(value));
        await batch.write({ sync: true });
        reached('wroteGroup');
      }
      await level.put(POSITION_KEY, encodePosition(position), { sync: true });
      reached('wroteAll');
    } finally {
      await level.close();
    }
    reached('closed');
    await syncStore(directory, name);
    reached('synced');
  }

  #replace(database: Database, position: StorePosition): void {
    const { directory, reached } = this.#setting;
    const old = this.#database;
    this.#database = database;
    this.#showFrom(database, position);
    this.#retired = retire();
    // `close` and the next import hear of a failure.
    this.#retired.catch(() => {});

    async function retire(): Promise<void> {
      await old.retire();
      await removeStore(directory, old.name);
      reached('removedOld');
    }
  }

  #showFrom(database: Database, position: StorePosition): void {
    const old = this.#view;
    this.#view = new View(database, position);
    // Closing a snapshot cannot fail, and nobody waits for it but its database.
    void old.retire();
  }
}

async function* readPairs(view: View): AsyncIterable<StorePair[]> {
  const { snapshot } = view.readOptions;
  const pairs = view.level.iterator({ gte: DATA, lt: DATA_END, snapshot, fillCache: false });
  try {
    for (;;) {
      const group = await pairs.nextv(EXPORT_PAIRS);
      if (group.length === 0) return;
      yield group.map(([key, value]) => ({ key: key.slice(DATA.length), value }));
    }
  } finally {
    await pairs.close();
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
