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
import { NON_VOTER_PREFIX } from './membership.ts';
import { isSessionKey, sessionsForgottenAt } from './session-table.ts';

/** What is staged belongs to no position: which one it gets is known when it is applied. */
export const STAGED_POSITION = INITIAL_POSITION;

/**
 * Returns whether the staged state has taken the place of the one there was. Reads a piece in each
 * of the turns that `nextTurn` gives it: it may be large, and this thread has others to serve.
 */
export async function restoreStaged(
  store: Store,
  command: RestoreCommand,
  { position, nextTurn }: { readonly position: StorePosition; nextTurn(): Promise<void> },
): Promise<boolean> {
  const staged = { store, command, nextTurn };
  if (!(await isWhole(staged))) return false;
  const pairs = decodeSnapshot(STAGED_POSITION, piecesOf(staged));
  const own = ownPairs(store, position);
  await store.importSnapshot(position, encodeSnapshot(position, restoredPairs(pairs, own)));
  return true;
}

/** What belongs to this cluster and its log, which need not be those the state came from. */
function ownPairs(
  store: Store,
  { lastIncludedIndex: index, configuration }: StorePosition,
): StorePair[] {
  // As the servers stay what they are, so does who of them gets no vote.
  const nonVoters = configuration.servers.flatMap(({ id }) => {
    const key = NON_VOTER_PREFIX + id;
    const value = store.get(key);
    return value === undefined ? [] : { key, value };
  });
  const marker = { key: RESTORED_KEY, value: Buffer.from(String(index)) };
  // Sessions count by the indexes of their log.
  const own = [...nonVoters, marker, sessionsForgottenAt(index)];
  return own.toSorted((left, right) => compareKeys(left.key, right.key));
}

/** The index at which the state was last replaced by a restored one; 0 for never. */
export function restoredIndex(store: Pick<Store, 'get'>): number {
  const stored = store.get(RESTORED_KEY);
  return stored === undefined ? 0 : Number(Buffer.from(stored).toString());
}

type Staged = {
  readonly store: Store;
  readonly command: RestoreCommand;
  nextTurn(): Promise<void>;
};

async function isWhole(staged: Staged): Promise<boolean> {
  const hash = createHash('sha256');
  try {
    for await (const piece of piecesOf(staged)) hash.update(piece);
    if (!hash.digest().equals(staged.command.sha256)) return false;
    await verifySnapshot(STAGED_POSITION, piecesOf(staged));
    return true;
  } catch (error) {
    if (error instanceof UnreadableError) throw error.cause;
    // All nodes read the same bytes, and decode them to the same fault.
    return false;
  }
}

/** What this disk does not give, others do: to refuse for that would part the states. */
class UnreadableError extends Error {}

async function* piecesOf({ store, command, nextTurn }: Staged): StoreStream {
  for (let number = 0; number < command.pieceCount; number += 1) {
    await nextTurn();
    const piece = readPiece(store, pieceKey(command.prefix, number));
    if (piece === undefined) throw new Error(`piece ${number} of the staged state is missing`);
    yield piece;
  }
}

function readPiece(store: Store, key: string): Uint8Array | undefined {
  try {
    return store.get(key);
  } catch (cause) {
    throw new UnreadableError('a piece cannot be read', { cause });
  }
}

/** Without what was being staged; `own` pairs are in the place of those there were. */
async function* restoredPairs(
  groups: AsyncIterable<readonly StorePair[]>,
  own: readonly StorePair[],
): AsyncIterable<StorePair[]> {
  let next = 0;
  for await (const group of groups) {
    const kept: StorePair[] = [];
    for (const pair of group) {
      if (isLeftOut(pair.key)) continue;
      for (; next < own.length; next += 1) {
        const each = own[next];
        if (each === undefined || compareKeys(pair.key, each.key) < 0) break;
        kept.push(each);
      }
      kept.push(pair);
    }
    yield kept;
  }
  yield own.slice(next);
}

function isLeftOut(key: string): boolean {
  const isOwn = key === RESTORED_KEY || key.startsWith(NON_VOTER_PREFIX) || isSessionKey(key);
  return isOwn || key.startsWith(STAGING_PREFIX);
}
