/**
 * The leader's side: spreading its log, counting who holds it, and telling the commit index
 * (Raft §5.3, §5.4.2), with the guard on configuration changes (thesis §4).
 *
 * Answers and proposals only change what is known; `flush` then decides, once per `Ready`, what
 * each server is sent. So whatever arrived together leaves as one append per server.
 *
 * Telling the commit index, with `push`: a server whose last append carried an older one is sent
 * the entries that wait for it, or else one empty append. If the pushes are gathered, the empty one
 * for several entries waits for `pushCommit`: it costs each server a message and an answer, and
 * callers who now hear of their writes may write again. With `piggyback` (the rule of
 * hashicorp/raft, there `CommitTimeout`) it travels with entries, or after a random time without
 * any; heartbeats do not carry it. What may have been lost is repeated: under `push` by the
 * heartbeat, under `piggyback` by an append when the heartbeat's answer shows that it did not help.
 */

import assert from 'node:assert/strict';

import { AppendSender, type Peer } from './append-sender.ts';
import { encodeConfiguration, leaveJoint, planChange, type Transition } from './configuration.ts';
import type { Log } from './log.ts';
import type {
  AppendEntriesResponse,
  Configuration,
  Entry,
  HeartbeatResponse,
  NodeId,
} from './message.ts';
import type { Outbox } from './outbox.ts';
import { Progress, type ProgressLimits, type ProgressStatus } from './progress.ts';
import { Quorum } from './quorum.ts';
import { ReadIndex } from './read-index.ts';
import type { Reads } from './reads.ts';
import { Transfer } from './transfer.ts';

/** `timeoutTicks`: an empty append follows after a time in `[timeoutTicks, 2 * timeoutTicks)`. */
export type CommitNotify =
  | { readonly kind: 'push'; readonly isGathered: boolean }
  | { readonly kind: 'piggyback'; readonly timeoutTicks: number };

export type ReplicationOptions = {
  readonly id: NodeId;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** How long a confirmed round lets the leader answer reads alone; 0: never (`read-index.ts`). */
  readonly leaseMs: number;
  readonly random: () => number;
  readonly commitNotify: CommitNotify;
  readonly limits: ProgressLimits & { readonly uncommittedBytesMax: number };
};

/**
 * What a leader knows in its term; dropped with the role, so that nothing of it (a transfer under
 * way above all) can outlive the leadership.
 *
 * Invariants:
 * - `peers` holds every other server of the configuration in force, and no one else.
 * - The leader counts itself up to `log.durableIndex`, never for what its disk does not hold.
 * - Only entries of this term are committed by counting (Raft §5.4.2, figure 8).
 * - `uncommittedBytes` is the size of all commands in `(commitIndex, lastIndex]`.
 */
export class Replication {
  readonly term: number;
  readonly #options: ReplicationOptions;
  readonly #log: Log;
  readonly #outbox: Outbox;
  #configuration: Configuration;
  #quorum: Quorum;
  readonly #peers = new Map<NodeId, Peer>();
  readonly readIndex: ReadIndex;
  readonly #appends: AppendSender;
  #heartbeatElapsedTicks = 0;
  /** The last round that was begun by the clock and not by a read. */
  #clockRound = 0;
  #quorumElapsedTicks = 0;
  readonly #transfer: Transfer;
  #uncommittedBytes: number;
  /** No configuration may be proposed before this entry is applied. */
  #pendingConfigurationIndex: number;
  /** The configuration that removed this leader or made it a learner; 0 while there is none. */
  #removedAtIndex = 0;

  /** Appends the no-op whose commit commits all that earlier terms left behind (Raft §8). */
  constructor(
    options: ReplicationOptions,
    ground: {
      readonly term: number;
      readonly log: Log;
      readonly outbox: Outbox;
      readonly configuration: Configuration;
      readonly reads: Reads;
    },
  ) {
    this.#options = options;
    this.term = ground.term;
    this.#log = ground.log;
    this.#outbox = ground.outbox;
    this.#configuration = ground.configuration;
    this.readIndex = new ReadIndex(options, {
      ...ground,
      isQuorum: (holds) => this.#quorum.isMet(holds),
    });
    this.#appends = new AppendSender(options, ground);
    this.#quorum = new Quorum(ground.configuration);
    this.#transfer = new Transfer(options.electionTicks);
    for (const { id } of ground.configuration.servers) this.#addPeer(id, { recentActive: false });
    this.#uncommittedBytes = commandBytes(
      this.#log.slice(this.#log.commitIndex, this.#log.lastIndex),
    );
    // An earlier leader's change may be anywhere in the log, and the first own commit settles it.
    this.#pendingConfigurationIndex = this.#append('noop', [new Uint8Array(0)]);
  }

  get transferTarget(): NodeId | null {
    return this.#transfer.target;
  }

  /** A leader that hands over, or is removed, takes no proposals. */
  get isLeaving(): boolean {
    return this.#transfer.target !== null || this.#removedAtIndex > 0;
  }

  /**
   * A removed leader is no longer needed when a majority of the others have applied its removal.
   * Those who do not know it committed would still count on its vote, which only a log as long as
   * its own could win.
   */
  get isDone(): boolean {
    if (this.#removedAtIndex === 0) return false;
    const appliedBy = (id: NodeId): number => this.#peers.get(id)?.progress.appliedIndex ?? 0;
    return this.#removedAtIndex <= this.#quorum.index(appliedBy);
  }

  /** One row for each server of the configuration, the leader included. */
  progressStatus(): Map<NodeId, ProgressStatus> {
    const own: ProgressStatus = {
      matchIndex: this.#log.durableIndex,
      nextIndex: this.#log.lastIndex + 1,
      kind: 'replicate',
      appliedIndex: this.#log.appliedIndex,
      recentActive: true,
      quietTicks: 0,
    };
    const rows = new Map([[this.#options.id, own]]);
    for (const [id, { progress }] of this.#peers) rows.set(id, progress.status());
    return rows;
  }

  /** Returns the index of the first entry, or nothing if too much is waiting to be committed. */
  propose(commands: readonly Uint8Array[]): number | undefined {
    assert(!this.isLeaving);
    let bytes = 0;
    for (const command of commands) bytes += command.byteLength;
    // A proposal above the limit is let through alone, or it could never be made.
    const isOverLimit = this.#options.limits.uncommittedBytesMax < this.#uncommittedBytes + bytes;
    if (this.#uncommittedBytes > 0 && isOverLimit) return undefined;
    return this.#append('command', commands);
  }

  proposeConfiguration(
    target: Configuration,
    transition: Transition,
  ):
    | { kind: 'accepted'; index: number }
    | { kind: 'pending' }
    | { kind: 'refused'; reason: string } {
    if (this.#isConfigurationPending()) return { kind: 'pending' };
    const plan = planChange(this.#configuration, { target, transition });
    if (plan.kind === 'refused') return plan;
    return { kind: 'accepted', index: this.#appendConfiguration(plan.next) };
  }

  #isConfigurationPending(): boolean {
    return this.#log.appliedIndex < this.#pendingConfigurationIndex;
  }

  #appendConfiguration(configuration: Configuration): number {
    const encoded = encodeConfiguration(configuration);
    this.#pendingConfigurationIndex = this.#append('configuration', [encoded]);
    return this.#pendingConfigurationIndex;
  }

  /**
   * Proposes the second half of a joint change, whoever proposed the first one. Called whenever
   * the reasons to wait may be gone: an entry was applied, or a transfer was given up.
   */
  leaveJointIfDue(): void {
    if (this.#configuration.joint?.autoLeave !== true) return;
    if (this.isLeaving || this.#isConfigurationPending()) return;
    this.#appendConfiguration(leaveJoint(this.#configuration));
  }

  #append(kind: Entry['kind'], commands: readonly Uint8Array[]): number {
    const firstIndex = this.#log.lastIndex + 1;
    this.#log.append(
      commands.map((command, offset) => ({
        index: firstIndex + offset,
        term: this.term,
        kind,
        command,
      })),
    );
    for (const command of commands) this.#uncommittedBytes += command.byteLength;
    return firstIndex;
  }

  /**
   * Takes a configuration into force. A leader that is not among its voters manages the cluster
   * without counting itself until it is done (Raft §6). While it is in the outgoing half of a
   * joint one it leads as before, and sees to it that this half is left.
   */
  applyConfiguration(configuration: Configuration): void {
    this.#configuration = configuration;
    this.#quorum = new Quorum(configuration);
    if (!this.#quorum.includes(this.#options.id)) this.#removedAtIndex = this.#log.appliedIndex;
    const ids = new Set(configuration.servers.map((server) => server.id));
    for (const id of this.#peers.keys()) {
      if (!ids.has(id)) this.#peers.delete(id);
    }
    // The newcomer counts as active until it had time to answer.
    for (const id of ids) this.#addPeer(id, { recentActive: true });
    const { target } = this.#transfer;
    if (target !== null && !this.#quorum.includes(target)) this.#transfer.giveUp();
    // A lease is counted under one configuration.
    this.readIndex.dropLease();
    // A smaller quorum may already hold more, or have answered.
    this.advanceCommit();
    this.#advanceReads();
  }

  #addPeer(id: NodeId, { recentActive }: { readonly recentActive: boolean }): void {
    if (id === this.#options.id || this.#peers.has(id)) return;
    const progress = new Progress({
      nextIndex: this.#log.lastIndex + 1,
      recentActive,
      limits: this.#options.limits,
    });
    this.#peers.set(id, {
      progress,
      commitTimerTicks: this.#appends.drawCommitTimer(),
      heardRound: 0,
    });
  }

  /** Returns whether a majority of the voters was heard from of late; if not, the role must go. */
  tick(): 'leading' | 'quorumLost' {
    this.#transfer.tick();
    this.#quorumElapsedTicks += 1;
    if (this.#options.electionTicks <= this.#quorumElapsedTicks) {
      this.#quorumElapsedTicks = 0;
      if (!this.#hasActiveQuorum()) return 'quorumLost';
      for (const { progress } of this.#peers.values()) progress.forgetActivity();
    }

    this.leaveJointIfDue();
    for (const peer of this.#peers.values()) {
      peer.progress.tick();
      peer.commitTimerTicks -= 1;
    }
    this.#heartbeatElapsedTicks += 1;
    if (this.#options.heartbeatTicks <= this.#heartbeatElapsedTicks) {
      this.#heartbeatElapsedTicks = 0;
      this.#clockRound = this.#heartbeat();
    }
    return 'leading';
  }

  #hasActiveQuorum(): boolean {
    return this.#quorum.isMet(
      (id) => id === this.#options.id || this.#peers.get(id)?.progress.recentActive === true,
    );
  }

  /** Returns the number of the round. */
  #heartbeat(): number {
    const round = this.readIndex.beginRound();
    for (const [to, { progress }] of this.#peers) {
      const leaderCommit =
        this.#options.commitNotify.kind === 'push'
          ? Math.min(this.#log.commitIndex, progress.matchIndex)
          : 0;
      this.#outbox.send({
        kind: 'heartbeat',
        from: this.#options.id,
        to,
        term: this.term,
        leaderCommit,
        round,
        ...this.readIndex.takeFresh(to),
      });
    }
    // Alone, a leader is its own quorum.
    this.#advanceReads();
    return round;
  }

  onAppendEntriesResponse(message: AppendEntriesResponse): void {
    const progress = this.#peers.get(message.from)?.progress;
    if (progress === undefined) return;
    progress.hear(message.appliedIndex);

    if (!message.success) {
      // Skips the follower's whole terms above what it holds, as its hint skipped the leader's.
      const { rejectedIndex, hintIndex, hintTerm } = message;
      progress.refuse(rejectedIndex, this.#log.lastIndexWithTermAtMost(hintIndex, hintTerm));
      return;
    }
    assert(message.matchIndex <= this.#log.lastIndex, 'a follower holds more than its leader');
    if (!progress.acknowledge(message.matchIndex, this.#log.firstIndex)) return;
    this.advanceCommit();
    this.#callTransferTarget();
  }

  onHeartbeatResponse({ from, appliedIndex, round }: HeartbeatResponse): void {
    const peer = this.#peers.get(from);
    if (peer === undefined) return;
    peer.progress.hear(appliedIndex);
    this.readIndex.onAnswer(from, round);
    this.#advanceReads();
    // A read's round comes too soon after an append to say that its answer is overdue.
    if (peer.heardRound < this.#clockRound && this.#clockRound <= round) {
      peer.progress.hearHeartbeat(this.#log.lastIndex);
      if (this.#options.commitNotify.kind === 'piggyback') peer.progress.doubtSentCommit();
    }
    peer.heardRound = Math.max(peer.heardRound, round);
  }

  #advanceReads(): void {
    this.readIndex.advance(this.#quorum.index((id) => this.readIndex.roundOf(id)));
  }

  /** Commits what a majority of the voters holds durably, if its last entry is of this term. */
  advanceCommit(): void {
    const index = this.#quorum.index((id) =>
      id === this.#options.id
        ? this.#log.durableIndex
        : (this.#peers.get(id)?.progress.matchIndex ?? 0),
    );
    if (index <= this.#log.commitIndex || !this.#log.holds(index, this.term)) return;
    this.#uncommittedBytes -= commandBytes(this.#log.slice(this.#log.commitIndex, index));
    assert(0 <= this.#uncommittedBytes);
    const isAlone = index === this.#log.commitIndex + 1;
    this.#log.commitTo(index);
    // One caller at most hears of it, and is not worth to be waited for.
    if (isAlone) this.pushCommit();
    this.readIndex.onCommit();
  }

  /** Begins to hand the leadership over; no proposal is taken until it is done or given up. */
  transfer(to: NodeId): boolean {
    if (to === this.#options.id || !this.#quorum.includes(to)) return false;
    this.#transfer.begin(to);
    this.#callTransferTarget();
    return true;
  }

  #callTransferTarget(): void {
    const to = this.#transfer.call(
      (id) => this.#peers.get(id)?.progress.matchIndex === this.#log.lastIndex,
    );
    if (to === undefined) return;
    this.readIndex.forbidLease();
    this.#outbox.send({ kind: 'timeoutNow', from: this.#options.id, to, term: this.term });
  }

  pushCommit(): void {
    this.#appends.pushCommit();
  }

  get isCommitHeld(): boolean {
    return this.#appends.isCommitHeld;
  }

  reportUnreachable(id: NodeId): void {
    this.#peers.get(id)?.progress.reportUnreachable();
  }

  reportSnapshot(id: NodeId, ok: boolean): void {
    this.#peers.get(id)?.progress.reportSnapshot(ok);
  }

  /** Sends each server what it may be sent now. Without news since the last call it does nothing. */
  flush(): void {
    if (this.readIndex.isRoundDue) this.#heartbeat();
    for (const [to, peer] of this.#peers) this.#appends.flush(to, peer, this.#configuration);
  }
}

function commandBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entry.command.byteLength;
  return bytes;
}
