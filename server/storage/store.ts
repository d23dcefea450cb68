/**
 * The ordered key/value store below the replicated state machine, as a contract with two
 * implementations: LevelDB (`leveldb.ts`) and its in-memory twin (`memory.ts`). Both pass
 * `store.contract.ts`.
 */

import type { SnapshotMetadata } from '../raft/message.ts';

export type StoreOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string };

/**
 * Where the state machine stands, kept in the same atomic batch as the data: its metadata is
 * exactly that of a snapshot taken now.
 */
export type StorePosition = SnapshotMetadata;

export type StoreStream = AsyncIterable<Uint8Array>;

/**
 * Invariants:
 * - `apply` is atomic and durable when it resolves: data and position together, or neither.
 * - Until `publish()` runs, `get` and `list` see the state before the last `apply`; afterwards the
 *   state after it. So a batch becomes visible as one piece, in the turn the caller chooses.
 * - One `apply` at a time, each followed by its `publish()`.
 */
export type Store = {
  /** The durable and published position; index 0 and term 0 for an empty store. */
  position(): StorePosition;
  get(key: string): Uint8Array | undefined;
  /** Immediate children below `prefix` (empty or ending in `/`), sorted, directories with a trailing slash. */
  list(
    prefix: string,
    page: { after?: string | undefined; limit?: number | undefined },
  ): Promise<string[]>;
  apply(operations: readonly StoreOperation[], position: StorePosition): Promise<void>;
  publish(): void;
  /** A consistent export of the published state, in chunks of bounded size. */
  exportSnapshot(): {
    readonly position: StorePosition;
    readonly chunks: StoreStream;
    close(): Promise<void>;
  };
  /**
   * Replaces everything by an exported state. After a crash at any moment the store is wholly the
   * old one or wholly the new one. Becomes visible when it resolves.
   */
  importSnapshot(position: StorePosition, chunks: StoreStream): Promise<void>;
  /** A digest of all data and the position, for tests that compare replicas. */
  stateHash(): Promise<string>;
  close(): Promise<void>;
};
