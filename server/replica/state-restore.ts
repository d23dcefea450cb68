/**
 * Carries out a restore command on a store: the state that was staged in it takes its place, as one
 * piece at one index. Whether that can be is found out before anything changes, from what all nodes
 * hold alike; so a state that is not whole is refused by all of them, and harms none.
 */

import { createHash } from 'node:crypto';
import { compareKeys } from '../storage/key-order.ts';
import {
  pieceKey,
  RESTORED_KEY,
  STAGING_PREFIX,
  type RestoreCommand,
} from '../storage/restore-command.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  verifySnapshot,
  type StorePair,
} from '../storage/snapshot-codec.ts';
import { INITIAL_POSITION } from '../storage/store-position.ts';
import type { Store, StorePosition, StoreStream } from '../storage/store.ts';

/** What is staged belongs to no position: which one it gets is known when it is applied. */
export const STAGED_POSITION = INITIAL_POSITION;

/** Returns whether the staged state has taken the place of the one there was. */
export async function restoreStaged(
  store: Store,
  command: RestoreCommand,
  position: StorePosition,
): Promise<boolean> {
  if (!(await isWhole(store, command))) return false;
  const pairs = decodeSnapshot(STAGED_POSITION, piecesOf(store, command));
  const marker = {
    key: RESTORED_KEY,
    value: Buffer.from(String(position.lastIncludedIndex)),
  };
  await store.importSnapshot(position, encodeSnapshot(position, restoredPairs(pairs, marker)));
  return true;
}

/** The index at which the state was last replaced by a restored one; 0 for never. */
export function restoredIndex(store: Pick<Store, 'get'>): number {
  const stored = store.get(RESTORED_KEY);
  return stored === undefined ? 0 : Number(Buffer.from(stored).toString());
}

async function isWhole(store: Store, command: RestoreCommand): Promise<boolean> {
  const hash = createHash('sha256');
  for (let number = 0; number < command.pieceCount; number += 1) {
    const piece = store.get(pieceKey(command.prefix, number));
    if (piece === undefined) return false;
    hash.update(piece);
  }
  if (!hash.digest().equals(command.sha256)) return false;
  try {
    await verifySnapshot(STAGED_POSITION, piecesOf(store, command));
    return true;
  } catch {
    // All nodes decode the same bytes to the same fault.
    return false;
  }
}

async function* piecesOf(store: Store, command: RestoreCommand): StoreStream {
  for (let number = 0; number < command.pieceCount; number += 1) {
    const piece = store.get(pieceKey(command.prefix, number));
    if (piece === undefined) throw new Error(`piece ${number} of the staged state is missing`);
    yield piece;
  }
}

/** Without what was being staged when the state was taken, and with the marker in its place. */
async function* restoredPairs(
  groups: AsyncIterable<readonly StorePair[]>,
  marker: StorePair,
): AsyncIterable<StorePair[]> {
  let isMarked = false;
  for await (const group of groups) {
    const kept: StorePair[] = [];
    for (const pair of group) {
      if (!isMarked && compareKeys(marker.key, pair.key) <= 0) {
        kept.push(marker);
        isMarked = true;
      }
      if (pair.key !== marker.key && !pair.key.startsWith(STAGING_PREFIX)) kept.push(pair);
    }
    yield kept;
  }
  if (!isMarked) yield [marker];
}
