/**
 * The leader's side of linearizable reads (thesis §6.4): to whom asks it gives its commit index,
 * once a quorum has shown that it still led when it was asked. A state that has applied this index
 * holds everything that was acknowledged before.
 *
 * ```
 *   asked ──▶ own-term commit? ──▶ (commit index, next round) ──▶ a quorum answered ──▶ confirmed
 *              no: wait for it       in order of arrival
 * ```
 *
 * - The index is taken when the question arrives, and the proof is a heartbeat round that begins
 *   afterwards. Questions of one `Ready` share a round.
 * - A question is a proof, too: who asks in this term had voted in no later one when it asked, which
 *   was after whatever it asks for. Where asker and leader are a quorum, in a cluster of three as a
 *   rule, no round is needed. (It says nothing of when the asker last refused its vote to others, so
 *   no lease and no freshness rests on it.)
 * - Before the first commit of its term, a leader does not know what its predecessors have
 *   committed (Raft §8), so questions wait. A leader of itself alone needs that commit, too.
 * - The quorum is that of the configuration in force, and asked again when it changes: a smaller
 *   one may have answered already.
 *
 * Two more things rest on the same rounds. With a lease (thesis §6.4.1) a question is answered at
 * once while the last confirmed round was sent less than `leaseMs` ago: those who answered refuse
 * their votes for longer than that. And an answer to a heartbeat is told how new it was
 * (`Heartbeat.freshRound`), from which a follower knows how old its state can be at most.
 */

import { HeartbeatRounds } from './heartbeat-rounds.ts';
import type { Log } from './log.ts';
import type { NodeId } from './message.ts';
import type { Outbox } from './outbox.ts';
import type { Reads } from './reads.ts';

/** One server asks one question at a time; this many mean that something repeats without end. */
export const QUESTIONS_MAX = 1_024;
/** Answers of one server that a later round has not confirmed yet; more tell nothing more. */
const ANSWERS_MAX = 8;

type Question = { readonly from: NodeId; readonly id: number };
type Unconfirmed = { readonly question: Question; readonly index: number; readonly round: number };

/** An answer whose news waits for `confirmedBy`: the commit index when it arrived. */
type Answer = { readonly round: number; readonly index: number; readonly confirmedBy: number };
export type Fresh = { readonly freshRound: number; readonly freshIndex: number };

const NOT_FRESH: Fresh = { freshRound: 0, freshIndex: 0 };

/**
 * Invariants:
 * - `#early` is empty once an entry of this term is committed.
 * - In `#unconfirmed`, indexes and rounds never decrease, and every round is above the confirmed.
 */
export class ReadIndex {
  readonly #id: NodeId;
  readonly #term: number;
  readonly #log: Log;
  readonly #outbox: Outbox;
  readonly #reads: Reads;
  readonly #leaseMs: number;
  readonly #isQuorum: (holds: (voter: NodeId) => boolean) => boolean;
  readonly #rounds = new HeartbeatRounds();
  #early: Question[] = [];
  #unconfirmed: Unconfirmed[] = [];
  readonly #answers = new Map<NodeId, Answer[]>();
  #isLeaseForbidden = false;

  constructor(
    options: { readonly id: NodeId; readonly leaseMs: number },
    ground: {
      readonly term: number;
      readonly log: Log;
      readonly outbox: Outbox;
      readonly reads: Reads;
      /** Whether those for whom `holds` is true are a quorum of the configuration in force. */
      isQuorum(holds: (voter: NodeId) => boolean): boolean;
    },
  ) {
    this.#id = options.id;
    this.#isQuorum = (holds) => ground.isQuorum(holds);
    this.#leaseMs = options.leaseMs;
    this.#term = ground.term;
    this.#log = ground.log;
    this.#outbox = ground.outbox;
    this.#reads = ground.reads;
  }

  /** Whether a question waits for a round that has not begun. */
  get isRoundDue(): boolean {
    const newest = this.#unconfirmed.at(-1);
    return newest !== undefined && this.#rounds.last < newest.round;
  }

  ask(question: Question): void {
    if (QUESTIONS_MAX <= this.#early.length + this.#unconfirmed.length) {
      this.#refuse(question);
    } else if (!this.#isTermCommitted()) {
      this.#early.push(question);
    } else {
      this.#take(question);
    }
  }

  #isTermCommitted(): boolean {
    return this.#log.holds(this.#log.commitIndex, this.#term);
  }

  #take(question: Question): void {
    const index = this.#log.commitIndex;
    const proves = (voter: NodeId): boolean => voter === this.#id || voter === question.from;
    const isProved = question.from !== this.#id && this.#isQuorum(proves);
    if (isProved || this.hasLease) this.#confirm(question, index);
    else this.#unconfirmed.push({ question, index, round: this.#rounds.last + 1 });
  }

  onCommit(): void {
    if (this.#early.length === 0 || !this.#isTermCommitted()) return;
    const early = this.#early;
    this.#early = [];
    for (const question of early) this.#take(question);
  }

  beginRound(): number {
    return this.#rounds.begin(this.#reads.nowMs);
  }

  /** The last round that `id` has answered; this leader answers its own at once. */
  roundOf(id: NodeId): number {
    return id === this.#id ? this.#rounds.last : this.#rounds.answeredBy(id);
  }

  onAnswer(from: NodeId, round: number): void {
    this.#rounds.answer(from, round);
    const answers = this.#answers.get(from) ?? [];
    if (!this.#isTermCommitted() || ANSWERS_MAX <= answers.length) return;
    const confirmedBy = this.hasLease ? this.#rounds.confirmed : this.#rounds.last + 1;
    answers.push({ round, index: this.#log.commitIndex, confirmedBy });
    this.#answers.set(from, answers);
  }

  /** `round` is the highest that a quorum of the configuration in force has answered. */
  advance(round: number): void {
    if (!this.#rounds.confirm(round)) return;
    while (this.#unconfirmed[0] !== undefined && this.#unconfirmed[0].round <= round) {
      const { question, index } = this.#unconfirmed[0];
      this.#unconfirmed.shift();
      this.#confirm(question, index);
    }
    if (!this.#isTermCommitted()) return;
    this.#reads.refresh({ asOfMs: this.#rounds.confirmedSentMs, index: this.#log.commitIndex });
  }

  /** What the next heartbeat may tell `to` of its own answer. */
  takeFresh(to: NodeId): Fresh {
    const answers = this.#answers.get(to) ?? [];
    const position = answers.findLastIndex((each) => each.confirmedBy <= this.#rounds.confirmed);
    const answer = answers[position];
    if (answer === undefined) return NOT_FRESH;
    answers.splice(0, position + 1);
    return { freshRound: answer.round, freshIndex: answer.index };
  }

  get hasLease(): boolean {
    if (this.#leaseMs === 0 || this.#isLeaseForbidden) return false;
    return this.#reads.nowMs < this.#rounds.confirmedSentMs + this.#leaseMs;
  }

  /** Counts a lease from later rounds only: time may not have passed as the clock has it. */
  dropLease(): void {
    this.#rounds.forgetTimes();
  }

  /** A server that was told to campaign may do so at any time, however late it hears of it. */
  forbidLease(): void {
    this.#isLeaseForbidden = true;
  }

  #confirm({ from, id }: Question, index: number): void {
    if (from === this.#id) this.#reads.confirm(id, index);
    else this.#respond({ from, id }, { success: true, index });
  }

  #refuse(question: Question): void {
    if (question.from === this.#id) this.#reads.fail(question.id);
    else this.#respond(question, { success: false, index: 0 });
  }

  #respond({ from: to, id }: Question, answer: { success: boolean; index: number }): void {
    this.#outbox.send({
      kind: 'readIndexResponse',
      from: this.#id,
      to,
      term: this.#term,
      id,
      ...answer,
    });
  }

  /** The leadership has ended: nothing that it began to prove may be believed. */
  end(): void {
    for (const question of this.#early) this.#refuse(question);
    for (const { question } of this.#unconfirmed) this.#refuse(question);
    this.#early = [];
    this.#unconfirmed = [];
  }
}
