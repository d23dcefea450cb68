/** Where a replica keeps what it has promised: its log, its state, and snapshots on their way in. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openDurableLog, SEGMENT_BYTES_DEFAULT } from '../storage/durable-log.ts';
import type { OpenedLog } from '../storage/durable-log.ts';
import { openLevelStore } from '../storage/leveldb.ts';
import type { StoreMode } from '../storage/leveldb.ts';
import type { Store } from '../storage/store.ts';

export type ReplicaStorage = {
  readonly store: Store;
  /** Each time the node starts anew: a log that was stopped is read back from disk. */
  openLog(): Promise<OpenedLog>;
  readonly snapshotDirectory: string;
};

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
  return {
    store: await openLevelStore(join(directory, 'store'), { mode: options.fsmMode }),
    openLog: () =>
      openDurableLog(join(directory, 'log'), {
        thread: options.logThread,
        segmentBytes: SEGMENT_BYTES_DEFAULT,
        identity: options.nodeId,
      }),
    snapshotDirectory: join(directory, 'snapshots'),
  };
}
