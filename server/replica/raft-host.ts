/**
 * Where raft runs: in the thread of the state machine (`inline-raft.ts`), or in one of its own
 * (`threaded-raft.ts`). This is all that either side knows of the other.
 *
 * What crosses is plain data, and promises only where the answer takes a while. In which order it
 * crosses is part of the contract: a batch is accepted before any of its entries is handed out to be
 * applied, and the loss of leadership is told after what was accepted under it.
 */

import type { ClusterCredentials } from '../core/ports.ts';
import type { Entry, ReadState, Ready, SnapshotMetadata } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { DriverProposals } from './driver.ts';
import type { ConfigureInput } from './driver-input.ts';
import type { RaftStatistics } from './raft-statistics.ts';
import type { SnapshotLease } from './snapshot-builder.ts';

export type RaftHost = {
  /**
   * Reads the log that leads up to the state machine's `position`. Rejects if it is damaged, in
   * use, or cannot belong to that state.
   */
  open(position: SnapshotMetadata): Promise<OpenedRaft>;
};

export type OpenedRaft = {
  /** Nothing was ever promised or stored here. */
  readonly isEmpty: boolean;
  /** Takes part in the cluster. The log is the running raft's from then on. */
  start(start: RaftStart, events: RaftEvents): Promise<RunningRaft>;
  close(): Promise<void>;
};

export type RaftStart = {
  readonly credentials: ClusterCredentials;
  /** Where peers reach this node. */
  readonly address: string;
  readonly position: SnapshotMetadata;
  /** The committed entries that a new cluster begins with. */
  readonly founding: readonly Entry[];
};

/** What raft tells the state machine's side. Nothing follows `stop` or a fatal error. */
export type RaftEvents = {
  readonly proposals: DriverProposals;
  applyEntries(entries: Ready['committedEntries']): void;
  /** Whether so much waits to be applied that no entries must be taken from anybody. */
  isBacklogged(): boolean;
  /** Replaces the store; resolves when that is durable. */
  installSnapshot(snapshot: SnapshotMetadata, file: string): Promise<void>;
  /** A snapshot from which a follower can go on with a log that begins at `firstIndex()`. */
  leaseSnapshot(firstIndex: () => number): Promise<SnapshotLease>;
  /** What became of questions asked by `readIndex`. */
  endReads(states: readonly ReadState[]): void;
  /** After each turn, or less often while nothing but indexes has changed. */
  observe(status: RaftStatus): void;
  onFatal(error: unknown): void;
};

export type RunningRaft = {
  /** Something waits in `RaftEvents.proposals`. */
  wake(): void;
  /** No id may be used twice, see `raft/reads.ts`. */
  readIndex(id: number): void;
  configure(input: ConfigureInput): void;
  /** Entries are visible: the oldest that were handed out and not reported yet. */
  applied(entries: readonly Entry[]): void;
  /** A snapshot is visible. */
  restored(): void;
  /** The store holds everything up to `index` durably. */
  durable(index: number): void;
  /** As last told. */
  status(): RaftStatus;
  statistics(): RaftStatistics;
  /**
   * Hands leadership of `term` to the most advanced voter; rejects with `conflict` if nobody takes
   * over.
   */
  transferLeadership(term: number): Promise<void>;
  /** Nothing is sent, stepped, or begun to be written from now on. */
  stop(): void;
  /** After `stop`: resolves when what was being written is, and the log is closed. */
  close(): Promise<void>;
};
