/** What the state machine's side says of itself, for metrics. */

import type { TransferStatistics, DurationStatistics } from '../storage/durations.ts';
import { NO_TRANSFERS } from '../storage/durations.ts';
import type { Store, StoreStatistics } from '../storage/store.ts';
import type { Applier } from './applier.ts';
import type { ChunkingStatistics, Proposals } from './proposals.ts';
import { countSessions } from './session-table.ts';
import type { SnapshotBuilder } from './snapshot-builder.ts';

export type MachineStatistics = {
  readonly store: StoreStatistics;
  /** Committed entries that wait to be applied. */
  readonly applyQueueBytes: number;
  /** States that were put in the place of this one, received or restored. */
  readonly replacements: DurationStatistics;
  readonly snapshotsBuilt: TransferStatistics;
  readonly chunking: ChunkingStatistics;
  readonly sessionCount: number;
};

export function machineStatistics(parts: {
  readonly store: Store;
  readonly applier: Applier;
  readonly proposals: Proposals;
  readonly builder: SnapshotBuilder | undefined;
}): MachineStatistics {
  const { store, applier, proposals, builder } = parts;
  return {
    store: store.statistics(),
    applyQueueBytes: applier.queueBytes(),
    replacements: applier.replacements(),
    snapshotsBuilt: builder?.statistics() ?? NO_TRANSFERS,
    chunking: proposals.chunking(),
    sessionCount: countSessions((key) => store.get(key)),
  };
}
