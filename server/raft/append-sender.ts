/** Sends one server what it may be sent now: entries, the commit index, or a snapshot. */

import assert from 'node:assert/strict';

import type { Log } from './log.ts';
import type { Configuration, NodeId } from './message.ts';
import type { Outbox } from './outbox.ts';
import type { Progress } from './progress.ts';
import type { ReplicationOptions } from './replication.ts';

export type Peer = {
  readonly progress: Progress;
  commitTimerTicks: number;
  /** The last round that this server has answered, of those that the clock began. */
  heardRound: number;
};

export class AppendSender {
  /** What servers are told even if it takes an append of its own. */
  #pushedCommit: number;
  readonly #options: ReplicationOptions;
  readonly #term: number;
  readonly #log: Log;
  readonly #outbox: Outbox;

  constructor(
    options: ReplicationOptions,
    ground: { readonly term: number; readonly log: Log; readonly outbox: Outbox },
  ) {
    this.#options = options;
    this.#term = ground.term;
    this.#log = ground.log;
    this.#outbox = ground.outbox;
    const { commitNotify } = options;
    this.#pushedCommit = commitNotify.kind === 'push' && !commitNotify.isGathered ? Infinity : 0;
  }

  flush(to: NodeId, peer: Peer, configuration: Configuration): void {
    const { progress } = peer;
    if (progress.kind === 'snapshot') return;
    while (!progress.isPaused && progress.nextIndex <= this.#log.lastIndex) {
      if (!this.#sendAppend(to, peer, configuration)) return;
    }
    if (progress.isAnswerWanted || this.#isCommitDue(peer)) {
      this.#sendAppend(to, peer, configuration);
    }
  }

  #isCommitDue({ progress, commitTimerTicks }: Peer): boolean {
    if (progress.isPaused || this.#log.commitIndex <= progress.sentCommit) return false;
    if (this.#options.commitNotify.kind === 'piggyback') return commitTimerTicks <= 0;
    return progress.sentCommit < this.#pushedCommit;
  }

  /** Tells all that is committed by now, see `Raft.pushCommit`. */
  pushCommit(): void {
    this.#pushedCommit = Math.max(this.#pushedCommit, this.#log.commitIndex);
  }

  /** Whether something is committed that is told only with entries, until `pushCommit`. */
  get isCommitHeld(): boolean {
    if (this.#options.commitNotify.kind === 'piggyback') return false;
    return this.#pushedCommit < this.#log.commitIndex;
  }

  /** Sends the next batch, which may be empty. Returns false if a snapshot is needed instead. */
  #sendAppend(to: NodeId, peer: Peer, configuration: Configuration): boolean {
    const { progress } = peer;
    const prevLogIndex = progress.nextIndex - 1;
    const prevLogTerm = this.#log.termAt(prevLogIndex);
    if (prevLogTerm === undefined) {
      this.#sendSnapshot(to, progress, configuration);
      return false;
    }
    const { entries, bytes } = progress.isPaused
      ? { entries: [], bytes: 0 }
      : this.#log.batch(prevLogIndex, this.#options.limits.appendBytesMax);
    const leaderCommit = this.#log.commitIndex;
    this.#outbox.send({
      kind: 'appendEntries',
      from: this.#options.id,
      to,
      term: this.#term,
      prevLogIndex,
      prevLogTerm,
      entries,
      leaderCommit,
    });
    progress.sendAppend({ entryCount: entries.length, bytes, leaderCommit });
    peer.commitTimerTicks = this.drawCommitTimer();
    return true;
  }

  /** A server that does not answer is not sent a whole state. */
  #sendSnapshot(to: NodeId, progress: Progress, configuration: Configuration): void {
    if (!progress.recentActive) return;
    const lastIncludedIndex = this.#log.appliedIndex;
    const lastIncludedTerm = this.#log.termAt(lastIncludedIndex);
    assert(lastIncludedTerm !== undefined);
    this.#outbox.send({
      kind: 'installSnapshot',
      from: this.#options.id,
      to,
      term: this.#term,
      snapshot: { lastIncludedIndex, lastIncludedTerm, configuration },
    });
    progress.sendSnapshot(lastIncludedIndex);
  }

  drawCommitTimer(): number {
    const { commitNotify, random } = this.#options;
    if (commitNotify.kind === 'push') return 0;
    return commitNotify.timeoutTicks + Math.floor(random() * commitNotify.timeoutTicks);
  }
}
