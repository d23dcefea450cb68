/**
 * The replicated state machine: committed entries in, published state out.
 *
 * Entries are applied in groups (`apply-queue.ts`), each one batch of the `Store` that carries its
 * position. A store that publishes from memory takes them in the very turn in which they come; one
 * that syncs first makes them wait. Then, in one synchronous turn and in this order: the batch
 * becomes visible, listeners hear of every key it touched, the applied index moves, waiters and
 * proposals are resolved. So "applied >= X" implies that every read sees X, caches included.
 *
 * Two positions come out. `onApplied` says what readers see. `onDurable` says what the store holds
 * on disk: only that is reported to the raft core, so that no configuration is in effect, and no
 * entry of the log forgotten, that a crash could take back.
 *
 * Nothing here reads a clock or draws a random number: equal entries make equal stores.
 */

import assert from 'node:assert/strict';
import type { Change } from '../core/ports.ts';
import type { Configuration, Entry, SnapshotMetadata } from '../raft/message.ts';
import { Durations } from '../storage/durations.ts';
import type { DurationStatistics } from '../storage/durations.ts';
import { decodeRestore } from '../storage/restore-command.ts';
import type { Store, StoreOperation, StorePosition, StoreStream } from '../storage/store.ts';
import { ApplyGroup } from './apply-group.ts';
import { ApplyQueue } from './apply-queue.ts';
import type { ApplyJob } from './apply-queue.ts';
import type { Clock } from './clock.ts';
import { Publication } from './publication.ts';
import type { Refusal } from './state-machine.ts';
import { restoreStaged } from './state-restore.ts';

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
  /** The store holds everything up to `index` durably. Not called for an installed snapshot. */
  onDurable(index: number): void;
  /** The store failed, or a listener threw: nothing more will be applied. */
  onFatal(error: unknown): void;
};

/** A node with more than this to apply takes no writes until it has caught up. */
export const BACKLOG_BYTES_MAX = 64 * 1024 * 1024;

export class Applier {
  readonly #options: ApplierOptions;
  readonly #queue = new ApplyQueue();
  readonly #publication: Publication;
  #configuration: Configuration;
  #durableIndex: number;
  /** Cleared in the very turn in which the queue is found empty, unlike a promise. */
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isStopped = false;
  #hasFailed = false;
  readonly #replaceTimes = new Durations();

  constructor(options: ApplierOptions) {
    this.#options = options;
    const { clock, store } = options;
    const position = store.position();
    this.#publication = new Publication(clock, position.lastIncludedIndex);
    this.#configuration = position.configuration;
    this.#durableIndex = store.durablePosition().lastIncludedIndex;
    store.observe({
      onDurable: () => this.#reportDurable(),
      onFailure: (error) => this.#fail(error),
    });
  }

  appliedIndex(): number {
    return this.#publication.appliedIndex();
  }

  configuration(): Configuration {
    return this.#configuration;
  }

  /** Whether so much waits that more must not be asked for. */
  isBacklogged(): boolean {
    return BACKLOG_BYTES_MAX < this.#queue.bytes;
  }

  /** Of the entries that wait. */
  queueBytes(): number {
    return this.#queue.bytes;
  }

  /** How long it took to put another state in the place of this one. */
  replacements(): DurationStatistics {
    return this.#replaceTimes.statistics();
  }

  subscribe(listener: (change: Change) => void): () => void {
    return this.#publication.subscribe(listener);
  }

  awaitApplied(index: number, timeoutMs: number): Promise<boolean> {
    return this.#publication.awaitApplied(index, timeoutMs);
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

  /** Drops what is queued; resolves when all that was applied is durable. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#queue.clear();
    await this.#running;
    await this.#options.store.flush();
  }

  #push(job: Parameters<ApplyQueue['push']>[0]): void {
    if (this.#isStopped) return;
    this.#queue.push(job);
    // `#run` reports its failure to onFatal and never rejects.
    if (!this.#isRunning) this.#running = this.#run();
  }

  /** Awaits only what is not there at once: an entry may be published before `enqueue` returns. */
  async #run(): Promise<void> {
    const { store } = this.#options;
    this.#isRunning = true;
    try {
      for (let job = this.#queue.take(); job !== undefined; job = this.#queue.take()) {
        if (job.kind === 'snapshot') {
          await this.#install(job);
          continue;
        }
        if (job.kind === 'restore') {
          await this.#restore(job.entry);
          continue;
        }
        const group = new ApplyGroup(store, job.entries, this.#configuration);
        assert.equal(group.firstIndex, this.appliedIndex() + 1, 'entries follow what is applied');
        const evaluated = group.evaluate();
        if (evaluated !== undefined) await evaluated;
        const operations = group.operations();
        const written = store.apply(operations, group.position());
        if (written !== undefined) await written;
        this.#publish(group, operations);
        // A backlog must not keep this thread from everything else.
        if (!this.#queue.isEmpty) await this.#nextTurn();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isRunning = false;
    }
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#isStopped = true;
    this.#queue.clear();
    this.#options.onFatal(error);
  }

  /** No await in here: this is the turn of which the module comment speaks. */
  #publish(group: ApplyGroup, operations: readonly StoreOperation[]): void {
    const { store, onApplied } = this.#options;
    const { entries, refusals } = group;
    const position = group.position();
    const index = position.lastIncludedIndex;
    store.publish();
    this.#configuration = position.configuration;
    const keys = [...new Set(operations.map((operation) => operation.key))];
    this.#publication.publish({ kind: 'keys', index, keys });
    onApplied({ entries, refusals, position });
    this.#reportDurable();
    if (!group.hasConfiguration) return;
    // It takes effect when it is durable; nobody should wait for that longer than for the disk.
    store.flush().catch((error: unknown) => this.#fail(error));
  }

  async #install(job: ApplyJob & { readonly kind: 'snapshot' }): Promise<void> {
    const { snapshot: position, chunks, done } = job;
    const index = position.lastIncludedIndex;
    // Raft never installs what it knows to be committed here.
    assert(this.appliedIndex() < index, 'a snapshot moves forward');
    const startMs = this.#options.clock.nowMs();
    await this.#options.store.importSnapshot(position, chunks);
    this.#replaceTimes.add(this.#options.clock.nowMs() - startMs);
    this.#durableIndex = index;
    this.#configuration = position.configuration;
    this.#publication.publish({ kind: 'everything', index });
    this.#options.onApplied({ entries: [], refusals: NO_REFUSALS, position });
    done();
  }

  /** The entry is applied either way: where the state that it names is not whole, it does nothing. */
  async #restore(entry: Entry): Promise<void> {
    const { store, onApplied } = this.#options;
    const { index, term, command } = entry;
    const position = {
      lastIncludedIndex: index,
      lastIncludedTerm: term,
      configuration: this.#configuration,
    };
    assert.equal(index, this.appliedIndex() + 1, 'entries follow what is applied');
    const startMs = this.#options.clock.nowMs();
    const isRestored = await restoreStaged(store, decodeRestore(command), {
      position,
      nextTurn: () => this.#nextTurn(),
    });
    if (isRestored) {
      this.#replaceTimes.add(this.#options.clock.nowMs() - startMs);
      this.#publication.publish({ kind: 'everything', index });
    } else {
      const written = store.apply([], position);
      if (written !== undefined) await written;
      store.publish();
      this.#publication.publish({ kind: 'keys', index, keys: [] });
    }
    const refusals = isRestored ? NO_REFUSALS : new Map([[index, 'conflict' as const]]);
    onApplied({ entries: [entry], refusals, position });
    this.#reportDurable();
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => this.#options.clock.nextTurn(resolve));
  }

  #reportDurable(): void {
    const index = this.#options.store.durablePosition().lastIncludedIndex;
    // In the midst of publishing, the store may be ahead of what listeners have heard.
    if (index <= this.#durableIndex || this.appliedIndex() < index) return;
    this.#durableIndex = index;
    this.#options.onDurable(index);
  }
}
