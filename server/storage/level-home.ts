/**
 * The LevelDB database that is the store now, and its replacement by an imported one.
 *
 * Data keys begin with `d`, and the position is at `p`, out of their reach. Every write is synced:
 * LevelDB can lose a batch in the middle at power loss if an unsynced one is among them
 * (google/leveldb#193, shown in `power-loss.test.ts`), so there is none. An import goes to a
 * database of its own, which counts only when it is whole and synced, see `store-directory.ts`.
 */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { ClassicLevel } from 'classic-level';

import { asBuffer } from './as-buffer.ts';
import { lockDirectory } from './directory-lock.ts';
import { checkLevelFiles } from './level-check.ts';
import { checkpointLevel } from './level-checkpoint.ts';
import { SharedResource } from './shared-resource.ts';
import { decodeSnapshot } from './snapshot-codec.ts';
import { findStore, nameAfter, pointTo, removeStore, syncStore } from './store-directory.ts';
import { INITIAL_POSITION, decodePosition, encodePosition } from './store-position.ts';
import type { StoreOperation, StorePosition, StoreStream } from './store.ts';

export const DATA = 'd';
/** All data keys are below this. */
export const DATA_END = 'e';
const POSITION_KEY = 'p';

const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024;

export type LevelOptions = { readonly cacheBytes?: number };

/**
 * Of tables while a database is built: LevelDB syncs each of them at once, and what shares the disk
 * waits for four megabytes, its default, for ten milliseconds.
 */
const IMPORT_TABLE_BYTES = 1024 * 1024;

/** The moments of an import between which a crash makes a difference. */
export type ImportStep =
  'began' | 'wroteGroup' | 'wroteAll' | 'closed' | 'synced' | 'switched' | 'opened' | 'removedOld';

export type Level = ClassicLevel<string, Buffer>;
export type LevelSnapshot = ReturnType<Level['snapshot']>;

type ChainedBatch = ReturnType<Level['batch']>;

/** A database; its users are views, listings, and exports. */
export class Database extends SharedResource {
  readonly name: string;
  readonly level: Level;
  #position: StorePosition;
  /** The end of the last write or checkpoint: one at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, level: Level, position: StorePosition) {
    super(() => level.close());
    this.name = name;
    this.level = level;
    this.#position = position;
  }

  newBatch(): LevelBatch {
    return new LevelBatch(this, this.level.batch());
  }

  write(batch: ChainedBatch, position: StorePosition): Promise<void> {
    return this.#alone(async () => {
      await batch.put(POSITION_KEY, encodePosition(position)).write({ sync: true });
      this.#position = position;
    });
  }

  /** For `exportCheckpoint`; resolves with the position of what is in it. */
  checkpoint(directory: string): Promise<StorePosition> {
    const leave = this.enter();
    const checkpointed = this.#alone(async () => {
      await checkpointLevel(this.level.location, directory);
      return this.#position;
    });
    return checkpointed.finally(leave);
  }

  #alone<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(step);
    this.#last = done.catch(() => undefined);
    return done;
  }
}

/** Operations that become durable as one piece, together with the position after them. */
export class LevelBatch {
  readonly #database: Database;
  readonly #batch: ChainedBatch;

  constructor(database: Database, batch: ChainedBatch) {
    this.#database = database;
    this.#batch = batch;
  }

  add(operation: StoreOperation): void {
    if (operation.kind === 'put') this.#batch.put(DATA + operation.key, asBuffer(operation.value));
    else this.#batch.del(DATA + operation.key);
  }

  write(position: StorePosition): Promise<void> {
    return this.#database.write(this.#batch, position);
  }
}

export class LevelHome {
  readonly #directory: string;
  readonly #options: LevelOptions;
  readonly #unlock: () => void;
  readonly #reached: (step: ImportStep) => void;
  #database: Database;
  /** Stays set if a replacement fails after the switch: this object then has the wrong database. */
  #isReplacing = false;
  /** The end of the last database that was replaced. */
  #retired: Promise<void> = Promise.resolve();

  private constructor(
    place: { directory: string; unlock: () => void },
    options: LevelOptions & { reached: (step: ImportStep) => void },
    database: Database,
  ) {
    this.#directory = place.directory;
    this.#unlock = place.unlock;
    this.#options = options;
    this.#reached = options.reached;
    this.#database = database;
  }

  /** Opens or creates the database in a directory of its own; tells how far an import is. */
  static async open(
    directory: string,
    options: LevelOptions & { reached: (step: ImportStep) => void },
  ): Promise<{ home: LevelHome; position: StorePosition }> {
    await mkdir(directory, { recursive: true });
    // LevelDB's own lock does not cover leftovers, which are removed before a database is opened.
    const unlock = lockDirectory(directory);
    try {
      const { name, level } = await openCurrent(directory, options);
      const position = await readPosition(level);
      const database = new Database(name, level, position);
      return { home: new LevelHome({ directory, unlock }, options, database), position };
    } catch (error) {
      unlock();
      throw error;
    }
  }

  database(): Database {
    return this.#database;
  }

  get isReplacing(): boolean {
    return this.#isReplacing;
  }

  async replace(position: StorePosition, chunks: StoreStream): Promise<void> {
    assert(!this.#isReplacing, 'import during an import');
    this.#isReplacing = true;
    const name = nameAfter(this.#database.name);
    try {
      // Its directory must be gone before there is another old one.
      await this.#retired;
      await this.#build(name, position, chunks);
    } catch (error) {
      await removeStore(this.#directory, name);
      this.#isReplacing = false;
      throw error;
    }
    await pointTo(this.#directory, { name, isNew: false });
    this.#reached('switched');
    const level = await openLevel(join(this.#directory, name), { ...this.#options, create: false });
    this.#reached('opened');
    const old = this.#database;
    this.#database = new Database(name, level, position);
    this.#retired = this.#remove(old);
    // `close` and the next import hear of a failure.
    this.#retired.catch(() => {});
    this.#isReplacing = false;
  }

  async close(): Promise<void> {
    try {
      await this.#retired;
      await this.#database.retire();
    } finally {
      this.#unlock();
    }
  }

  /** Builds a durable database from a snapshot. */
  async #build(name: string, position: StorePosition, chunks: StoreStream): Promise<void> {
    const directory = this.#directory;
    const level = await openLevel(join(directory, name), {
      ...this.#options,
      create: true,
      writeBufferBytes: IMPORT_TABLE_BYTES,
    });
    this.#reached('began');
    try {
      for await (const pairs of decodeSnapshot(position, chunks)) {
        const batch = level.batch();
        for (const { key, value } of pairs) batch.put(DATA + key, asBuffer(value));
        // Nobody looks at this database until all of its files are synced.
        await batch.write();
        this.#reached('wroteGroup');
      }
      await level.put(POSITION_KEY, encodePosition(position), { sync: true });
      this.#reached('wroteAll');
    } finally {
      await level.close();
    }
    this.#reached('closed');
    await syncStore(directory, name);
    this.#reached('synced');
  }

  async #remove(old: Database): Promise<void> {
    await old.retire();
    await removeStore(this.#directory, old.name);
    this.#reached('removedOld');
  }
}

async function openCurrent(directory: string, options: LevelOptions) {
  const { name, isNew } = await findStore(directory);
  if (!isNew) await checkLevelFiles(join(directory, name));
  const level = await openLevel(join(directory, name), { ...options, create: isNew });
  if (isNew) {
    await level.put(POSITION_KEY, encodePosition(INITIAL_POSITION), { sync: true });
    await pointTo(directory, { name, isNew: false });
  }
  return { name, level };
}

/** Closes a database that has none, and throws. */
export async function readPosition(level: Level): Promise<StorePosition> {
  const stored = level.getSync(POSITION_KEY);
  if (stored !== undefined) return decodePosition(stored);
  await level.close();
  throw new Error(`Cannot open the store: ${level.location} has no position`);
}

export async function openLevel(
  path: string,
  options: LevelOptions & { create: boolean; writeBufferBytes?: number },
): Promise<Level> {
  const level: Level = new ClassicLevel<string, Buffer>(path, {
    keyEncoding: 'utf8',
    valueEncoding: 'buffer',
    // Values are encrypted, and ciphertext does not compress.
    compression: false,
    cacheSize: options.cacheBytes ?? CACHE_BYTES_DEFAULT,
    createIfMissing: options.create,
    ...(options.writeBufferBytes !== undefined && { writeBufferSize: options.writeBufferBytes }),
  });
  await level.open();
  return level;
}
