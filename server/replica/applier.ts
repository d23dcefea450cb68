/**
 * The replicated state machine: committed entries in, published state out.
 *
 * Entries are applied in groups, each one durable batch of the `Store` that carries its position.
 * Then, in one synchronous turn and in this order: the batch becomes visible, listeners hear of
 * every key it touched, the applied index moves, waiters and proposals are resolved. So "applied
 * >= X" implies that every read sees X, caches included.
 *
 * Nothing here reads a clock or draws a random number: equal entries make equal stores.
 */

import assert from 'node:assert/strict';
import type { Change } from '../core/ports.ts';
import { decodeConfiguration } from '../raft/configuration.ts';
import type { Configuration, Entry, SnapshotMetadata } from '../raft/message.ts';
import type { Store, StorePosition, StoreStream } from '../storage/store.ts';
import type { Clock } from './clock.ts';
import { GroupEffect, startsGroup } from './state-machine.ts';
import type { Refusal } from './state-machine.ts';

export type Applied = {
  /** In order; empty for an installed snapshot. */
  readonly entries: readonly Entry[];
  /** By index: those of the entries that had no effect, and why. */
  readonly refusals: ReadonlyMap<number, Refusal>;
  readonly position: StorePosition;
};

const NO_REFUSALS: Applied['refusals'] = new Map();

export type ApplierOptions = {
  /** For callers that wait; what is applied knows no time. */
  readonly clock: Clock;
  readonly store: Store;
  /** Runs in the publishing turn, after the index has moved. */
  onApplied(applied: Applied): void;
  /** The store failed, or a listener threw: nothing more will be applied. */
  onFatal(error: unknown): void;
};

type Job =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | {
      readonly kind: 'snapshot';
      readonly snapshot: SnapshotMetadata;
      readonly chunks: StoreStream;
      readonly done: () => void;
    };

/** One synced batch: large enough to share the sync, small enough to hold up nobody. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;
const GROUP_ENTRIES_MAX = 1024;

export class Applier {
  readonly #options: ApplierOptions;
  readonly #listeners = new Set<(change: Change) => void>();
  #jobs: Job[] = [];
  #waiters: { readonly index: number; readonly resolve: () => void }[] = [];
  #appliedIndex: number;
  #configuration: Configuration;
  /** Cleared in the very turn in which the queue is found empty, unlike a promise. */
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(options: ApplierOptions) {
    this.#options = options;
    const position = options.store.position();
    this.#appliedIndex = position.lastIncludedIndex;
    this.#configuration = position.configuration;
  }

  appliedIndex(): number {
    return this.#appliedIndex;
  }

  configuration(): Configuration {
    return this.#configuration;
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  awaitApplied(index: number, timeoutMs: number): Promise<boolean> {
    if (index <= this.#appliedIndex) return Promise.resolve(true);
    if (timeoutMs <= 0) return Promise.resolve(false);
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(timeoutMs, () => {
        this.#waiters = this.#waiters.filter((each) => each !== waiter);
        resolve(false);
      });
      const waiter = {
        index,
        resolve: () => {
          cancel();
          resolve(true);
        },
      };
      this.#waiters.push(waiter);
    });
  }

  /** Applies committed entries after everything queued before. */
  enqueue(entries: readonly Entry[]): void {
    this.#push({ kind: 'entries', entries });
  }

  /** Replaces the state after everything queued before; resolves when that is durable. */
  install(snapshot: SnapshotMetadata, chunks: StoreStream): Promise<void> {
    return new Promise((done) => this.#push({ kind: 'snapshot', snapshot, chunks, done }));
  }

  /** Resumes after `stop`, from the position of the store. */
  restart(): void {
    this.#isStopped = false;
  }

  /** Drops what is queued and resolves when nothing is being written any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#jobs = [];
    await this.#running;
  }

  #push(job: Job): void {
    if (this.#isStopped) return;
    this.#jobs.push(job);
    // `#run` reports its failure to onFatal and never rejects.
    if (!this.#isRunning) this.#running = this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    try {
      for (let job = this.#takeJob(); job !== undefined; job = this.#takeJob()) {
        if (job.kind === 'entries') await this.#apply(job.entries);
        else await this.#install(job);
      }
    } catch (error) {
      this.#isStopped = true;
      this.#jobs = [];
      this.#options.onFatal(error);
    } finally {
      this.#isRunning = false;
    }
  }

  /** Takes a snapshot job, or as many entries from the front as make one group. */
  #takeJob(): Job | undefined {
    if (this.#jobs[0]?.kind === 'snapshot') return this.#jobs.shift();
    const entries: Entry[] = [];
    let bytes = 0;
    for (;;) {
      const job = this.#jobs[0];
      if (job?.kind !== 'entries') break;
      let count = 0;
      for (const entry of job.entries) {
        const isFull = bytes + entry.command.length > GROUP_BYTES_MAX && entries.length > 0;
        if (isFull || entries.length === GROUP_ENTRIES_MAX) break;
        if (entries.length > 0 && entry.kind === 'command' && startsGroup(entry.command)) break;
        bytes += entry.command.length;
        entries.push(entry);
        count += 1;
      }
      if (count < job.entries.length) {
        this.#jobs[0] = { kind: 'entries', entries: job.entries.slice(count) };
        break;
      }
      this.#jobs.shift();
    }
    return entries.length === 0 ? undefined : { kind: 'entries', entries };
  }

  async #apply(entries: readonly Entry[]): Promise<void> {
    const { store } = this.#options;
    const effect = new GroupEffect(store);
    const refusals = new Map<number, Refusal>();
    let configuration = this.#configuration;
    let expectedIndex = this.#appliedIndex;
    for (const entry of entries) {
      expectedIndex += 1;
      assert.equal(entry.index, expectedIndex, 'entries are applied in order, each once');
      if (entry.kind === 'configuration') configuration = decodeConfiguration(entry.command);
      if (entry.kind !== 'command') continue;
      const decided = effect.execute(entry.index, entry.command);
      const refusal = decided instanceof Promise ? await decided : decided;
      if (refusal !== undefined) refusals.set(entry.index, refusal);
    }
    const last = entries.at(-1);
    assert(last !== undefined, 'a group has entries');
    const position = {
      lastIncludedIndex: last.index,
      lastIncludedTerm: last.term,
      configuration,
    };
    const operations = effect.operations();
    await store.apply(operations, position);

    store.publish();
    const keys = [...new Set(operations.map((operation) => operation.key))];
    this.#publish({ kind: 'keys', index: last.index, keys }, { entries, refusals, position });
  }

  async #install(job: Job & { readonly kind: 'snapshot' }): Promise<void> {
    const { snapshot: position, chunks, done } = job;
    // Raft never installs what it knows to be committed here.
    assert(this.#appliedIndex < position.lastIncludedIndex, 'a snapshot moves forward');
    await this.#options.store.importSnapshot(position, chunks);
    const change = { kind: 'everything', index: position.lastIncludedIndex } as const;
    this.#publish(change, { entries: [], refusals: NO_REFUSALS, position });
    done();
  }

  /** No await in here: this is the turn of which the module comment speaks. */
  #publish(change: Change, applied: Applied): void {
    for (const listener of this.#listeners) listener(change);
    this.#configuration = applied.position.configuration;
    this.#appliedIndex = change.index;
    if (this.#waiters.length > 0) {
      const due = this.#waiters.filter((waiter) => waiter.index <= change.index);
      this.#waiters = this.#waiters.filter((waiter) => change.index < waiter.index);
      for (const waiter of due) waiter.resolve();
    }
    this.#options.onApplied(applied);
  }
}
