/**
 * Backups: the state as an archive, and back. A restoration goes through the log like any write:
 * the state is staged in the store piece by piece, then one small command puts it in the place of
 * everything, on each node at the same index (`state-restore.ts`). If it ends before that, all that
 * is left is pieces that nobody reads, which the next one removes.
 */

import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { CommitOutcome, ReceivedState, Snapshots } from '../core/ports.ts';
import { isServerError, ServerError } from '../errors.ts';
import { encodeCommand } from '../storage/command.ts';
import { encodeRestore, pieceKey, STAGING_PREFIX } from '../storage/restore-command.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  positionOfSnapshot,
  verifySnapshot,
} from '../storage/snapshot-codec.ts';
import type { StoreOperation, StorePosition } from '../storage/store.ts';
import { packArchive, unpackArchive } from './snapshot-archive.ts';
import type { SnapshotLease } from './snapshot-builder.ts';
import { STAGED_POSITION } from './state-restore.ts';

export type SnapshotsOptions = {
  readonly directory: string;
  readonly bytesMax: number;
  /** The state as it is now, in a file. Throws `no-leader` where this node takes no part. */
  take(): Promise<SnapshotLease>;
  list(prefix: string): Promise<string[]>;
  /** Rejects if this node cannot propose. */
  propose(command: Uint8Array, operations: number): Promise<CommitOutcome>;
};

/** Each keeps a whole state on disk for as long as its client takes. */
const SAVES_MAX = 4;
/** Pieces on their way through the log: enough to share its syncs, and leave room for writes. */
const STAGING_WRITES_MAX = 4;
const OVERLOAD_WAIT_MS = 100;
/** A cluster that takes nothing for so long shall not be burdened with a whole state. */
const OVERLOAD_WAITS_MAX = 100;
const CLEARED_KEYS_MAX = 1_000;

export function createSnapshots(options: SnapshotsOptions): Snapshots {
  const saves = new Set<symbol>();
  let isReceiving = false;
  let isRestoring = false;
  const exclusively = async <T>(step: () => Promise<T>): Promise<T> => {
    if (isRestoring) throw new ServerError('conflict', 'a snapshot is being restored already');
    isRestoring = true;
    try {
      return await step();
    } finally {
      isRestoring = false;
    }
  };
  return {
    save: async () => {
      if (saves.size === SAVES_MAX)
        throw new ServerError('overloaded', 'snapshots are being saved');
      const save = Symbol('save');
      saves.add(save);
      try {
        return archiveOf(await options.take(), () => saves.delete(save));
      } catch (error) {
        saves.delete(save);
        throw error;
      }
    },
    receive: async (archive) => {
      if (isReceiving) throw new ServerError('conflict', 'a snapshot is on its way in already');
      isReceiving = true;
      const { directory, bytesMax } = options;
      await mkdir(directory, { recursive: true, mode: 0o700 });
      // Named like what is on its way in: a start removes it.
      const file = join(directory, `restore-${randomBytes(16).toString('hex')}.part`);
      try {
        await unpackArchive(archive, { file, bytesMax });
        const position = await checkedPosition(file);
        return receivedState(file, position, () =>
          exclusively(() => restore(options, file, position)),
        );
      } catch (error) {
        await rm(file, { force: true });
        throw error;
      } finally {
        isReceiving = false;
      }
    },
  };
}

/**
 * The file is let go at the end of the archive, or when its reader returns, even if that has read
 * nothing: a generator would not notice that.
 */
function archiveOf(lease: SnapshotLease, onEnd: () => void): AsyncIterable<Uint8Array> {
  const chunks = packArchive(lease)[Symbol.asyncIterator]();
  const end = (): void => {
    lease.release();
    onEnd();
  };
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      const result = await chunks.next();
      if (result.done === true) end();
      return result;
    } catch (error) {
      end();
      throw error;
    }
  };
  const close = async (): Promise<IteratorResult<Uint8Array>> => {
    end();
    await chunks.return?.();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: close }) };
}

/** Decodes all of it: a state that is damaged is refused before anybody else hears of it. */
async function checkedPosition(file: string): Promise<StorePosition> {
  try {
    const position = await positionOfSnapshot(createReadStream(file));
    await verifySnapshot(position, createReadStream(file));
    return position;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServerError('invalid-request', reason, { cause: error });
  }
}

function receivedState(
  file: string,
  position: StorePosition,
  restoreIt: () => Promise<number>,
): ReceivedState {
  return {
    find: async (key) => {
      for await (const pairs of decodeSnapshot(position, createReadStream(file))) {
        const found = pairs.find((pair) => pair.key === key);
        if (found !== undefined) return found.value;
      }
      return undefined;
    },
    restore: restoreIt,
    discard: () => rm(file, { force: true }),
  };
}

async function restore(
  options: SnapshotsOptions,
  file: string,
  position: StorePosition,
): Promise<number> {
  await clearStaged(options);
  const prefix = `${STAGING_PREFIX}${randomBytes(8).toString('hex')}/`;
  const state = encodeSnapshot(STAGED_POSITION, decodeSnapshot(position, createReadStream(file)));
  try {
    const staged = await stage(options, prefix, state);
    const outcome = await proposePatiently(options, encodeRestore({ prefix, ...staged }));
    if (outcome.kind === 'applied') return outcome.index;
  } catch (error) {
    // The next restoration removes what this one could not.
    await clearStaged(options).catch(() => undefined);
    throw error;
  }
  await clearStaged(options);
  throw new ServerError('conflict', 'the staged snapshot was removed by another restoration');
}

async function stage(
  options: SnapshotsOptions,
  prefix: string,
  state: AsyncIterable<Uint8Array>,
): Promise<{ readonly pieceCount: number; readonly sha256: Buffer }> {
  const hash = createHash('sha256');
  const underWay = new Set<Promise<unknown>>();
  let pieceCount = 0;
  for await (const value of state) {
    hash.update(value);
    const key = pieceKey(prefix, pieceCount);
    pieceCount += 1;
    const written = proposePatiently(options, encodeCommand([{ kind: 'put', key, value }]));
    const settled = written.finally(() => underWay.delete(settled));
    underWay.add(settled);
    if (underWay.size === STAGING_WRITES_MAX) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  return { pieceCount, sha256: hash.digest() };
}

async function proposePatiently(
  { propose }: SnapshotsOptions,
  command: Uint8Array,
): Promise<CommitOutcome> {
  for (let waits = 0; ; waits += 1) {
    try {
      return await propose(command, 1);
    } catch (error) {
      if (!isServerError(error, 'overloaded') || waits === OVERLOAD_WAITS_MAX) throw error;
      await delay(OVERLOAD_WAIT_MS);
    }
  }
}

/** What earlier restorations left. */
async function clearStaged(options: SnapshotsOptions): Promise<void> {
  for (const child of await options.list(STAGING_PREFIX)) {
    const keys = (await options.list(`${STAGING_PREFIX}${child}`)).map(
      (name) => `${STAGING_PREFIX}${child}${name}`,
    );
    for (let start = 0; start < keys.length; start += CLEARED_KEYS_MAX) {
      const operations = keys
        .slice(start, start + CLEARED_KEYS_MAX)
        .map((key): StoreOperation => ({ kind: 'delete', key }));
      await proposePatiently(options, encodeCommand(operations));
    }
  }
}
