/**
 * The log in memory, and how much of it storage holds, the cluster has committed, and the state
 * machine has applied.
 *
 * ```
 *    snapshotIndex   appliedIndex  handedOutIndex   durableIndex   writtenIndex   lastIndex
 *  ───────┼───────────────┼──────────────┼───────────────┼──────────────┼─────────────┤
 *  compacted   applied       being applied     durable here   being written   not yet written
 *                                        └── commitIndex lies anywhere from here to lastIndex
 * ```
 *
 * Writes are handed out by `beginWrite` and reported by `endWrite` in the same order, several at a
 * time. A truncation while writes are under way is the delicate case. Say write 1 holds entry 5 of
 * term 2, a new leader replaces it by term 3 in write 2, and a third one brings entry 5 of term 2
 * back in write 3. When write 1 is reported, the log does hold exactly what it wrote, yet write 2
 * is about to overwrite it: a claim to hold entry 5 would be untrue after a crash between writes 2
 * and 3. Comparing terms and indexes cannot see that (A-B-A). So a truncation lowers what every
 * write under way will prove (`provesIndex`), and only a write begun later can raise it again.
 */

import assert from 'node:assert/strict';

import type { Entry, SnapshotMetadata } from './message.ts';

/** What an entry takes beside its command, on disk and on the wire: see storage/entry-codec.ts. */
const ENTRY_HEADER_BYTES = 21;

type Write = { readonly token: number; readonly snapshotIndex: number; provesIndex: number };

/**
 * Invariants:
 * - Indexes are contiguous: `entries[i].index === snapshotIndex + 1 + i`.
 * - Terms never decrease from one entry to the next, starting at `snapshotTerm`.
 * - `appliedIndex <= handedOutIndex <= min(commitIndex, durableIndex)`.
 * - `durableIndex <= writtenIndex <= lastIndex` and `commitIndex <= lastIndex`.
 * - `snapshotIndex <= appliedIndex`, but for the time in which a snapshot is being installed;
 *   nothing is handed out in that time.
 * - Entries at or below `commitIndex` never change; `commitIndex` never goes back.
 */
export class Log {
  #snapshotIndex: number;
  #snapshotTerm: number;
  #entries: Entry[];
  #appliedIndex: number;
  #handedOutIndex: number;
  #commitIndex: number;
  #durableIndex: number;
  #writtenIndex: number;
  #writes: Write[] = [];
  /** Accepted and not yet part of a write. */
  #snapshotToWrite: SnapshotMetadata | undefined;

  /** `entries` are durable and follow the snapshot; `commitIndex` may exceed what the log holds. */
  constructor(recovered: {
    readonly snapshotIndex: number;
    readonly snapshotTerm: number;
    readonly entries: readonly Entry[];
    readonly appliedIndex: number;
    readonly commitIndex: number;
  }) {
    this.#snapshotIndex = recovered.snapshotIndex;
    this.#snapshotTerm = recovered.snapshotTerm;
    this.#entries = [...recovered.entries];
    this.#appliedIndex = recovered.appliedIndex;
    this.#handedOutIndex = recovered.appliedIndex;
    this.#durableIndex = this.lastIndex;
    this.#writtenIndex = this.lastIndex;
    assert(this.#snapshotIndex <= this.#appliedIndex, 'the log begins after the applied state');
    assert(this.#appliedIndex <= this.lastIndex, 'the log ends before the applied state');
    this.#commitIndex = Math.max(
      this.#appliedIndex,
      Math.min(recovered.commitIndex, this.lastIndex),
      this.#lastIndexKnownToBeCommitted(),
    );
    this.#assertContiguous(this.#entries, this.#snapshotIndex, this.#snapshotTerm);
    this.#assertOrder();
  }

  /**
   * A leader proposes a configuration only when it has applied every earlier one, so in any log
   * all configuration entries but the last are committed. A restarted server must not forget it:
   * it would campaign with a configuration that is two changes old, whose majorities need not
   * overlap those of today.
   */
  #lastIndexKnownToBeCommitted(): number {
    const last = this.#entries.findLastIndex((entry) => entry.kind === 'configuration');
    const previous = this.#entries.findLast(
      (entry, position) => position < last && entry.kind === 'configuration',
    );
    return previous?.index ?? 0;
  }

  get firstIndex(): number {
    return this.#snapshotIndex + 1;
  }

  get lastIndex(): number {
    return this.#snapshotIndex + this.#entries.length;
  }

  get lastTerm(): number {
    return this.#entries.at(-1)?.term ?? this.#snapshotTerm;
  }

  get commitIndex(): number {
    return this.#commitIndex;
  }

  /** Up to here the log is on this node's disk, and no write under way will change that. */
  get durableIndex(): number {
    return this.#durableIndex;
  }

  /** Up to here the log has been handed to storage in its present form. */
  get writtenIndex(): number {
    return this.#writtenIndex;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get isInstallingSnapshot(): boolean {
    return this.#appliedIndex < this.#snapshotIndex;
  }

  get isWriting(): boolean {
    return this.#writes.length > 0;
  }

  get hasToWrite(): boolean {
    return this.#snapshotToWrite !== undefined || this.#writtenIndex < this.lastIndex;
  }

  /** A snapshot is accepted that storage has not been told of. */
  get hasToInstall(): boolean {
    return this.#snapshotToWrite !== undefined;
  }

  get hasToApply(): boolean {
    return (
      !this.isInstallingSnapshot &&
      this.#handedOutIndex < Math.min(this.#commitIndex, this.#durableIndex)
    );
  }

  /** The term of the entry at `index`, or undefined if it is compacted or not there yet. */
  termAt(index: number): number | undefined {
    if (index === this.#snapshotIndex) return this.#snapshotTerm;
    return this.#entries[index - this.#snapshotIndex - 1]?.term;
  }

  holds(index: number, term: number): boolean {
    return this.termAt(index) === term;
  }

  /** Whether a log that ends as described has everything that is committed (Raft §5.4.1). */
  isUpToDate(last: { readonly lastLogIndex: number; readonly lastLogTerm: number }): boolean {
    if (last.lastLogTerm !== this.lastTerm) return this.lastTerm < last.lastLogTerm;
    return this.lastIndex <= last.lastLogIndex;
  }

  /**
   * The last index up to `index` whose term is at most `term`: beyond it, a log that has `term` at
   * `index` cannot agree with this one. A compacted index is returned as it is.
   */
  lastIndexWithTermAtMost(index: number, term: number): number {
    let candidate = Math.min(index, this.lastIndex);
    while (this.#snapshotIndex <= candidate) {
      const found = this.termAt(candidate);
      assert(found !== undefined);
      if (found <= term) break;
      candidate -= 1;
    }
    return candidate;
  }

  /** The entries of `(after, last]`, all of which the log must hold. */
  slice(after: number, last: number): Entry[] {
    assert(this.#snapshotIndex <= after, 'slice reaches into the compacted part');
    assert(last <= this.lastIndex, 'slice reaches beyond the log');
    return this.#entries.slice(after - this.#snapshotIndex, last - this.#snapshotIndex);
  }

  /** The entries after `after` that fit into `bytesMax`: at least one, if there is one. */
  batch(after: number, bytesMax: number): { entries: Entry[]; bytes: number } {
    let bytes = 0;
    let last = after;
    while (last < this.lastIndex) {
      const entry = this.#entries[last - this.#snapshotIndex];
      assert(entry !== undefined, 'batch reaches into the compacted part');
      const entryBytes = ENTRY_HEADER_BYTES + entry.command.byteLength;
      if (bytes > 0 && bytes + entryBytes > bytesMax) break;
      bytes += entryBytes;
      last = entry.index;
    }
    return { entries: last === after ? [] : this.slice(after, last), bytes };
  }

  /** Adds entries at the end, as a leader does. */
  append(entries: readonly Entry[]): void {
    this.#assertContiguous(entries, this.lastIndex, this.lastTerm);
    for (const entry of entries) this.#entries.push(entry);
  }

  /**
   * Replaces the tail of the log with a leader's `entries`, from the first one that differs.
   *
   * Entries that the log holds or has compacted are skipped rather than rewritten: a delayed,
   * shorter append must not cut off entries that a later one added (Raft §5.3).
   */
  splice(entries: readonly Entry[]): void {
    const position = entries.findIndex(
      (entry) => this.#snapshotIndex < entry.index && this.termAt(entry.index) !== entry.term,
    );
    const conflict = entries[position];
    if (conflict === undefined) return;

    assert(this.#commitIndex < conflict.index, 'splice would change a committed entry');
    assert(conflict.index <= this.lastIndex + 1, 'splice would leave a gap');
    this.#truncate(conflict.index - 1);
    this.append(entries.slice(position));
  }

  #truncate(lastIndex: number): void {
    this.#entries.length = lastIndex - this.#snapshotIndex;
    this.#writtenIndex = Math.min(this.#writtenIndex, lastIndex);
    this.#durableIndex = Math.min(this.#durableIndex, lastIndex);
    for (const write of this.#writes) write.provesIndex = Math.min(write.provesIndex, lastIndex);
    this.#assertOrder();
  }

  /** Returns whether the commit index moved. */
  commitTo(index: number): boolean {
    if (index <= this.#commitIndex) return false;
    assert(index <= this.lastIndex, 'commit index beyond the log');
    this.#commitIndex = index;
    return true;
  }

  hasUnappliedConfiguration(): boolean {
    return this.slice(Math.max(this.#appliedIndex, this.#snapshotIndex), this.#commitIndex).some(
      (entry) => entry.kind === 'configuration',
    );
  }

  takeCommitted(): Entry[] {
    if (!this.hasToApply) return [];
    const last = Math.min(this.#commitIndex, this.#durableIndex);
    const entries = this.slice(this.#handedOutIndex, last);
    this.#handedOutIndex = last;
    return entries;
  }

  /** A report that a snapshot has overtaken is ignored. */
  applyTo(index: number): void {
    if (index <= this.#appliedIndex) return;
    assert(index <= this.#handedOutIndex, 'applied more than was handed out');
    this.#appliedIndex = index;
  }

  compact(index: number): void {
    assert(index <= this.#appliedIndex, 'compaction of entries that are not applied');
    if (index <= this.#snapshotIndex) return;
    const term = this.termAt(index);
    assert(term !== undefined);
    this.#entries = this.#entries.slice(index - this.#snapshotIndex);
    this.#snapshotIndex = index;
    this.#snapshotTerm = term;
  }

  /** Drops the whole log in favor of a snapshot that it does not lead up to (Raft §7). */
  restore(snapshot: SnapshotMetadata): void {
    const { lastIncludedIndex, lastIncludedTerm } = snapshot;
    assert(this.#commitIndex < lastIncludedIndex, 'snapshot is older than what is committed');
    assert(!this.holds(lastIncludedIndex, lastIncludedTerm), 'the log leads up to the snapshot');

    this.#durableIndex = Math.min(this.#durableIndex, this.#commitIndex);
    for (const write of this.#writes) {
      write.provesIndex = Math.min(write.provesIndex, this.#commitIndex);
    }
    this.#entries = [];
    this.#snapshotIndex = lastIncludedIndex;
    this.#snapshotTerm = lastIncludedTerm;
    this.#writtenIndex = lastIncludedIndex;
    this.#commitIndex = lastIncludedIndex;
    this.#snapshotToWrite = snapshot;
    this.#assertOrder();
  }

  /** Hands out what storage does not have yet; with nothing to write, a mark in the order. */
  beginWrite(token: number): { snapshot: SnapshotMetadata | undefined; entries: Entry[] } {
    assert((this.#writes.at(-1)?.token ?? 0) < token, 'write tokens must ascend');
    const snapshot = this.#snapshotToWrite;
    const entries = this.slice(this.#writtenIndex, this.lastIndex);
    this.#writes.push({
      token,
      snapshotIndex: snapshot?.lastIncludedIndex ?? 0,
      provesIndex: this.lastIndex,
    });
    this.#snapshotToWrite = undefined;
    this.#writtenIndex = this.lastIndex;
    return { snapshot, entries };
  }

  endWrite(token: number): void {
    const write = this.#writes.shift();
    assert(write !== undefined, 'a write was reported that is not under way');
    assert(write.token === token, 'writes were reported out of order');
    this.#durableIndex = Math.max(this.#durableIndex, write.provesIndex);
    // A newer snapshot may have come while this one was being installed.
    if (write.snapshotIndex === this.#snapshotIndex && this.isInstallingSnapshot) {
      this.#handedOutIndex = write.snapshotIndex;
      this.#appliedIndex = write.snapshotIndex;
    }
    this.#assertOrder();
  }

  #assertOrder(): void {
    assert(this.#appliedIndex <= this.#handedOutIndex);
    assert(this.#handedOutIndex <= this.#durableIndex);
    assert(this.#handedOutIndex <= this.#commitIndex);
    assert(this.#durableIndex <= this.#writtenIndex);
    assert(this.#writtenIndex <= this.lastIndex);
    assert(this.#commitIndex <= this.lastIndex);
  }

  #assertContiguous(entries: readonly Entry[], lastIndex: number, lastTerm: number): void {
    let index = lastIndex;
    let term = lastTerm;
    for (const entry of entries) {
      index += 1;
      assert(entry.index === index, 'entry indexes are not contiguous');
      assert(term <= entry.term, 'entry terms decrease');
      term = entry.term;
    }
  }
}
