/**
 * The ordered key/value store below the replicated state machine, as a contract. `sync-store.ts`
 * and `overlay-store.ts` keep it in LevelDB and differ in when a batch is durable; `memory.ts` is
 * their twin without a disk. All pass `store.contract.ts`.
 */

import type { SnapshotMetadata } from '../raft/message.ts';
import type { DurationStatistics } from './durations.ts';

export type StoreOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string };

/**
 * Where the state machine stands, kept in the same atomic batch as the data: its metadata is
 * exactly that of a snapshot taken now.
 */
export type StorePosition = SnapshotMetadata;

export type StoreStream = AsyncIterable<Uint8Array>;

export type StoreExport = {
  readonly position: StorePosition;
  readonly chunks: StoreStream;
  close(): Promise<void>;
};

export type StoreObserver = {
  /** `durablePosition` has moved, other than by an import. */
  onDurable(): void;
  /** What is visible will not become durable: the node must end. */
  onFailure(error: unknown): void;
};

export type StoreStatistics = {
  /** Visible from memory, and not on disk yet. */
  readonly unflushedBytes: number;
  /** Synced batches. */
  readonly flushes: DurationStatistics;
};

/**
 * Invariants:
 * - What a crash leaves is the state at one position between `durablePosition` and the last
 *   `apply`, whole: never a part of a batch, never a batch without every one before it.
 * - Until `publish()` runs, `get` and `list` see the state before the last `apply`; afterwards the
 *   state after it. So a batch becomes visible as one piece, in the turn the caller chooses.
 * - One `apply` at a time, each followed by its `publish()`.
 */
export type Store = {
  /** What readers see; index 0 and term 0 for an empty store. */
  position(): StorePosition;
  /** What a crash leaves at least. It follows `position`, and equals it when a store is opened. */
  durablePosition(): StorePosition;
  get(key: string): Uint8Array | undefined;
  /** Immediate children below `prefix` (empty or ending in `/`), sorted, directories with a trailing slash. */
  list(
    prefix: string,
    page: { after?: string | undefined; limit?: number | undefined },
  ): Promise<string[]>;
  /**
   * Takes a batch. It may be published when the promise resolves; at once if there is none. Values
   * are the store's from then on: their bytes must not change.
   */
  apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void> | undefined;
  publish(): void;
  /** Resolves when all that is published is durable. */
  flush(): Promise<void>;
  statistics(): StoreStatistics;
  /** One observer, for the life of the store. */
  observe(observer: StoreObserver): void;
  /** A consistent export of the published state, in chunks of bounded size. */
  exportSnapshot(): StoreExport;
  /**
   * The same on a disk, for a thread that has nothing else to do (`exportCheckpoint`): all that is
   * published now, perhaps more, in a directory that is created. Only where there is a disk.
   */
  checkpoint?(directory: string): Promise<StorePosition>;
  /**
   * Replaces everything by an exported state. After a crash at any moment the store is wholly the
   * old one or wholly the new one. Visible and durable when it resolves.
   */
  importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void>;
  /** A digest of all published data and the position, for tests that compare replicas. */
  stateHash(): Promise<string>;
  /** Waits until all that is published is durable. */
  close(): Promise<void>;
};
