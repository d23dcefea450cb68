/**
 * Writes on their way through the log, and what their callers may be told.
 *
 * A proposal waits for the next turn, is in flight once raft gave it an index and a term, and is
 * settled exactly once:
 *
 * - its index was applied with its term: it took effect, resolve with the index;
 * - its index was applied with another term: another leader's entry stands there, so this one
 *   never will (Log Matching, Raft §5.3): `no-leader`, nothing happened;
 * - it was not accepted: `no-leader` or `overloaded`, nothing happened;
 * - leadership ended, and neither was seen in time, or the node stops: `outcome-unknown`.
 */

import assert from 'node:assert/strict';
import { ServerError } from '../errors.ts';

export type Proposal = {
  readonly command: Uint8Array;
  readonly resolve: (index: number) => void;
  readonly reject: (error: Error) => void;
};

type InFlight = Proposal & { readonly term: number; deadlineMs: number };

export type ProposalLimits = {
  /** Waiting and in flight together. */
  readonly proposalsMax: number;
  readonly entryBytesMax: number;
  /** How long a deposed leader looks out for the fate of what it had proposed. */
  readonly fateTimeoutMs: number;
};

/** What one call of `propose` carries at most, unless a single command is larger. */
const BATCH_BYTES_MAX = 1024 * 1024;

export class Proposals {
  readonly #limits: ProposalLimits;
  #waiting: Proposal[] = [];
  readonly #inFlight = new Map<number, InFlight>();
  #nextDeadlineMs = Infinity;

  constructor(limits: ProposalLimits) {
    this.#limits = limits;
  }

  count(): number {
    return this.#waiting.length + this.#inFlight.size;
  }

  submit(command: Uint8Array): Promise<number> {
    const { entryBytesMax, proposalsMax } = this.#limits;
    if (entryBytesMax < command.length) {
      // OpenBao's text (internal/physical/raft, physical.ErrValueTooLarge).
      const problem = 'put failed due to value being too large';
      const message = `${problem}; got ${command.length} bytes, max: ${entryBytesMax} bytes`;
      return Promise.reject(new ServerError('too-large', message));
    }
    if (proposalsMax <= this.count()) {
      return Promise.reject(new ServerError('overloaded', `${proposalsMax} writes are waiting`));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ command, resolve, reject });
    });
  }

  /** Takes all that waits, in batches of bounded size. */
  takeBatches(): Proposal[][] {
    const batches: Proposal[][] = [];
    let bytes = Infinity;
    for (const proposal of this.#waiting) {
      bytes += proposal.command.length;
      if (bytes > BATCH_BYTES_MAX) {
        batches.push([]);
        bytes = proposal.command.length;
      }
      batches.at(-1)?.push(proposal);
    }
    this.#waiting = [];
    return batches;
  }

  accepted(batch: readonly Proposal[], firstIndex: number, term: number): void {
    for (const [offset, proposal] of batch.entries()) {
      const index = firstIndex + offset;
      const former = this.#inFlight.get(index);
      // This node led before, lost its entry, and leads again: the old entry is gone for good.
      assert(former === undefined || former.term < term, 'two proposals at one index and term');
      former?.reject(overwrittenError());
      this.#inFlight.set(index, { ...proposal, term, deadlineMs: Infinity });
    }
  }

  /** To be called for every entry that is applied, in the turn in which it becomes visible. */
  applied(index: number, term: number): void {
    const proposal = this.#inFlight.get(index);
    if (proposal === undefined) return;
    this.#inFlight.delete(index);
    if (proposal.term === term) proposal.resolve(index);
    else proposal.reject(overwrittenError());
  }

  /** An installed snapshot says nothing about what the entries below it were. */
  skippedTo(index: number): void {
    for (const [each, proposal] of this.#inFlight) {
      if (each <= index) this.#abandon(each, proposal, 'a snapshot replaced its entry');
    }
  }

  leadershipLost(nowMs: number): void {
    for (const proposal of this.#inFlight.values()) {
      if (proposal.deadlineMs !== Infinity) continue;
      proposal.deadlineMs = nowMs + this.#limits.fateTimeoutMs;
      this.#nextDeadlineMs = Math.min(this.#nextDeadlineMs, proposal.deadlineMs);
    }
  }

  expire(nowMs: number): void {
    if (nowMs < this.#nextDeadlineMs) return;
    this.#nextDeadlineMs = Infinity;
    for (const [index, proposal] of this.#inFlight) {
      if (proposal.deadlineMs <= nowMs) this.#abandon(index, proposal, 'leadership was lost');
      else this.#nextDeadlineMs = Math.min(this.#nextDeadlineMs, proposal.deadlineMs);
    }
  }

  /** Settles everything; `reason` completes the sentence about what was already in flight. */
  abandonAll(reason: string): void {
    for (const proposal of this.#waiting) proposal.reject(noLeaderError());
    this.#waiting = [];
    for (const [index, proposal] of this.#inFlight) this.#abandon(index, proposal, reason);
  }

  #abandon(index: number, proposal: InFlight, reason: string): void {
    this.#inFlight.delete(index);
    const message = `the outcome of the write is unknown: ${reason}`;
    proposal.reject(new ServerError('outcome-unknown', message));
  }
}

export function noLeaderError(): ServerError {
  return new ServerError('no-leader', 'this node does not lead the cluster');
}

function overwrittenError(): ServerError {
  return new ServerError('no-leader', 'leadership was lost before the write was committed');
}
