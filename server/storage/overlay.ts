/**
 * Changes that are visible and not yet in the database, in memory: a few generations, the oldest
 * of which is on its way there. The newest takes what is applied; a generation goes as a whole,
 * when the database holds it durably. A later generation hides an earlier one.
 *
 * Writers only put into a map. The order of keys is made when somebody lists or exports, from what
 * has come since the last time.
 */

import { compareKeys } from './key-order.ts';
import type { StoreOperation } from './store.ts';

/** The value is null where the key was deleted. */
export type OverlaidChange = { readonly key: string; readonly value: Uint8Array | null };

/** What a change takes beside key and value: the entries of two maps and of LevelDB's batch. */
const CHANGE_BYTES = 128;

export class Overlay {
  /** Oldest first; the last one is the newest. */
  readonly #generations: Generation[] = [];
  #bytes = 0;

  /** All changes of all generations, also those that a later one hides. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Null if the key was deleted, undefined if nothing is known of it. */
  get(key: string): Uint8Array | null | undefined {
    for (let i = this.#generations.length - 1; i >= 0; i -= 1) {
      const value = this.#generations[i]?.values.get(key);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  begin(): Generation {
    const generation = new Generation();
    this.#generations.push(generation);
    return generation;
  }

  add(generation: Generation, operation: StoreOperation): void {
    this.#bytes += generation.add(operation);
  }

  /** The database holds the oldest generation. */
  dropOldest(): void {
    this.#bytes -= this.#generations.shift()?.bytes ?? 0;
  }

  /** What is known of the keys in `[from, to)`, in order, as of now; an empty `to` is no bound. */
  changes(from: string, to: string): OverlaidChange[] {
    let changes: OverlaidChange[] = [];
    for (const generation of this.#generations) {
      changes = mergeChanges(changes, generation.changes(from, to));
    }
    return changes;
  }
}

export class Generation {
  readonly values = new Map<string, Uint8Array | null>();
  bytes = 0;
  /** The keys in order, but for those that came since `#sort`. */
  #sorted: string[] = [];
  #unsorted: string[] = [];

  /** Returns what it takes. */
  add(operation: StoreOperation): number {
    const { key } = operation;
    if (!this.values.has(key)) this.#unsorted.push(key);
    const value = operation.kind === 'put' ? operation.value : null;
    this.values.set(key, value);
    const bytes = CHANGE_BYTES + 2 * key.length + (value?.length ?? 0);
    this.bytes += bytes;
    return bytes;
  }

  changes(from: string, to: string): OverlaidChange[] {
    this.#sort();
    const changes: OverlaidChange[] = [];
    for (let i = firstAtOrAfter(this.#sorted, from); i < this.#sorted.length; i += 1) {
      const key = this.#sorted[i] ?? '';
      if (to !== '' && compareKeys(to, key) <= 0) break;
      changes.push({ key, value: this.values.get(key) ?? null });
    }
    return changes;
  }

  #sort(): void {
    if (this.#unsorted.length === 0) return;
    const added = this.#unsorted.sort(compareKeys);
    this.#unsorted = [];
    const merged: string[] = [];
    let i = 0;
    for (const key of this.#sorted) {
      for (let other = added[i]; other !== undefined; other = added[i]) {
        if (compareKeys(key, other) < 0) break;
        merged.push(other);
        i += 1;
      }
      merged.push(key);
    }
    for (; i < added.length; i += 1) merged.push(added[i] ?? '');
    this.#sorted = merged;
  }
}

function mergeChanges(older: readonly OverlaidChange[], newer: OverlaidChange[]): OverlaidChange[] {
  if (older.length === 0) return newer;
  const merged: OverlaidChange[] = [];
  let i = 0;
  for (const change of newer) {
    for (let other = older[i]; other !== undefined; other = older[i]) {
      const order = compareKeys(other.key, change.key);
      if (order > 0) break;
      if (order < 0) merged.push(other);
      i += 1;
    }
    merged.push(change);
  }
  for (const rest of older.slice(i)) merged.push(rest);
  return merged;
}

function firstAtOrAfter(keys: readonly string[], key: string): number {
  let start = 0;
  let end = keys.length;
  while (start < end) {
    const middle = (start + end) >>> 1;
    if (compareKeys(keys[middle] ?? '', key) < 0) start = middle + 1;
    else end = middle;
  }
  return start;
}
