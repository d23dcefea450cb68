/** What builds, sends and receives snapshots in tests has of the system: all of it is real. */

import { systemClock } from '../replica/clock.ts';
import { systemFileOperations } from '../replica/file-operations.ts';
import { createSnapshotId } from '../replica/snapshot-builder.ts';

export const snapshotHost = {
  clock: systemClock,
  files: systemFileOperations,
  createId: createSnapshotId,
};
