/**
 * Terms, roles and votes: when to stand, whom to vote for, whom to follow (Raft §5.1, §5.2,
 * §5.4.1), with pre-vote (thesis §9.6), check-quorum and the vote refusal within the lease (thesis
 * §6.2, §4.2.3), and the election that a leadership transfer calls for (thesis §3.10).
 *
 * ```
 *                 timeout               pre-vote won            vote won
 *   follower ───────────▶ preCandidate ────────────▶ candidate ─────────▶ leader
 *      ▲  │                │  ▲                       │  │                  │
 *      │  └─ timeoutNow ───┼──┼──────────────────────▶│  │                  │
 *      │                   │  └─────── timeout ───────┘  │                  │
 *      └───────────────────┴──── higher term, lost, leader of the term, ────┘
 *                                quorum lost, removed
 * ```
 */

import assert from 'node:assert/strict';

import { Campaign } from './campaign.ts';
import { ElectionTimer } from './election-timer.ts';
import type { Log } from './log.ts';
import type {
  Configuration,
  Entry,
  HardState,
  Message,
  NodeId,
  RequestVote,
  RequestVoteResponse,
  Role,
  SnapshotMetadata,
} from './message.ts';
import type { Outbox } from './outbox.ts';
import { Quorum } from './quorum.ts';

type Recovered = {
  readonly hardState: HardState;
  readonly snapshot: SnapshotMetadata;
  readonly entries: readonly Entry[];
};

/**
 * Invariants:
 * - `currentTerm` never decreases, and `votedFor` is set at most once in a term.
 * - Within a term `leaderId` is set at most to one server.
 * - `campaign` is present exactly in the roles `preCandidate` and `candidate`.
 * - A candidate's own vote counts only when it is durable, as every other vote does.
 */
export class Election {
  readonly #id: NodeId;
  readonly #log: Log;
  readonly #outbox: Outbox;
  readonly #timer: ElectionTimer;
  readonly #electionTicks: number;
  #currentTerm: number;
  #votedFor: NodeId | null;
  #role: Role = 'follower';
  #leaderId: NodeId | null = null;
  #quorum: Quorum;
  #campaign: Campaign | undefined;
  readonly #areLeasesInUse: boolean;
  /**
   * With leases: so long a leader that was answered may count on this server to refuse its vote,
   * whatever term it has learned of since. So also after a start, which forgets who was answered.
   */
  #promisedTicks: number;

  constructor(
    options: Recovered & {
      readonly id: NodeId;
      readonly electionTicks: number;
      readonly leaseMs: number;
      readonly random: () => number;
      readonly configuration: Configuration;
    },
    ground: { readonly log: Log; readonly outbox: Outbox },
  ) {
    this.#id = options.id;
    this.#log = ground.log;
    this.#outbox = ground.outbox;
    this.#timer = new ElectionTimer(options.electionTicks, options.random);
    const { currentTerm, votedFor } = recoverTerm(options);
    this.#currentTerm = currentTerm;
    this.#votedFor = votedFor;
    this.#quorum = new Quorum(options.configuration);
    this.#areLeasesInUse = options.leaseMs > 0;
    this.#electionTicks = options.electionTicks;
    // Who has yet to join may have answered a leader, too, and lost the term with the answer's crash.
    const isFounding = currentTerm === 0 && options.configuration.servers.length > 0;
    this.#promisedTicks = isFounding ? 0 : this.#promiseTicks();
  }

  get currentTerm(): number {
    return this.#currentTerm;
  }

  get votedFor(): NodeId | null {
    return this.#votedFor;
  }

  get role(): Role {
    return this.#role;
  }

  get leaderId(): NodeId | null {
    return this.#leaderId;
  }

  applyConfiguration(configuration: Configuration): void {
    this.#quorum = new Quorum(configuration);
  }

  tick(): void {
    assert(this.#role !== 'leader');
    this.#promisedTicks = Math.max(0, this.#promisedTicks - 1);
    if (!this.#timer.tick()) return;
    // Also for a server that may not stand: it must not keep its vote from those who may.
    this.#leaderId = null;
    this.stand();
  }

  /**
   * Stands without waiting for the timeout. With leases that is not for who has answered a leader
   * of late: it would be its own vote in spite of the lease.
   */
  campaign(): void {
    if (this.#areLeasesInUse && this.#isWithinLease()) return;
    this.stand();
  }

  /** Begins a pre-vote, if this server may lead. */
  stand(): void {
    if (this.#role !== 'leader' && this.#isPromotable()) this.#becomePreCandidate();
  }

  /**
   * With a committed configuration still to be applied, this server would count the votes of a
   * quorum that is two changes old before the next one is committed.
   */
  #isPromotable(): boolean {
    return (
      this.#quorum.includes(this.#id) &&
      !this.#log.isInstallingSnapshot &&
      !this.#log.hasUnappliedConfiguration()
    );
  }

  /**
   * Compares terms before anything else is done with a message (Raft §5.1). Returns false if that
   * is all there is to do.
   */
  admit(message: Message): boolean {
    if (this.#currentTerm < message.term) {
      if (message.kind === 'requestVote' && this.#isRefusedByLease(message)) return false;
      if (!isOfTermToCome(message)) {
        this.#becomeFollower(message.term, isFromLeader(message) ? message.from : null);
      }
    } else if (message.term < this.#currentTerm) {
      this.#answerOldTerm(message);
      return false;
    } else if (isFromLeader(message)) {
      this.#hearLeader(message.from);
    }
    if (isFromLeader(message)) this.#promisedTicks = this.#promiseTicks();
    return true;
  }

  #promiseTicks(): number {
    return this.#areLeasesInUse ? this.#electionTicks : 0;
  }

  /** A server that hears its leader lets nobody disturb it, but whom the leader sends. */
  #isRefusedByLease(message: RequestVote): boolean {
    if (message.isTransfer) return false;
    // A leader has its own check for a live quorum, and knows itself to be alive until then.
    return this.#role === 'leader' || this.#isWithinLease();
  }

  #isWithinLease(): boolean {
    if (this.#promisedTicks > 0) return true;
    return this.#leaderId !== null && this.#timer.isWithinLease;
  }

  #hearLeader(from: NodeId): void {
    assert(this.#role !== 'leader', 'two leaders in one term');
    assert(this.#leaderId === null || this.#leaderId === from, 'two leaders in one term');
    if (this.#role !== 'follower') this.#becomeFollower(this.#currentTerm, from);
    this.#leaderId = from;
    this.#timer.restart();
  }

  /**
   * Tells the term to the leader of an old one, or to whom asks for votes in one. Within the lease
   * nobody hears the requests of a server with a higher term: if the leader did not learn the term
   * by this answer, that server could never be led again.
   */
  #answerOldTerm(message: Message): void {
    if (message.kind === 'requestVote') {
      this.#refuseVote(message);
    } else if (isFromLeader(message) && message.kind !== 'timeoutNow') {
      this.#outbox.send({
        kind: 'appendEntriesResponse',
        from: this.#id,
        to: message.from,
        term: this.#currentTerm,
        success: false,
        matchIndex: 0,
        rejectedIndex: 0,
        hintIndex: 0,
        hintTerm: 0,
        appliedIndex: this.#log.appliedIndex,
      });
    }
  }

  onRequestVote(message: RequestVote): void {
    const { from, term, isPreVote } = message;
    const header = { from: this.#id, to: from, isPreVote };
    if (!this.#grantsVote(message)) {
      this.#refuseVote(message);
    } else if (isPreVote) {
      this.#outbox.send({ kind: 'requestVoteResponse', ...header, term, voteGranted: true });
    } else {
      this.#votedFor = from;
      this.#timer.restart();
      this.#outbox.sendAfterAppend({
        kind: 'requestVoteResponse',
        ...header,
        term,
        voteGranted: true,
      });
    }
  }

  #refuseVote({ from, isPreVote }: RequestVote): void {
    const index = this.#log.commitIndex;
    const term = this.#log.termAt(index);
    assert(term !== undefined);
    this.#outbox.send({
      kind: 'requestVoteResponse',
      from: this.#id,
      to: from,
      term: this.#currentTerm,
      isPreVote,
      voteGranted: false,
      committed: { index, term },
    });
  }

  /**
   * The candidate's log must hold all that is committed, and in its term this server must not have
   * voted for, or heard of, another; nor may a lease rest on its refusal. A pre-vote asks about a
   * term to come and promises nothing. A learner votes like any other: it may have been promoted
   * without knowing it yet.
   */
  #grantsVote(message: RequestVote): boolean {
    assert(this.#currentTerm <= message.term);
    if (this.#promisedTicks > 0 && !message.isTransfer) return false;
    const isFree =
      this.#votedFor === message.from ||
      (this.#votedFor === null && this.#leaderId === null) ||
      (message.isPreVote && this.#currentTerm < message.term);
    return isFree && this.#log.isUpToDate(message);
  }

  onRequestVoteResponse(message: RequestVoteResponse): void {
    const { committed } = message;
    if (committed && this.#role !== 'leader' && this.#log.holds(committed.index, committed.term)) {
      this.#log.commitTo(committed.index);
    }
    if (this.#campaign === undefined || message.isPreVote !== this.#campaign.isPreVote) return;
    const isOfThisRound =
      message.isPreVote && message.voteGranted
        ? message.term === this.#currentTerm + 1
        : message.term === this.#currentTerm;
    if (isOfThisRound) this.#recordVote(message.from, message.voteGranted);
  }

  /** The leader hands over: no pre-vote, and no refusal by lease, stands between. */
  onTimeoutNow(): void {
    if (this.#role === 'follower' && this.#isPromotable()) {
      this.#becomeCandidate({ isTransfer: true });
    }
  }

  beginWrite(appendToken: number): void {
    this.#campaign?.beginWrite(appendToken);
  }

  endWrite(appendToken: number): void {
    if (this.#campaign?.isPreVote === false && this.#campaign.isOwnVoteDurable(appendToken))
      this.#recordVote(this.#id, true);
  }

  #recordVote(voter: NodeId, voteGranted: boolean): void {
    assert(this.#campaign !== undefined);
    const { isPreVote } = this.#campaign;
    const outcome = this.#campaign.record(voter, voteGranted);
    if (outcome === 'lost') this.stepDown();
    if (outcome === 'won' && isPreVote) this.#becomeCandidate({ isTransfer: false });
    if (outcome === 'won' && !isPreVote) this.#becomeLeader();
  }

  /** Gives up leading or standing, within the term. */
  stepDown(): void {
    assert(this.#role !== 'follower');
    this.#becomeFollower(this.#currentTerm, null);
  }

  #becomeFollower(term: number, leaderId: NodeId | null): void {
    assert(this.#currentTerm <= term);
    if (this.#currentTerm < term) this.#votedFor = null;
    this.#currentTerm = term;
    this.#role = 'follower';
    this.#leaderId = leaderId;
    this.#campaign = undefined;
    this.#timer.redraw();
  }

  /** Changes neither term nor vote: it asks whether an election could be won. */
  #becomePreCandidate(): void {
    this.#role = 'preCandidate';
    this.#leaderId = null;
    this.#campaign = new Campaign({ isPreVote: true, quorum: this.#quorum });
    this.#timer.redraw();
    this.#requestVotes({ term: this.#currentTerm + 1, isPreVote: true, isTransfer: false });
    this.#recordVote(this.#id, true);
  }

  #becomeCandidate({ isTransfer }: { readonly isTransfer: boolean }): void {
    this.#currentTerm += 1;
    this.#votedFor = this.#id;
    this.#role = 'candidate';
    this.#leaderId = null;
    this.#campaign = new Campaign({ isPreVote: false, quorum: this.#quorum });
    this.#timer.redraw();
    this.#requestVotes({ term: this.#currentTerm, isPreVote: false, isTransfer });
  }

  #becomeLeader(): void {
    assert(this.#role === 'candidate');
    assert(this.#votedFor === this.#id);
    this.#role = 'leader';
    this.#leaderId = this.#id;
    this.#campaign = undefined;
    this.#promisedTicks = 0;
  }

  /** A real request waits for the disk: it names the end of a log that a crash may still shorten. */
  #requestVotes(request: Pick<RequestVote, 'term' | 'isPreVote' | 'isTransfer'>): void {
    for (const to of this.#quorum.voters) {
      if (to === this.#id) continue;
      const message: RequestVote = {
        kind: 'requestVote',
        from: this.#id,
        to,
        lastLogIndex: this.#log.lastIndex,
        lastLogTerm: this.#log.lastTerm,
        ...request,
      };
      if (request.isPreVote) this.#outbox.send(message);
      else this.#outbox.sendAfterAppend(message);
    }
  }
}

function isFromLeader(message: Message): boolean {
  switch (message.kind) {
    case 'appendEntries':
    case 'heartbeat':
    case 'installSnapshot':
    case 'timeoutNow':
      return true;
    default:
      return false;
  }
}

/** A pre-vote and its consent name a term that nobody has begun. */
function isOfTermToCome(message: Message): boolean {
  return (
    (message.kind === 'requestVote' && message.isPreVote) ||
    (message.kind === 'requestVoteResponse' && message.isPreVote && message.voteGranted)
  );
}

/**
 * A crash may have kept the state of a snapshot and lost the term in which it came. No vote of
 * that term can be lost with it: a vote is durable before anyone hears of it. Entries, though,
 * follow their term to the disk, so that a term below theirs is a lost hard state.
 */
function recoverTerm({ hardState, snapshot, entries }: Recovered): HardState {
  const lastTerm = entries.at(-1)?.term ?? 0;
  assert(lastTerm <= hardState.currentTerm, 'the log is ahead of its hard state');
  if (snapshot.lastIncludedTerm <= hardState.currentTerm) return hardState;
  return { ...hardState, currentTerm: snapshot.lastIncludedTerm, votedFor: null };
}
