/**
 * Physical values as they are stored, that is sealed, in memory: saves the store's lookup, and
 * remembers absence too.
 *
 * A fill reads the store and lands here within one turn, and an invalidation arrives in the very
 * turn in which the change becomes visible to such a read. So no fill can begin before an
 * invalidation and land after it, without any bookkeeping of epochs. This holds for as long as
 * `PhysicalStore.get` is synchronous.
 *
 * Eviction is SIEVE (NSDI '24): one queue in order of insertion and a hand that walks from old to
 * new, sparing once what was read since. A hit only sets a flag, so that reads move nothing.
 *
 * Bounds: `entriesMax` entries and `bytesMax` bytes of values; a value that alone exceeds a share
 * of the latter is not kept. Invalidation key: the physical key.
 */

import assert from 'node:assert/strict';
import type { PhysicalStore } from './ports.ts';

export type PhysicalCacheLimits = { readonly entriesMax: number; readonly bytesMax: number };

type Entry = {
  readonly key: string;
  readonly value: Uint8Array | undefined;
  wasRead: boolean;
  newer: Entry | undefined;
  older: Entry | undefined;
};

/** No single value may take more than this share of the cache. */
const VALUE_SHARE_MAX = 1 / 8;

export class PhysicalCache {
  readonly #physical: Pick<PhysicalStore, 'get'>;
  readonly #limits: PhysicalCacheLimits;
  readonly #entries = new Map<string, Entry>();
  #newest: Entry | undefined;
  #oldest: Entry | undefined;
  #hand: Entry | undefined;
  #bytes = 0;

  constructor(physical: Pick<PhysicalStore, 'get'>, limits: PhysicalCacheLimits) {
    assert(limits.entriesMax >= 1);
    assert(limits.bytesMax >= 1);
    this.#physical = physical;
    this.#limits = limits;
  }

  get(key: string): Uint8Array | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      entry.wasRead = true;
      return entry.value;
    }
    const value = this.#physical.get(key);
    this.#insert(key, value);
    return value;
  }

  invalidate(key: string): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#remove(entry);
  }

  clear(): void {
    this.#entries.clear();
    this.#newest = undefined;
    this.#oldest = undefined;
    this.#hand = undefined;
    this.#bytes = 0;
  }

  get entryCount(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  #insert(key: string, value: Uint8Array | undefined): void {
    const bytes = value?.length ?? 0;
    if (bytes > this.#limits.bytesMax * VALUE_SHARE_MAX) return;
    while (
      this.#entries.size >= this.#limits.entriesMax ||
      this.#bytes + bytes > this.#limits.bytesMax
    ) {
      this.#evict();
    }
    const entry: Entry = { key, value, wasRead: false, newer: undefined, older: this.#newest };
    if (this.#newest !== undefined) this.#newest.newer = entry;
    this.#newest = entry;
    this.#oldest ??= entry;
    this.#entries.set(key, entry);
    this.#bytes += bytes;
  }

  #evict(): void {
    let entry = this.#hand ?? this.#oldest;
    // Ends within two rounds: the first one clears every flag that it meets.
    while (entry?.wasRead === true) {
      entry.wasRead = false;
      entry = entry.newer ?? this.#oldest;
    }
    assert(entry !== undefined, 'nothing to evict');
    this.#hand = entry.newer;
    this.#remove(entry);
  }

  #remove(entry: Entry): void {
    if (this.#hand === entry) this.#hand = entry.newer;
    if (entry.newer === undefined) this.#newest = entry.older;
    else entry.newer.older = entry.older;
    if (entry.older === undefined) this.#oldest = entry.newer;
    else entry.older.newer = entry.newer;
    this.#entries.delete(entry.key);
    this.#bytes -= entry.value?.length ?? 0;
  }
}
