/**
 * The state as a file, for followers that the log cannot help any more: built once per position,
 * one at a time, and shared by all who need it. What sends it only reads the file, on whichever
 * thread; the store is asked here (`snapshot-source.ts`).
 *
 * A file is removed when a newer one has taken its place and nobody reads it, or when nobody has
 * read it for a while.
 */

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { ServerError } from '../errors.ts';
import type { SnapshotMetadata } from '../raft/message.ts';
import { Transfers } from '../storage/durations.ts';
import type { TransferStatistics } from '../storage/durations.ts';
import type { Clock } from './clock.ts';
import { SNAPSHOT_ID_BYTES } from './control-frames.ts';
import type { SnapshotManifest } from './control-frames.ts';
import type { FileOperations } from './file-operations.ts';
import { checkpointName, snapshotFileName } from './snapshot-files.ts';
import { openSnapshotSource } from './snapshot-source.ts';
import type { SourceStore } from './snapshot-source.ts';
import type { ReplicaLogger } from './transport.ts';

export type BuiltSnapshot = {
  readonly snapshot: SnapshotMetadata;
  readonly manifest: SnapshotManifest;
  readonly file: string;
};

/** The file stays until `release`, which may be called more than once. */
export type SnapshotLease = BuiltSnapshot & { release(): void };

export type SnapshotBuilderOptions = {
  readonly clock: Clock;
  readonly files: FileOperations;
  /** Never the same again: `createSnapshotId`, but in simulations. */
  createId(): Buffer;
  /** Its own; created if missing. */
  readonly directory: string;
  readonly store: SourceStore;
  /** What is read and written, unless a lease says otherwise; 0 for no limit. */
  readonly bytesPerSecond: number;
  readonly logger: ReplicaLogger;
};

/** For a follower that lost the connection, and comes back for the rest. */
const KEEP_MS = 60_000;

export function createSnapshotId(): Buffer {
  return randomBytes(SNAPSHOT_ID_BYTES);
}

type Kept = { readonly built: BuiltSnapshot; leases: number; expiry: () => void };

export class SnapshotBuilder {
  readonly #options: SnapshotBuilderOptions;
  #latest: Kept | undefined;
  /** The end of the last build, which may have failed. */
  #building: Promise<unknown> = Promise.resolve();
  #removing: Promise<unknown> = Promise.resolve();
  readonly #closed = new AbortController();
  readonly #builds = new Transfers();

  constructor(options: SnapshotBuilderOptions) {
    this.#options = options;
  }

  statistics(): TransferStatistics {
    return this.#builds.statistics();
  }

  /**
   * A snapshot from which a follower can go on with a log that begins at `firstIndex()`, built at
   * another rate if somebody waits for it.
   */
  lease(
    firstIndex: () => number,
    bytesPerSecond = this.#options.bytesPerSecond,
  ): Promise<SnapshotLease> {
    const leased = this.#building.then(async () => {
      const latest = this.#latest;
      if (latest !== undefined && firstIndex() <= indexOf(latest) + 1) return this.#lend(latest);
      return this.#lend(this.#keep(await this.#build(bytesPerSecond)));
    });
    this.#building = leased.catch(() => undefined);
    return leased;
  }

  /** Removes what nobody reads; the rest goes with its leases. */
  async close(): Promise<void> {
    // Who saves a snapshot over HTTP hears it.
    this.#closed.abort(new ServerError('no-leader', 'the node stops'));
    await this.#building;
    const latest = this.#latest;
    this.#latest = undefined;
    if (latest !== undefined) this.#removeUnused(latest);
    await this.#removing;
  }

  #lend(kept: Kept): SnapshotLease {
    kept.leases += 1;
    kept.expiry();
    let isHeld = true;
    const release = (): void => {
      if (!isHeld) return;
      isHeld = false;
      kept.leases -= 1;
      this.#removeUnused(kept);
    };
    return { ...kept.built, release };
  }

  #keep(built: BuiltSnapshot): Kept {
    const former = this.#latest;
    const kept: Kept = { built, leases: 0, expiry: () => undefined };
    this.#latest = kept;
    if (former !== undefined) this.#removeUnused(former);
    return kept;
  }

  #removeUnused(kept: Kept): void {
    const { clock, files } = this.#options;
    kept.expiry();
    if (kept.leases > 0) return;
    if (kept === this.#latest && !this.#closed.signal.aborted) {
      kept.expiry = clock.after(KEEP_MS, () => {
        this.#latest = undefined;
        this.#removeUnused(kept);
      });
      return;
    }
    // What cannot be removed now is removed at the next start.
    const removed = files.remove(kept.built.file).catch(() => undefined);
    this.#removing = Promise.all([this.#removing, removed]);
  }

  async #build(bytesPerSecond: number): Promise<BuiltSnapshot> {
    this.#closed.signal.throwIfAborted();
    const { clock, files, createId, directory, store, logger } = this.#options;
    await files.makeDirectory(directory);
    const startMs = clock.nowMs();
    const id = createId();
    const checkpoint = join(directory, checkpointName(id));
    const host = { clock, files, bytesPerSecond };
    const source = await openSnapshotSource(store, host, checkpoint);
    const snapshot = source.position;
    const file = join(directory, snapshotFileName(snapshot, { id, suffix: 'outgoing' }));
    try {
      const manifest = { id, ...(await source.writeTo(file, this.#closed.signal)) };
      const ms = Math.round(clock.nowMs() - startMs);
      const { size: bytes } = manifest;
      this.#builds.add(ms, bytes);
      logger.info({ index: snapshot.lastIncludedIndex, bytes, ms }, 'snapshot built');
      return { snapshot, manifest, file };
    } catch (error) {
      await files.remove(file);
      throw error;
    } finally {
      await source.close();
    }
  }
}

function indexOf({ built }: Kept): number {
  return built.snapshot.lastIncludedIndex;
}
