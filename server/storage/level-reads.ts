/** Listings and exports of a database as of one moment, with an overlay of newer changes. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import { childOf, compareKeys, keyAfterChild } from './key-order.ts';
import { DATA, DATA_END, openLevel, readPosition } from './level-home.ts';
import type { Level, LevelSnapshot } from './level-home.ts';
import type { OverlaidChange } from './overlay.ts';
import { encodeSnapshot } from './snapshot-codec.ts';
import type { StorePair } from './snapshot-codec.ts';
import type { StoreExport, StorePosition, StoreStream } from './store.ts';

// A listing reads this many keys, then seeks if it is still in the same subdirectory: cheaper than
// a seek per child where subdirectories are small, and bounded where they are large.
const LIST_KEYS = 64;
/**
 * Of one step of an export, whichever is less: with LevelDB's own 16 KiB it is as slow as its steps,
 * with much more all that waits for this turn waits for milliseconds.
 */
const EXPORT_PAIRS = 128;
const EXPORT_BYTES = 64 * 1024;

export type ListedPage = { after?: string | undefined; limit?: number | undefined };

/** The keys that a listing has to do with: `[from, to)`. */
export function listedRange(prefix: string, page: ListedPage): { from: string; to: string } {
  assert(prefix === '' || prefix.endsWith('/'), 'a listed prefix must end in a slash');
  assert((page.limit ?? Infinity) > 0, 'a page must have room');
  // Without a prefix, everything: no key has a larger first character.
  return { from: prefix + (page.after ?? ''), to: prefix === '' ? '' : keyAfterChild('', prefix) };
}

/**
 * `changes` are those of the listed range, in order. The database is read as of now, even though
 * the listing goes on for many turns: an iterator has a snapshot of its own.
 */
export async function listChildren(
  level: Level,
  changes: readonly OverlaidChange[],
  listed: { prefix: string; page: ListedPage; snapshot?: LevelSnapshot },
): Promise<string[]> {
  const { prefix, page, snapshot } = listed;
  const { from, to } = listedRange(prefix, page);
  const range = { gte: DATA + from, lt: to === '' ? DATA_END : DATA + to };
  const keys = level.keys(snapshot === undefined ? range : { ...range, snapshot });
  const children = new Children(prefix, page);
  const deleted = new Set<string>();
  for (const { key, value } of changes) if (value === null) deleted.add(key);
  try {
    while (!children.isFull) {
      const group = await keys.nextv(Math.min(LIST_KEYS, children.missing + 1));
      const lastKey = group.at(-1);
      if (lastKey === undefined) break;
      let last = '';
      for (const stored of group) {
        const key = stored.slice(DATA.length);
        last = deleted.has(key) ? '' : children.add(key);
      }
      if (last.endsWith('/')) keys.seek(DATA + keyAfterChild(prefix, last));
    }
  } finally {
    await keys.close();
  }
  if (changes.length === 0) return children.found;
  const newer = new Children(prefix, page);
  for (const { key, value } of changes) if (value !== null && !newer.isFull) newer.add(key);
  return mergeSorted(children.found, newer.found).slice(0, page.limit);
}

/** The children that ascending keys make, each once, up to the limit of the page. */
class Children {
  readonly found: string[] = [];
  readonly #prefix: string;
  readonly #limit: number;
  #last: string;

  constructor(prefix: string, page: ListedPage) {
    this.#prefix = prefix;
    this.#limit = page.limit ?? Infinity;
    this.#last = page.after ?? '';
  }

  get missing(): number {
    return this.#limit - this.found.length;
  }

  get isFull(): boolean {
    return this.missing === 0;
  }

  /** Returns the child that the key is or is below. */
  add(key: string): string {
    const child = childOf(this.#prefix, key);
    if (compareKeys(child, this.#last) <= 0) return child;
    this.#last = child;
    if (!this.isFull) this.found.push(child);
    return child;
  }
}

function mergeSorted(left: readonly string[], right: readonly string[]): string[] {
  const merged: string[] = [];
  let i = 0;
  for (const each of left) {
    for (let other = right[i]; other !== undefined; other = right[i]) {
      const order = compareKeys(other, each);
      if (order > 0) break;
      if (order < 0) merged.push(other);
      i += 1;
    }
    merged.push(each);
  }
  for (const rest of right.slice(i)) merged.push(rest);
  return merged;
}

/** Exports that are under way, so that a store can close in spite of them. */
export class OpenExports {
  readonly #releases = new Set<() => void>();

  /** `leave` ends the use of `snapshot`. */
  begin(
    source: { level: Level; snapshot: LevelSnapshot; position: StorePosition },
    changes: readonly OverlaidChange[],
    leave: () => void,
  ): StoreExport {
    const release = (): void => {
      if (this.#releases.delete(release)) leave();
    };
    this.#releases.add(release);
    const { level, snapshot, position } = source;
    const chunks = encodeSnapshot(position, overlaidPairs(readPairs(level, snapshot), changes));
    return { position, chunks, close: async () => release() };
  }

  closeAll(): void {
    for (const release of this.#releases) release();
  }
}

/** All that a checkpoint holds; throws unless it is of that position. It is changed by being read. */
export async function* exportCheckpoint(directory: string, position: StorePosition): StoreStream {
  const level = await openLevel(directory, { create: false });
  try {
    assert.deepEqual(await readPosition(level), position, 'a checkpoint of another position');
    yield* encodeSnapshot(position, readPairs(level));
  } finally {
    await level.close();
  }
}

async function* readPairs(level: Level, snapshot?: LevelSnapshot): AsyncIterable<StorePair[]> {
  const all = { gte: DATA, lt: DATA_END, fillCache: false, highWaterMarkBytes: EXPORT_BYTES };
  const pairs = level.iterator(snapshot === undefined ? all : { ...all, snapshot });
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

async function* overlaidPairs(
  groups: AsyncIterable<StorePair[]>,
  changes: readonly OverlaidChange[],
): AsyncIterable<StorePair[]> {
  let next = 0;
  for await (const group of groups) {
    const merged: StorePair[] = [];
    for (const pair of group) {
      let isReplaced = false;
      for (let change = changes[next]; change !== undefined; change = changes[next]) {
        const order = compareKeys(change.key, pair.key);
        if (order > 0) break;
        isReplaced ||= order === 0;
        if (change.value !== null) merged.push({ key: change.key, value: change.value });
        next += 1;
      }
      if (!isReplaced) merged.push(pair);
    }
    yield merged;
  }
  const rest: StorePair[] = [];
  for (const { key, value } of changes.slice(next)) if (value !== null) rest.push({ key, value });
  yield rest;
}

export async function hashOf(exported: StoreExport): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of exported.chunks) hash.update(chunk);
  } finally {
    await exported.close();
  }
  return hash.digest('hex');
}
