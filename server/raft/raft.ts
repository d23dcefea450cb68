/**
 * Raft as a function of what has happened: messages, ticks, proposals, and reports of finished
 * writes go in; `ready()` says what is to be written, sent and applied. There is no clock, no
 * randomness but `random`, no I/O, and no promise in this folder.
 *
 * - `election.ts`: terms, roles, votes. `replication.ts`: the leader's side. `follower.ts`: the
 *   other. `log.ts`: the log, what is durable of it. `progress.ts`: what a leader knows of a server.
 *   `read-index.ts`: reads without an entry in the log, and how time comes in for their sake.
 * - The driver drains what waits, steps it all, then takes one `Ready`: what arrived together is
 *   written once and sent once.
 *
 * What to know before relying on it:
 *
 * - Disks are waited for by the messages that speak for them, not by the protocol. A leader sends
 *   entries while it writes them, and counts itself when its own write is reported. Everything
 *   that grants a vote, asks for one, or names a match waits (`messagesAfterAppend`). A request
 *   for votes waits because it names the log's end: a candidate that lost unwritten entries in a
 *   crash, and its new term with them, could otherwise win with votes given for a longer log.
 *   (testdata/vote_request_waits_for_disk.txt)
 * - Committed entries are applied only when they are durable here, or a crash could take back what
 *   a follower has already shown. (testdata/apply_waits_for_disk.txt)
 * - A new leader knows what earlier terms committed only when its own no-op commits (Raft §8).
 * - A configuration takes effect when it is applied (as in etcd-io/raft), not when it is appended
 *   as in Raft §6. `configuration.ts` says why that is safe. The price: who does not know a removal
 *   still counts on the removed. (testdata/removed_*.txt)
 * - Check-quorum and the vote refusal within the lease go together with the pre-vote: a server
 *   that returns from a partition neither deposes a live leader nor is locked out by a higher term
 *   (testdata/rejoin_is_not_disruptive.txt, testdata/higher_term_frees_itself.txt).
 * - The persisted commit index is a hint: it never speaks of entries of the same write, because a
 *   crash may keep the hint and lose the entries.
 * - Limits: a proposal over `uncommittedBytesMax` is refused, appends are cut at `appendBytesMax`
 *   and windowed per server. `committedEntries` is not cut; the driver applies in its own portions.
 */

import assert from 'node:assert/strict';

import { decodeConfiguration, type Transition } from './configuration.ts';
import { Election } from './election.ts';
import { Follower, type AppendAnswer } from './follower.ts';
import { Log } from './log.ts';
import type {
  AppendEntries,
  Configuration,
  Entry,
  Freshness,
  HardState,
  Heartbeat,
  InstallSnapshot,
  Message,
  NodeId,
  Ready,
  Role,
  SnapshotMetadata,
} from './message.ts';
import { Outbox } from './outbox.ts';
import type { ProgressStatus } from './progress.ts';
import { Reads } from './reads.ts';
import { Replication, type ReplicationOptions } from './replication.ts';
import { readyOf, Writer } from './write-out.ts';

/**
 * The log must lead up to the applied state: a driver that finds its store ahead of the log, or in
 * disagreement with it, crashed while it installed a snapshot, and begins the log at the store's
 * position.
 */
export type RaftOptions = ReplicationOptions & {
  readonly hardState: HardState;
  /** Where the log begins. Its configuration is not read. */
  readonly snapshot: SnapshotMetadata;
  /** The durable entries after `snapshot.lastIncludedIndex`. */
  readonly entries: readonly Entry[];
  /** What the state machine holds durably. */
  readonly appliedIndex: number;
  /** The configuration as of `appliedIndex`; empty on a server that has yet to join. */
  readonly configuration: Configuration;
};

export type RaftStatus = {
  readonly id: NodeId;
  readonly role: Role;
  readonly leaderId: NodeId | null;
  readonly currentTerm: number;
  readonly votedFor: NodeId | null;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly durableIndex: number;
  readonly configuration: Configuration;
  readonly transferTarget: NodeId | null;
  /** By the time that it was last told, this leader may answer reads alone. */
  readonly hasLease: boolean;
  readonly freshness: Freshness | undefined;
  /** Every server of the configuration, on the leader; empty elsewhere. */
  readonly progress: ReadonlyMap<NodeId, ProgressStatus>;
};

export type ProposeResult =
  | { readonly kind: 'accepted'; readonly firstIndex: number; readonly term: number }
  /** Nothing was appended. Also the answer of a leader that hands over or is being removed. */
  | { readonly kind: 'notLeader' }
  | { readonly kind: 'overloaded' };

export type ProposeConfigurationResult =
  | { readonly kind: 'accepted'; readonly index: number; readonly term: number }
  | { readonly kind: 'notLeader' }
  /** An earlier change, or this leader's first entry, is not applied yet. */
  | { readonly kind: 'pending' }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * Invariants:
 * - `#replication` is present exactly while this server leads, and of the current term.
 * - `#follower` is of the current term.
 */
export class Raft {
  readonly #options: RaftOptions;
  readonly #id: NodeId;
  readonly #log: Log;
  readonly #outbox = new Outbox();
  readonly #election: Election;
  #configuration: Configuration;
  #follower: Follower;
  #replication: Replication | undefined;
  readonly #writer: Writer;
  readonly #reads: Reads;
  /** Configuration entries that are handed out and not reported as applied. */
  #configurationsToApply: { readonly index: number; readonly configuration: Configuration }[] = [];

  constructor(options: RaftOptions) {
    assert(options.id !== '', 'id must not be empty');
    assert(0 < options.heartbeatTicks, 'heartbeatTicks must be positive');
    assert(options.heartbeatTicks < options.electionTicks, 'a heartbeat must fit into a timeout');
    assert(0 < options.limits.inflightAppendsMax, 'inflightAppendsMax must be positive');
    this.#options = options;
    this.#id = options.id;
    this.#configuration = options.configuration;
    this.#log = new Log({
      snapshotIndex: options.snapshot.lastIncludedIndex,
      snapshotTerm: options.snapshot.lastIncludedTerm,
      entries: options.entries,
      appliedIndex: options.appliedIndex,
      commitIndex: options.hardState.commitIndex,
    });
    this.#election = new Election(options, { log: this.#log, outbox: this.#outbox });
    this.#follower = new Follower(this.#log, this.#election.currentTerm);
    this.#writer = new Writer(options.hardState, { election: this.#election, log: this.#log });
    this.#reads = new Reads(options.id, this.#outbox);
    this.#settle();
  }

  /** To be called when the inputs of a turn are drained and not yet given: leases rest on that. */
  advanceTime(nowMs: number): void {
    this.#reads.advanceTime(nowMs);
  }

  /** The machine may have slept: more time may have passed than the clock has counted. */
  distrustTime(): void {
    this.#replication?.readIndex.dropLease();
  }

  tick(): void {
    if (this.#replication === undefined) this.#election.tick();
    else if (this.#replication.tick() === 'quorumLost') this.#election.stepDown();
    this.#settle();
  }

  /** Stands for election without waiting for the timeout. A leader or a learner does nothing. */
  campaign(): void {
    this.#election.campaign();
    this.#settle();
  }

  step(message: Message): void {
    assert(message.to === this.#id, 'a message for another server');
    if (!this.#election.admit(message)) return;
    this.#settle();
    this.#dispatch(message);
    this.#settle();
  }

  #dispatch(message: Message): void {
    switch (message.kind) {
      case 'requestVote':
        return this.#election.onRequestVote(message);
      case 'requestVoteResponse':
        return this.#election.onRequestVoteResponse(message);
      case 'appendEntries':
        return this.#answer(message, this.#follower.acceptEntries(message));
      case 'appendEntriesResponse':
        return this.#replication?.onAppendEntriesResponse(message);
      case 'heartbeat':
        return this.#onHeartbeat(message);
      case 'heartbeatResponse':
        return this.#replication?.onHeartbeatResponse(message);
      case 'installSnapshot':
        return this.#onInstallSnapshot(message);
      case 'timeoutNow':
        return this.#election.onTimeoutNow();
      case 'readIndex':
        if (this.#replication === undefined) return this.#reads.refuse(message);
        return this.#replication.readIndex.ask(message);
      case 'readIndexResponse':
        return this.#reads.onResponse(message);
      default:
        assert.fail(message satisfies never);
    }
  }

  /** Begins and drops what belongs to a role and a term, after all that may change them. */
  #settle(): void {
    if (this.#replication?.isDone === true && this.#election.role === 'leader') {
      this.#election.stepDown();
    }
    const { role, currentTerm, leaderId } = this.#election;
    if (this.#follower.term !== currentTerm) this.#follower = new Follower(this.#log, currentTerm);
    if (this.#replication !== undefined && role !== 'leader') {
      this.#replication.readIndex.end();
      this.#replication = undefined;
    }
    this.#reads.follow(currentTerm, leaderId);
    if (role === 'leader') {
      this.#replication ??= new Replication(this.#options, {
        term: currentTerm,
        log: this.#log,
        outbox: this.#outbox,
        configuration: this.#configuration,
        reads: this.#reads,
      });
      assert(this.#replication.term === currentTerm);
    }
  }

  /** A success claims a match, so it waits for the disk; a refusal claims nothing. */
  #answer(message: AppendEntries | InstallSnapshot, answer: AppendAnswer): void {
    const response = this.#follower.response(answer, { from: this.#id, to: message.from });
    if (answer.success) this.#outbox.sendAfterAppend(response);
    else this.#outbox.send(response);
  }

  #onHeartbeat(message: Heartbeat): void {
    this.#follower.acceptHeartbeat(message);
    this.#reads.onFresh(message.freshRound, message.freshIndex);
    this.#reads.answerRound(message.round);
    this.#outbox.send({
      kind: 'heartbeatResponse',
      from: this.#id,
      to: message.from,
      term: this.#election.currentTerm,
      appliedIndex: this.#log.appliedIndex,
      round: message.round,
    });
  }

  #onInstallSnapshot(message: InstallSnapshot): void {
    const { restored, answer } = this.#follower.acceptSnapshot(message);
    if (restored) {
      this.#configurationsToApply = [];
      this.#applyConfiguration(message.snapshot.configuration);
    }
    this.#answer(message, answer);
  }

  /** Appends the commands as entries in their order: all of them, or none. */
  propose(commands: readonly Uint8Array[]): ProposeResult {
    assert(commands.length > 0, 'a proposal without commands');
    const replication = this.#replication;
    if (replication === undefined || replication.isLeaving) return { kind: 'notLeader' };
    const firstIndex = replication.propose(commands);
    if (firstIndex === undefined) return { kind: 'overloaded' };
    return { kind: 'accepted', firstIndex, term: this.#election.currentTerm };
  }

  /**
   * Proposes to make `target` the configuration, at once or by way of a joint one (see
   * `configuration.ts`). While a joint one is in force, `target` must be its incoming half.
   */
  proposeConfiguration(
    target: Configuration,
    transition: Transition = 'auto',
  ): ProposeConfigurationResult {
    const replication = this.#replication;
    if (replication === undefined || replication.isLeaving) return { kind: 'notLeader' };
    const result = replication.proposeConfiguration(target, transition);
    return result.kind === 'accepted' ? { ...result, term: this.#election.currentTerm } : result;
  }

  /** Whether it began: this server leads, `to` is another voter. Given up after `electionTicks`. */
  transferLeadership(to: NodeId): boolean {
    return this.#replication?.transfer(to) ?? false;
  }

  /**
   * Asks for the index that a state must have applied to hold all that was acknowledged before now.
   * No id may be used twice, not even by an earlier process of this server.
   */
  readIndex(id: number): void {
    if (this.#replication === undefined) this.#reads.forward(id);
    else this.#replication.readIndex.ask({ from: this.#id, id });
  }

  /** What is committed by now may be told by appends of its own; wanted while `isCommitHeld`. */
  pushCommit(): void {
    this.#replication?.pushCommit();
  }

  get isCommitHeld(): boolean {
    return this.#replication?.isCommitHeld ?? false;
  }

  /** A message to `id` was not delivered, and more may not have been. */
  reportUnreachable(id: NodeId): void {
    this.#replication?.reportUnreachable(id);
  }

  /** The transmission of a snapshot has ended. Must be called for each `installSnapshot`. */
  reportSnapshot(id: NodeId, ok: boolean): void {
    this.#replication?.reportSnapshot(id, ok);
  }

  hasReady(): boolean {
    this.#replication?.flush();
    return (
      !this.#outbox.isEmpty ||
      !this.#reads.isEmpty ||
      this.#log.hasToApply ||
      this.#writer.hasToWrite
    );
  }

  ready(): Ready {
    this.#replication?.flush();
    const isAllDurable = !this.#writer.hasToWrite && !this.#log.isWriting;
    const { messages, messagesAfterAppend } = this.#outbox.take(isAllDurable);
    const committedEntries = this.#log.takeCommitted();
    for (const { kind, index, command } of committedEntries) {
      if (kind !== 'configuration') continue;
      this.#configurationsToApply.push({ index, configuration: decodeConfiguration(command) });
    }
    const write = this.#writer.take(messagesAfterAppend.length > 0);
    return readyOf(write, {
      messages,
      messagesAfterAppend,
      committedEntries,
      readStates: this.#reads.take(),
    });
  }

  /** The write with this token, and every earlier one, is durable. */
  storageAppendDone(appendToken: number): void {
    this.#log.endWrite(appendToken);
    this.#replication?.advanceCommit();
    this.#election.endWrite(appendToken);
    this.#settle();
  }

  /** The state machine holds everything up to `index` durably; readers may see more already. */
  storageApplied(index: number): void {
    this.#log.applyTo(index);
    for (;;) {
      const next = this.#configurationsToApply[0];
      if (next === undefined || index < next.index) break;
      this.#configurationsToApply.shift();
      this.#applyConfiguration(next.configuration);
    }
    this.#replication?.leaveJointIfDue();
  }

  #applyConfiguration(configuration: Configuration): void {
    this.#configuration = configuration;
    this.#election.applyConfiguration(configuration);
    this.#replication?.applyConfiguration(configuration);
    this.#settle();
  }

  /** Forgets the entries up to `index`, which must be applied. */
  compact(index: number): void {
    this.#log.compact(index);
  }

  status(): RaftStatus {
    return {
      id: this.#id,
      role: this.#election.role,
      leaderId: this.#election.leaderId,
      currentTerm: this.#election.currentTerm,
      votedFor: this.#election.votedFor,
      commitIndex: this.#log.commitIndex,
      appliedIndex: this.#log.appliedIndex,
      firstIndex: this.#log.firstIndex,
      lastIndex: this.#log.lastIndex,
      durableIndex: this.#log.durableIndex,
      configuration: this.#configuration,
      transferTarget: this.#replication?.transferTarget ?? null,
      hasLease: this.#replication?.readIndex.hasLease ?? false,
      freshness: this.#reads.freshness,
      progress: this.#replication?.progressStatus() ?? new Map(),
    };
  }
}
