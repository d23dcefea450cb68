/**
 * A leader's heartbeats, numbered, and what the answers to them prove: when a quorum has answered
 * round `r`, no later leader can have been elected before round `r` was sent, because each election
 * needs one of those who answered, and it still followed this leader then (thesis §6.4).
 *
 * Acknowledgements are the highest round that each server has answered, so an answer that is lost
 * or late is made good by any later one, and nothing a caller chooses is a key (etcd-io/raft 397).
 */

import assert from 'node:assert/strict';

import type { NodeId } from './message.ts';

/** Unconfirmed rounds whose time is kept. Beyond it the oldest time is given up, not the round. */
const SENT_MAX = 256;

/**
 * Invariants:
 * - `confirmed <= last`, and neither goes back.
 * - `sent` holds rounds in `(confirmed, last]`, ascending, and so do their times.
 */
export class HeartbeatRounds {
  #last = 0;
  #confirmed = 0;
  /** No later than when the last confirmed round was sent; -Infinity if that may not be relied on. */
  #confirmedSentMs = -Infinity;
  #sent: { readonly round: number; readonly sentMs: number }[] = [];
  readonly #answered = new Map<NodeId, number>();

  get last(): number {
    return this.#last;
  }

  get confirmed(): number {
    return this.#confirmed;
  }

  get confirmedSentMs(): number {
    return this.#confirmedSentMs;
  }

  /** The time is that at which the round is sent, or earlier: never that of an answer. */
  begin(nowMs: number): number {
    this.#last += 1;
    this.#sent.push({ round: this.#last, sentMs: nowMs });
    if (SENT_MAX < this.#sent.length) this.#sent.shift();
    return this.#last;
  }

  answer(from: NodeId, round: number): void {
    assert(round <= this.#last, 'an answer to a heartbeat that was never sent');
    this.#answered.set(from, Math.max(round, this.answeredBy(from)));
  }

  answeredBy(id: NodeId): number {
    return this.#answered.get(id) ?? 0;
  }

  /** `round` is the highest that a quorum has answered. Returns whether that is news. */
  confirm(round: number): boolean {
    assert(round <= this.#last);
    if (round <= this.#confirmed) return false;
    this.#confirmed = round;
    for (;;) {
      const oldest = this.#sent[0];
      if (oldest === undefined || round < oldest.round) return true;
      this.#confirmedSentMs = oldest.sentMs;
      this.#sent.shift();
    }
  }

  /** What was sent until now proves no time any more; that it was answered stays true. */
  forgetTimes(): void {
    this.#sent = [];
    this.#confirmedSentMs = -Infinity;
  }
}
