/** What an operator may set of a replica, each with its unit and its origin. */

import type { AutopilotConfiguration } from '../core/ports.ts';
import { DEFAULT_AUTOPILOT } from './autopilot.ts';

export type ReplicaSettings = {
  readonly heartbeatMs: number;
  /** A follower waits for a random time in `[electionTimeoutMs, 2 * electionTimeoutMs)`. */
  readonly electionTimeoutMs: number;
  /** Reads of the leader need no round trip while a quorum has answered of late (`raft/read-index.ts`). */
  readonly leaderLease: boolean;
  /** How followers learn that entries are committed (see `server/raft/replication.ts`). */
  readonly commitNotify:
    { readonly kind: 'push' } | { readonly kind: 'piggyback'; readonly timeoutMs: number };
  /** Applied entries kept for followers that lag, and their bytes; the lesser bound counts. */
  readonly trailingLogs: number;
  readonly trailingBytesMax: number;
  /** The encoded operations of one write. At most storage's `ENTRY_BYTES_MAX`. */
  readonly entryBytesMax: number;
  /** The same of a transaction, with its conditions. At most storage's `ENTRY_BYTES_MAX`. */
  readonly transactionBytesMax: number;
  /** Writes that wait or are in flight; more are refused as `overloaded`. */
  readonly proposalsMax: number;
  readonly uncommittedBytesMax: number;
  readonly appendBytesMax: number;
  readonly inflightAppendsMax: number;
  /** A larger state is refused when it arrives. */
  readonly snapshotBytesMax: number;
  /** How fast snapshots are built, sent (all together), and installed; 0 for no limit. */
  readonly snapshotBytesPerSecond: number;
  /** What holds as long as no operator has set something else for the whole cluster. */
  readonly autopilot: AutopilotConfiguration;
};

const MIB = 1024 * 1024;

/** The defaults for a `performance_multiplier`, which stretches both timeouts (OpenBao's is 5). */
export function replicaSettings(performanceMultiplier = 1): ReplicaSettings {
  return {
    // Three fit into the shortest election timeout; each costs the leader CPU for every follower.
    heartbeatMs: 150 * performanceMultiplier,
    electionTimeoutMs: 500 * performanceMultiplier,
    leaderLease: false,
    commitNotify: { kind: 'push' },
    // hashicorp/raft's TrailingLogs.
    trailingLogs: 10_240,
    trailingBytesMax: 64 * MIB,
    // OpenBao's max_entry_size.
    entryBytesMax: MIB,
    // OpenBao's max_transaction_size.
    transactionBytesMax: 8 * MIB,
    proposalsMax: 4_096,
    uncommittedBytesMax: 64 * MIB,
    appendBytesMax: MIB,
    inflightAppendsMax: 256,
    snapshotBytesMax: 16 * 1024 * MIB,
    // A gigabyte in half a minute; at twice that, writes that share the disk wait twice as long.
    snapshotBytesPerSecond: 32 * MIB,
    autopilot: DEFAULT_AUTOPILOT,
  };
}
