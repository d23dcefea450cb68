/**
 * What every server keeps for its reads, whoever leads: the questions that it has sent to the
 * leader, the time, and what there is to tell the driver.
 *
 * A question belongs to one leader and one term. When either changes all of them fail, and whoever
 * asked asks again under a new id: an answer to an old question can then never pass for one to a
 * new question (etcd #20418).
 */

import assert from 'node:assert/strict';

import type {
  Freshness,
  NodeId,
  ReadIndexRequest,
  ReadIndexResponse,
  ReadState,
} from './message.ts';
import type { Outbox } from './outbox.ts';

/** Heartbeats whose answering time is remembered, until the leader has said how new they were. */
const ANSWERS_MAX = 16;

/** As `QUESTIONS_MAX` of the leader. With more the oldest fails: its answer was lost on the way. */
export const FORWARDED_MAX = 1_024;

export class Reads {
  readonly #id: NodeId;
  readonly #outbox: Outbox;
  #nowMs = 0;
  #term = 0;
  #leaderId: NodeId | null = null;
  readonly #forwarded = new Set<number>();
  /** `lastRound` is beyond `round` only in the last one, once there is no room for more. */
  #answers: { readonly round: number; lastRound: number; readonly sentMs: number }[] = [];
  /** The last round of this term that was answered. */
  #answeredRound = 0;
  #readStates: ReadState[] = [];
  #freshness: Freshness | undefined;

  constructor(id: NodeId, outbox: Outbox) {
    this.#id = id;
    this.#outbox = outbox;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  advanceTime(nowMs: number): void {
    assert(this.#nowMs <= nowMs, 'time went back');
    this.#nowMs = nowMs;
  }

  /** The newest that is known of how new a state of some index is. */
  get freshness(): Freshness | undefined {
    return this.#freshness;
  }

  get isEmpty(): boolean {
    return this.#readStates.length === 0;
  }

  take(): readonly ReadState[] {
    const taken = this.#readStates;
    if (taken.length > 0) this.#readStates = [];
    return taken;
  }

  /** Whom this server follows, or that it follows nobody. To be told after all that may change it. */
  follow(term: number, leaderId: NodeId | null): void {
    if (term === this.#term && leaderId === this.#leaderId) return;
    if (term !== this.#term) this.#answeredRound = 0;
    this.#term = term;
    this.#leaderId = leaderId;
    this.#answers = [];
    for (const id of this.#forwarded) this.fail(id);
    this.#forwarded.clear();
  }

  /** Asks the leader, of which there must be one or the question fails. */
  forward(id: number): void {
    const to = this.#leaderId;
    assert(to !== this.#id, 'a leader asks nobody');
    assert(!this.#forwarded.has(id), 'every question has an id of its own');
    if (to === null) {
      this.fail(id);
      return;
    }
    const [oldest] = this.#forwarded;
    if (oldest !== undefined && FORWARDED_MAX <= this.#forwarded.size) {
      this.#forwarded.delete(oldest);
      this.fail(oldest);
    }
    this.#forwarded.add(id);
    this.#outbox.send({ kind: 'readIndex', from: this.#id, to, term: this.#term, id });
  }

  /** Somebody takes this server for a leader. */
  refuse({ from: to, id }: ReadIndexRequest): void {
    const header = { kind: 'readIndexResponse', from: this.#id, to, term: this.#term } as const;
    this.#outbox.send({ ...header, id, success: false, index: 0 });
  }

  onResponse({ from, id, success, index }: ReadIndexResponse): void {
    if (from !== this.#leaderId || !this.#forwarded.delete(id)) return;
    if (success) this.confirm(id, index);
    else this.fail(id);
  }

  confirm(id: number, index: number): void {
    this.#readStates.push({ kind: 'confirmed', id, index });
  }

  fail(id: number): void {
    this.#readStates.push({ kind: 'failed', id });
  }

  /** A heartbeat is about to be answered. */
  answerRound(round: number): void {
    // A heartbeat that comes once more is old: the leader's answer is about the first one.
    if (round <= this.#answeredRound) return;
    this.#answeredRound = round;
    const last = this.#answers.at(-1);
    // What is known of an earlier answer holds for a later one, too.
    if (last !== undefined && ANSWERS_MAX <= this.#answers.length) last.lastRound = round;
    else this.#answers.push({ round, lastRound: round, sentMs: this.#nowMs });
  }

  /**
   * The leader had committed `index` when the answer to `round` reached it, and led then. So
   * whatever was committed before that answer left lies at or below `index`.
   */
  onFresh(round: number, index: number): void {
    // Only this process's own answer: one that it gave late to an earlier round was not meant.
    const named = this.#answers.find((each) => each.round <= round && round <= each.lastRound);
    this.#answers = this.#answers.filter((each) => round < each.lastRound);
    if (named === undefined) return;
    this.refresh({ asOfMs: named.sentMs, index });
  }

  refresh(freshness: Freshness): void {
    if (freshness.asOfMs <= (this.#freshness?.asOfMs ?? -Infinity)) return;
    this.#freshness = freshness;
  }
}
