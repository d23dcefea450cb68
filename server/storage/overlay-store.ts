/**
 * The store whose batches are visible before they are durable.
 *
 *     apply, publish ──▶ overlay (memory) ── one synced batch per generation ──▶ LevelDB
 *                            get, list, export see both, the overlay first
 *
 * A generation is sealed when it holds enough, or is old enough, and then written as one batch with
 * the position after its last change. So LevelDB always holds the state at one position that was
 * visible, whole: what comes after it a crash takes away, and the raft log, which is kept from that
 * position on, brings it back.
 *
 * Memory is bounded: while the overlay is full, `apply` says when there will be room again.
 */

import assert from 'node:assert/strict';

import { Durations } from './durations.ts';
import { DATA } from './level-home.ts';
import type { LevelBatch, LevelHome } from './level-home.ts';
import { OpenExports, hashOf, listChildren, listedRange } from './level-reads.ts';
import type { ListedPage } from './level-reads.ts';
import { Overlay } from './overlay.ts';
import type { Generation } from './overlay.ts';
import type {
  Store,
  StoreExport,
  StoreObserver,
  StoreOperation,
  StorePosition,
  StoreStatistics,
  StoreStream,
} from './store.ts';

/** A change waits no longer than this for its write to begin, unless another is under way. */
export const FLUSH_DELAY_MS = 50;
export const FLUSH_BYTES = 4 * 1024 * 1024;
/** What may be visible and not durable; one batch may exceed it. */
export const OVERLAY_BYTES_MAX = 64 * 1024 * 1024;

/** A generation, and the same changes as a batch: built as they come, it costs nothing to write. */
type Flushable = {
  readonly generation: Generation;
  readonly batch: LevelBatch;
  position: StorePosition;
  /** Takes no more, and is to be written. */
  isSealed: boolean;
  /** Called when it is written, or never will be. */
  readonly waiting: (() => void)[];
};

type Applied = {
  readonly operations: readonly StoreOperation[];
  readonly position: StorePosition;
};

/**
 * Invariants:
 * - `#flushables` are the generations of `#overlay`, oldest first; only the last may be unsealed.
 * - LevelDB holds exactly the state at `#durable`, or at the oldest generation's position while
 *   that one is being written; the overlay hides the difference.
 */
export class OverlayStore implements Store {
  readonly #home: LevelHome;
  readonly #overlay = new Overlay();
  readonly #flushables: Flushable[] = [];
  readonly #exports = new OpenExports();
  #visible: StorePosition;
  #durable: StorePosition;
  #applied: Applied | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isFlushing = false;
  readonly #flushTimes = new Durations();
  #room: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;
  #observer: StoreObserver | undefined;

  constructor(home: LevelHome, position: StorePosition) {
    this.#home = home;
    this.#visible = position;
    this.#durable = position;
  }

  position(): StorePosition {
    return this.#visible;
  }

  statistics(): StoreStatistics {
    return { unflushedBytes: this.#overlay.bytes, flushes: this.#flushTimes.statistics() };
  }

  durablePosition(): StorePosition {
    return this.#durable;
  }

  get(key: string): Uint8Array | undefined {
    const value = this.#overlay.get(key);
    // A copy of its own: who keeps it would keep alive all that shares its memory.
    if (value !== undefined)
      return value === null ? undefined : Uint8Array.prototype.slice.call(value);
    return this.#home.database().level.getSync(DATA + key);
  }

  async list(prefix: string, page: ListedPage): Promise<string[]> {
    const { from, to } = listedRange(prefix, page);
    const database = this.#home.database();
    const leave = database.enter();
    try {
      // Both are as of this turn: nothing is awaited before the iterator exists.
      return await listChildren(database.level, this.#overlay.changes(from, to), { prefix, page });
    } finally {
      leave();
    }
  }

  apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void> | undefined {
    assert(this.#applied === undefined, 'apply before the last one was published');
    assert(!this.#home.isReplacing, 'apply during an import');
    const { lastIncludedIndex } = this.#visible;
    assert(lastIncludedIndex <= position.lastIncludedIndex, 'the position recedes');
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#applied = { operations, position };
    if (this.#overlay.bytes < OVERLAY_BYTES_MAX) return undefined;
    return new Promise((resolve, reject) => {
      this.#room = { resolve, reject };
    });
  }

  publish(): void {
    assert(this.#applied !== undefined, 'publish without apply');
    const { operations, position } = this.#applied;
    this.#applied = undefined;
    const open = this.#openFlushable(position);
    for (const operation of operations) {
      this.#overlay.add(open.generation, operation);
      open.batch.add(operation);
    }
    open.position = position;
    this.#visible = position;
    if (FLUSH_BYTES <= open.generation.bytes) this.#seal();
    else this.#timer ??= setTimeout(() => this.#seal(), FLUSH_DELAY_MS);
  }

  async flush(): Promise<void> {
    this.#seal();
    const newest = this.#flushables.at(-1);
    // Not for what comes after it: that need never end.
    if (newest !== undefined && this.#failure === undefined) {
      await new Promise<void>((resolve) => newest.waiting.push(resolve));
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  observe(observer: StoreObserver): void {
    this.#observer = observer;
  }

  exportSnapshot(): StoreExport {
    const database = this.#home.database();
    const leave = database.enter();
    const snapshot = database.level.snapshot();
    const source = { level: database.level, snapshot, position: this.#visible };
    return this.#exports.begin(source, this.#overlay.changes('', ''), () => {
      // Closing a snapshot cannot fail, and nobody waits for it but its database.
      void snapshot.close().then(leave);
    });
  }

  async checkpoint(directory: string): Promise<StorePosition> {
    await this.flush();
    return this.#home.database().checkpoint(directory);
  }

  async importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
    assert(this.#applied === undefined, 'import before the last apply was published');
    // If the import fails, the old state goes on, and all of it must be there.
    await this.flush();
    assert(this.#flushables.length === 0, 'apply during an import');
    await this.#home.replace(position, chunks);
    this.#visible = position;
    this.#durable = position;
  }

  stateHash(): Promise<string> {
    return hashOf(this.exportSnapshot());
  }

  async close(): Promise<void> {
    this.#exports.closeAll();
    try {
      await this.flush();
    } finally {
      await this.#home.close();
    }
  }

  #openFlushable(position: StorePosition): Flushable {
    const newest = this.#flushables.at(-1);
    if (newest?.isSealed === false) return newest;
    const generation = this.#overlay.begin();
    const batch = this.#home.database().newBatch();
    const opened = { generation, batch, position, isSealed: false, waiting: [] };
    this.#flushables.push(opened);
    return opened;
  }

  #seal(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const newest = this.#flushables.at(-1);
    if (newest !== undefined) newest.isSealed = true;
    if (!this.#isFlushing) void this.#flushSealed();
  }

  /** Reports its failure and never rejects. */
  async #flushSealed(): Promise<void> {
    this.#isFlushing = true;
    try {
      for (let oldest = this.#sealed(); oldest !== undefined; oldest = this.#sealed()) {
        const startMs = performance.now();
        await oldest.batch.write(oldest.position);
        this.#flushTimes.add(performance.now() - startMs);
        this.#flushables.shift();
        this.#overlay.dropOldest();
        this.#durable = oldest.position;
        for (const resume of oldest.waiting) resume();
        this.#observer?.onDurable();
        if (this.#overlay.bytes < OVERLAY_BYTES_MAX) this.#takeRoom()?.resolve();
      }
    } catch (error) {
      this.#failure = new Error(`Cannot write to the store: ${String(error)}`, { cause: error });
      for (const { waiting } of this.#flushables) for (const resume of waiting) resume();
      this.#takeRoom()?.reject(this.#failure);
      this.#observer?.onFailure(this.#failure);
    } finally {
      this.#isFlushing = false;
    }
  }

  #sealed(): Flushable | undefined {
    const oldest = this.#flushables[0];
    return oldest?.isSealed === true && this.#failure === undefined ? oldest : undefined;
  }

  #takeRoom() {
    const room = this.#room;
    this.#room = undefined;
    return room;
  }
}
