/**
 * The store without a disk: the twin of `leveldb.ts` for tests and simulation. What LevelDB would
 * have made durable lives exactly as long as this object.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import { NO_DURATIONS } from './durations.ts';
import { childOf, compareKeys, keyAfterChild } from './key-order.ts';
import { decodeSnapshot, encodeSnapshot } from './snapshot-codec.ts';
import type { StorePair } from './snapshot-codec.ts';
import { INITIAL_POSITION } from './store-position.ts';
import type {
  Store,
  StoreExport,
  StoreObserver,
  StoreOperation,
  StorePosition,
  StoreStatistics,
  StoreStream,
} from './store.ts';

export function createMemoryStore(): Store {
  return new MemoryStore();
}

type Applied = {
  readonly operations: readonly StoreOperation[];
  readonly position: StorePosition;
};

/**
 * Invariants:
 * - `#keys` holds the keys of `#values`, sorted.
 * - `#applied` is what the next `publish` makes visible.
 */
class MemoryStore implements Store {
  #position = INITIAL_POSITION;
  #values = new Map<string, Buffer>();
  #keys: string[] = [];
  #applied: Applied | undefined;
  #observer: StoreObserver | undefined;

  statistics(): StoreStatistics {
    return { unflushedBytes: 0, flushes: NO_DURATIONS };
  }

  position(): StorePosition {
    return this.#position;
  }

  durablePosition(): StorePosition {
    return this.#position;
  }

  get(key: string): Uint8Array | undefined {
    const value = this.#values.get(key);
    // `slice` of a Buffer would be a view of it.
    return value && Uint8Array.prototype.slice.call(value);
  }

  async list(
    prefix: string,
    page: { after?: string | undefined; limit?: number | undefined },
  ): Promise<string[]> {
    assert(prefix === '' || prefix.endsWith('/'), 'a listed prefix must end in a slash');
    const after = page.after ?? '';
    const limit = page.limit ?? Infinity;
    assert(limit > 0, 'a page must have room');
    const children: string[] = [];
    let i = this.#firstAtOrAfter(prefix + after);
    while (children.length < limit) {
      const key = this.#keys[i];
      if (key === undefined || !key.startsWith(prefix)) break;
      const child = childOf(prefix, key);
      if (compareKeys(after, child) < 0) children.push(child);
      i = this.#firstAtOrAfter(keyAfterChild(prefix, child));
    }
    return children;
  }

  apply(operations: readonly StoreOperation[], position: StorePosition): undefined {
    assert(this.#applied === undefined, 'apply before the last one was published');
    assert(this.#position.lastIncludedIndex <= position.lastIncludedIndex, 'the position recedes');
    this.#applied = { operations, position };
  }

  publish(): void {
    assert(this.#applied !== undefined, 'publish without apply');
    const { operations, position } = this.#applied;
    for (const operation of operations) {
      if (operation.kind === 'put') this.#put(operation.key, operation.value);
      else this.#delete(operation.key);
    }
    this.#position = position;
    this.#applied = undefined;
    this.#observer?.onDurable();
  }

  async flush(): Promise<void> {}

  observe(observer: StoreObserver): void {
    this.#observer = observer;
  }

  exportSnapshot(): StoreExport {
    const pairs = this.#pairs();
    const chunks = encodeSnapshot(this.#position, [pairs]);
    return { position: this.#position, chunks, close: async () => {} };
  }

  async importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
    assert(this.#applied === undefined, 'import before the last apply was published');
    const imported = new Map<string, Buffer>();
    for await (const group of decodeSnapshot(position, chunks)) {
      for (const { key, value } of group) imported.set(key, Buffer.from(value));
    }
    this.#keys = [...imported.keys()];
    this.#values = imported;
    this.#position = position;
  }

  async stateHash(): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of encodeSnapshot(this.#position, [this.#pairs()])) hash.update(chunk);
    return hash.digest('hex');
  }

  async close(): Promise<void> {}

  #pairs(): StorePair[] {
    return this.#keys.map((key) => {
      const value = this.#values.get(key);
      assert(value !== undefined);
      return { key, value };
    });
  }

  #put(key: string, value: Uint8Array): void {
    if (!this.#values.has(key)) this.#keys.splice(this.#firstAtOrAfter(key), 0, key);
    // A copy: the operation's value may be a view of a network buffer.
    this.#values.set(key, Buffer.from(value));
  }

  #delete(key: string): void {
    if (this.#values.delete(key)) this.#keys.splice(this.#firstAtOrAfter(key), 1);
  }

  #firstAtOrAfter(key: string): number {
    let start = 0;
    let end = this.#keys.length;
    while (start < end) {
      const middle = (start + end) >>> 1;
      const candidate = this.#keys[middle];
      assert(candidate !== undefined);
      if (compareKeys(candidate, key) < 0) start = middle + 1;
      else end = middle;
    }
    return start;
  }
}
