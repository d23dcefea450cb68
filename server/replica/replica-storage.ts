/** Where a replica keeps what it has promised: its log, its state, and snapshots on their way in. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openDurableLog, SEGMENT_BYTES_DEFAULT } from '../storage/durable-log.ts';
import type { OpenedLog } from '../storage/durable-log.ts';
import { openLevelStore } from '../storage/leveldb.ts';
import type { StoreMode } from '../storage/leveldb.ts';
import type { Store } from '../storage/store.ts';
import { openInstance } from './instance.ts';

/** Where the log is, in words that another thread understands. */
export type LogStorageOptions = {
  readonly directory: string;
  readonly nodeId: string;
  readonly instance: string;
  readonly logThread: 'worker' | 'inline';
};

/** What belongs to raft's side. */
export type LogStorage = {
  /** Each time the node starts anew: a log that was stopped is read back from disk. */
  openLog(): Promise<OpenedLog>;
  /** Of this directory alone (`instance.ts`). */
  readonly instance: string;
  readonly snapshotDirectory: string;
};

export type ReplicaStorage = LogStorage & {
  readonly store: Store;
  readonly logOptions: LogStorageOptions;
};

export function logStorage(options: LogStorageOptions): LogStorage {
  const { directory, nodeId, instance, logThread } = options;
  return {
    instance,
    openLog: () =>
      openDurableLog(join(directory, 'log'), {
        thread: logThread,
        segmentBytes: SEGMENT_BYTES_DEFAULT,
        identity: nodeId,
      }),
    snapshotDirectory: join(directory, 'snapshots'),
  };
}

/**
 * Opens the storage below `directory`, which is created if missing. Rejects if it is damaged, of
 * another node, or in use.
 */
export async function openReplicaStorage(
  directory: string,
  options: {
    readonly nodeId: string;
    readonly logThread: 'worker' | 'inline';
    readonly fsmMode: StoreMode;
  },
): Promise<ReplicaStorage> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { nodeId, logThread, fsmMode } = options;
  // With the store the directory is this process's.
  const store = await openLevelStore(join(directory, 'store'), { mode: fsmMode });
  const instance = await openInstance(join(directory, 'log'));
  const logOptions = { directory, nodeId, instance, logThread };
  return { ...logStorage(logOptions), store, logOptions };
}
