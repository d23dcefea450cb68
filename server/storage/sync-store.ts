/**
 * The store whose batches are durable before they are visible.
 *
 * Readers look through an explicit snapshot, which `publish` replaces: a batch that is already
 * written is not yet visible.
 */

import assert from 'node:assert/strict';

import { Durations } from './durations.ts';
import { DATA } from './level-home.ts';
import type { Database, Level, LevelHome, LevelSnapshot } from './level-home.ts';
import { OpenExports, hashOf, listChildren } from './level-reads.ts';
import type { ListedPage } from './level-reads.ts';
import { SharedResource } from './shared-resource.ts';
import type {
  Store,
  StoreExport,
  StoreObserver,
  StoreOperation,
  StorePosition,
  StoreStatistics,
  StoreStream,
} from './store.ts';

/** What readers see: a database as of one position. Its users are listings and exports. */
class View extends SharedResource {
  readonly level: Level;
  readonly position: StorePosition;
  readonly snapshot: LevelSnapshot;
  readonly readOptions: { snapshot: LevelSnapshot; keyEncoding: 'utf8'; valueEncoding: 'buffer' };

  constructor(database: Database, position: StorePosition) {
    const leave = database.enter();
    const snapshot = database.level.snapshot();
    super(async () => {
      await snapshot.close();
      leave();
    });
    this.level = database.level;
    this.position = position;
    this.snapshot = snapshot;
    this.readOptions = { snapshot, keyEncoding: 'utf8', valueEncoding: 'buffer' };
  }
}

/**
 * Invariants:
 * - `#view` is of the home's database, as of what was published last.
 * - `#applied` is the position of a batch that is written, or being written, and not published.
 */
export class SyncStore implements Store {
  readonly #home: LevelHome;
  #view: View;
  #applied: StorePosition | undefined;
  readonly #exports = new OpenExports();
  #observer: StoreObserver | undefined;
  readonly #flushTimes = new Durations();

  constructor(home: LevelHome, position: StorePosition) {
    this.#home = home;
    this.#view = new View(home.database(), position);
  }

  position(): StorePosition {
    return this.#view.position;
  }

  durablePosition(): StorePosition {
    return this.#view.position;
  }

  get(key: string): Uint8Array | undefined {
    return this.#view.level.getSync(DATA + key, this.#view.readOptions);
  }

  async list(prefix: string, page: ListedPage): Promise<string[]> {
    const view = this.#view;
    const leave = view.enter();
    try {
      return await listChildren(view.level, [], { prefix, page, snapshot: view.snapshot });
    } finally {
      leave();
    }
  }

  apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void> {
    assert(this.#applied === undefined, 'apply before the last one was published');
    assert(!this.#home.isReplacing, 'apply during an import');
    const { lastIncludedIndex } = this.#view.position;
    assert(lastIncludedIndex <= position.lastIncludedIndex, 'the position recedes');
    this.#applied = position;
    const batch = this.#home.database().newBatch();
    for (const operation of operations) batch.add(operation);
    return this.#timed(batch.write(position));
  }

  async #timed(written: Promise<void>): Promise<void> {
    const startMs = performance.now();
    await written;
    this.#flushTimes.add(performance.now() - startMs);
  }

  statistics(): StoreStatistics {
    return { unflushedBytes: 0, flushes: this.#flushTimes.statistics() };
  }

  publish(): void {
    assert(this.#applied !== undefined, 'publish without apply');
    this.#show(this.#applied);
    this.#applied = undefined;
    this.#observer?.onDurable();
  }

  async flush(): Promise<void> {}

  observe(observer: StoreObserver): void {
    this.#observer = observer;
  }

  exportSnapshot(): StoreExport {
    return this.#exports.begin(this.#view, [], this.#view.enter());
  }

  checkpoint(directory: string): Promise<StorePosition> {
    return this.#home.database().checkpoint(directory);
  }

  async importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
    assert(this.#applied === undefined, 'import before the last apply was published');
    await this.#home.replace(position, chunks);
    this.#show(position);
  }

  stateHash(): Promise<string> {
    return hashOf(this.exportSnapshot());
  }

  async close(): Promise<void> {
    this.#exports.closeAll();
    void this.#view.retire();
    await this.#home.close();
  }

  #show(position: StorePosition): void {
    const old = this.#view;
    this.#view = new View(this.#home.database(), position);
    // Closing a snapshot cannot fail, and nobody waits for it but its database.
    void old.retire();
  }
}
