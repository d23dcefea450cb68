/** What the core is made with, and what it says of itself. */

import type { Logger } from './logger.ts';
import type { BackendFactories } from './mount-table.ts';
import type { PhysicalCacheLimits } from './physical-cache.ts';
import type {
  ChangeFeed,
  ClusterCredentials,
  JoinClient,
  Leadership,
  PhysicalStore,
  Replication,
  Snapshots,
} from './ports.ts';

export type CoreSettings = {
  /** Empty for a random one. Matters only to the node that initializes. */
  readonly clusterName: string;
  readonly apiAddress: string;
  readonly clusterAddress: string;
  /** Forward as early as the outcome is certain, or as late as the first write. */
  readonly earlyForward: boolean;
  readonly promotion: 'reuse' | 'rebuild';
  readonly disableStandbyReads: boolean;
  /** Undefined disables the physical cache. */
  readonly cache: PhysicalCacheLimits | undefined;
  readonly defaultLeaseTtlSeconds: number;
  readonly maxLeaseTtlSeconds: number;
  /** How long a promotion waits for requests that began before it. */
  readonly drainMsMax: number;
  /** How long a joining node waits for the cluster's state to arrive. */
  readonly joinMsMax: number;
};

export type CoreOptions = {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  readonly leadership: Leadership;
  readonly replication: Replication;
  readonly snapshots: Snapshots;
  readonly joinClient: JoinClient;
  readonly createCredentials: () => Promise<ClusterCredentials>;
  readonly backends: BackendFactories;
  readonly settings: CoreSettings;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
};

export type HaState = 'sealed' | 'standby' | 'standby-reads' | 'active';

export type Leader = {
  readonly isSelf: boolean;
  readonly nodeId: string;
  readonly redirectAddress: string;
  readonly clusterAddress: string;
  /** Since when this node is active; null on others. */
  readonly activeTimeMs: number | null;
};
