/**
 * The store of a simulated node: the real in-memory twin for what is visible, and a model of
 * LevelDB for what a crash leaves of it.
 *
 * - `sync`: a batch is visible when it is durable.
 * - `overlay`: visible at once; what has gathered is written as one batch, later.
 *
 * Either way the durable image is the state at one position, whole. What is being written when the
 * power goes may or may not be there.
 */

import { createMemoryStore } from '../../storage/memory.ts';
import { INITIAL_POSITION } from '../../storage/store-position.ts';
import type {
  Store,
  StoreExport,
  StoreObserver,
  StoreOperation,
  StorePosition,
  StoreStatistics,
  StoreStream,
} from '../../storage/store.ts';

export type StoreMode = 'sync' | 'overlay';

type Batch = { readonly operations: readonly StoreOperation[]; readonly position: StorePosition };

/** What is on the disk; it outlives the processes that use it. */
export class StoreImage {
  readonly values = new Map<string, Uint8Array>();
  position: StorePosition;
  /** Handed to the disk and not yet known to be there. */
  writing: readonly Batch[] = [];

  constructor(position: StorePosition = INITIAL_POSITION) {
    this.position = position;
  }

  take(batches: readonly Batch[]): void {
    for (const { operations, position } of batches) {
      for (const operation of operations) {
        if (operation.kind === 'put') this.values.set(operation.key, operation.value);
        else this.values.delete(operation.key);
      }
      this.position = position;
    }
  }

  replace(values: ReadonlyMap<string, Uint8Array>, position: StorePosition): void {
    this.values.clear();
    for (const [key, value] of values) this.values.set(key, value);
    this.position = position;
  }

  /** The disk has taken what was being written, or the power was gone before. */
  endWriting(isKept: boolean): void {
    if (isKept) this.take(this.writing);
    this.writing = [];
  }
}

export type StoreDisk = {
  /** Calls back when the disk has done its part; never, if the node dies before. */
  afterDiskDelay(run: () => void): void;
};

export async function openSimulatedStore(
  image: StoreImage,
  mode: StoreMode,
  disk: StoreDisk,
): Promise<Store> {
  const visible = createMemoryStore();
  const puts = [...image.values].map(([key, value]): StoreOperation => ({
    kind: 'put',
    key,
    value,
  }));
  await visible.apply(puts, image.position);
  visible.publish();
  return new SimulatedStore(visible, image, { mode, disk });
}

/** Invariant: `#unwritten` holds what is visible, not durable, and not being written, in order. */
class SimulatedStore implements Store {
  #visible: Store;
  readonly #image: StoreImage;
  readonly #mode: StoreMode;
  readonly #disk: StoreDisk;
  #applied: Batch | undefined;
  #unwritten: Batch[] = [];
  #isFlushing = false;
  #flushed: (() => void)[] = [];
  #observer: StoreObserver | undefined;

  constructor(
    visible: Store,
    image: StoreImage,
    options: { readonly mode: StoreMode; readonly disk: StoreDisk },
  ) {
    this.#visible = visible;
    this.#image = image;
    this.#mode = options.mode;
    this.#disk = options.disk;
  }

  statistics(): StoreStatistics {
    return this.#visible.statistics();
  }

  position(): StorePosition {
    return this.#visible.position();
  }

  durablePosition(): StorePosition {
    return this.#image.position;
  }

  get(key: string): Uint8Array | undefined {
    return this.#visible.get(key);
  }

  list(prefix: string, page: Parameters<Store['list']>[1]): Promise<string[]> {
    return this.#visible.list(prefix, page);
  }

  apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void> | undefined {
    const batch = { operations, position };
    this.#applied = batch;
    void this.#visible.apply(operations, position);
    if (this.#mode === 'overlay') return undefined;
    this.#image.writing = [batch];
    return new Promise((resolve) => {
      this.#disk.afterDiskDelay(() => {
        this.#image.endWriting(true);
        resolve();
      });
    });
  }

  publish(): void {
    const batch = this.#applied;
    this.#applied = undefined;
    this.#visible.publish();
    if (batch === undefined) return;
    if (this.#mode === 'sync') return;
    this.#unwritten.push(batch);
    if (!this.#isFlushing) this.#flush();
  }

  #flush(): void {
    this.#isFlushing = true;
    this.#image.writing = this.#unwritten;
    this.#unwritten = [];
    this.#disk.afterDiskDelay(() => {
      this.#image.endWriting(true);
      this.#isFlushing = false;
      if (this.#unwritten.length > 0) this.#flush();
      else for (const resolve of this.#flushed.splice(0)) resolve();
      this.#observer?.onDurable();
    });
  }

  flush(): Promise<void> {
    if (!this.#isFlushing) return Promise.resolve();
    return new Promise((resolve) => this.#flushed.push(resolve));
  }

  observe(observer: StoreObserver): void {
    this.#observer = observer;
  }

  exportSnapshot(): StoreExport {
    return this.#visible.exportSnapshot();
  }

  async importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
    await this.flush();
    const copy = createMemoryStore();
    await copy.importSnapshot(position, chunks);
    const values = await valuesOf(copy);
    await new Promise<void>((resolve) => this.#disk.afterDiskDelay(resolve));
    this.#image.replace(values, position);
    // Visible only now: whoever waits for this is told in the same turn.
    this.#visible = copy;
  }

  stateHash(): Promise<string> {
    return this.#visible.stateHash();
  }

  async close(): Promise<void> {
    await this.flush();
  }
}

/** Everything in a store, by walking its directories. */
async function valuesOf(store: Store, prefix = ''): Promise<Map<string, Uint8Array>> {
  const values = new Map<string, Uint8Array>();
  for (const name of await store.list(prefix, {})) {
    const key = prefix + name;
    if (name.endsWith('/')) {
      for (const [below, value] of await valuesOf(store, key)) values.set(below, value);
      continue;
    }
    const value = store.get(key);
    if (value !== undefined) values.set(key, value);
  }
  return values;
}
