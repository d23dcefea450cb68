/**
 * Backups and their restoration, above the barrier: what may be restored (OpenBao
 * internal/vault/logical_system_raft.go, `handleStorageRaftSnapshotWrite`).
 */

import { ServerError } from '../errors.ts';
import { KEYRING_PATH, type Barrier } from './barrier.ts';
import type { Logger } from './logger.ts';
import type { Snapshots } from './ports.ts';

/** OpenBao's text. */
const OTHER_KEYS =
  'could not verify hash file, possibly the snapshot is using a different set of unseal keys; ' +
  'use the snapshot-force API to bypass this check';

export type RestoreOptions = {
  /** Whether it may be a state that this cluster's keys do not open: all nodes then seal. */
  readonly force: boolean;
};

/**
 * Resolves once the state is in force here. Throws `invalid-request` for what is no snapshot, or
 * not one of this cluster; then nothing has changed.
 */
export async function restoreSnapshot(
  parts: {
    readonly snapshots: Snapshots;
    readonly barrier: Barrier;
    readonly logger: Logger;
  },
  archive: AsyncIterable<Uint8Array>,
  { force }: RestoreOptions,
): Promise<void> {
  const { snapshots, barrier, logger } = parts;
  const received = await snapshots.receive(archive);
  try {
    const keyring = await received.find(KEYRING_PATH);
    if (keyring === undefined) {
      throw new ServerError('invalid-request', 'the snapshot is of no initialized cluster');
    }
    if (!force && !barrier.opensKeyring(keyring)) {
      throw new ServerError('invalid-request', OTHER_KEYS);
    }
    const index = await received.restore();
    logger.info({ index, force }, 'snapshot restored');
  } finally {
    await received.discard();
  }
}
