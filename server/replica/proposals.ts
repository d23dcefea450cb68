/**
 * Writes on their way through the log, and what their callers may be told.
 *
 * A proposal waits for the next turn, is taken by it, is in flight once raft gave it an index and a
 * term, and is settled exactly once:
 *
 * - its index was applied with its term: it was decided, and took effect unless its conditions
 *   say otherwise: resolve with the outcome;
 * - its index was applied with another term: another leader's entry stands there, so this one
 *   never will (Log Matching, Raft §5.3): `no-leader`, nothing happened;
 * - it was not accepted: `no-leader` or `overloaded`, nothing happened;
 * - leadership ended, and neither was seen in time, or the node stops: `outcome-unknown`. That holds
 *   for what was only taken, too: raft may run in another thread, and be about to say what it did.
 */

import assert from 'node:assert/strict';
import type { CommitOutcome } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { chunkCount } from '../storage/chunking.ts';
import { isRestore } from '../storage/restore-command.ts';
import type { Refusal } from './state-machine.ts';

export type Proposal = {
  readonly command: Uint8Array;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: Error) => void;
};

type InFlight = { readonly proposal: Proposal; readonly term: number; deadlineMs: number };

export type ProposalLimits = {
  /** Waiting, taken, and in flight together. */
  readonly proposalsMax: number;
  readonly entryBytesMax: number;
  readonly transactionBytesMax: number;
  /** As the driver splits commands: `CHUNK_BYTES` but in simulations. */
  readonly chunkBytes?: number;
  /** How long a deposed leader looks out for the fate of what it had proposed. */
  readonly fateTimeoutMs: number;
};

/** Commands that were too large for one entry, and the entries that they became. */
export type ChunkingStatistics = { readonly commands: number; readonly chunks: number };

/** What one call of `propose` carries at most, unless a single command is larger. */
const BATCH_BYTES_MAX = 1024 * 1024;

export class Proposals {
  readonly #limits: ProposalLimits;
  #waiting: Proposal[] = [];
  /** Batches of which raft has not said whether it accepts them, oldest first. */
  #taken: (readonly Proposal[])[] = [];
  #takenCount = 0;
  readonly #inFlight = new Map<number, InFlight>();
  #nextDeadlineMs = Infinity;
  /** While it is being decided whether another state takes the place of this one. */
  #isReplacing = false;
  #chunkedCommands = 0;
  #chunks = 0;

  constructor(limits: ProposalLimits) {
    this.#limits = limits;
  }

  count(): number {
    return this.#waiting.length + this.#takenCount + this.#inFlight.size;
  }

  chunking(): ChunkingStatistics {
    return { commands: this.#chunkedCommands, chunks: this.#chunks };
  }

  /** `operations` is how many are in a transaction; left out for a plain write. */
  submit(command: Uint8Array, operations?: number): Promise<CommitOutcome> {
    const { entryBytesMax, transactionBytesMax, proposalsMax } = this.#limits;
    const bytesMax = operations === undefined ? entryBytesMax : transactionBytesMax;
    if (bytesMax < command.length) {
      return Promise.reject(tooLargeError(command.length, bytesMax, operations));
    }
    if (proposalsMax <= this.count()) {
      return Promise.reject(new ServerError('overloaded', `${proposalsMax} writes are waiting`));
    }
    if (this.#isReplacing) {
      return Promise.reject(new ServerError('overloaded', 'the state is being replaced'));
    }
    const settled = new Promise<CommitOutcome>((resolve, reject) => {
      this.#waiting.push({ command, resolve, reject });
    });
    if (isRestore(command)) this.#replaceState(settled);
    return settled;
  }

  /**
   * Nothing gets behind a restore command into the log: it would have been made for the state that
   * is gone, with the keys and the mounts of that. Whoever leads next has applied the command
   * before it takes writes.
   */
  #replaceState(settled: Promise<CommitOutcome>): void {
    const end = (): void => {
      this.#isReplacing = false;
    };
    this.#isReplacing = true;
    settled.then(end, end);
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
    this.#taken.push(...batches);
    this.#takenCount += this.#waiting.length;
    this.#waiting = [];
    return batches;
  }

  refused(batch: readonly Proposal[], error: ServerError): void {
    this.#settle(batch);
    for (const proposal of batch) proposal.reject(error);
  }

  /** Also of a batch that did not wait here. */
  accepted(batch: readonly Proposal[], firstIndex: number, term: number): void {
    this.#settle(batch);
    let nextIndex = firstIndex;
    for (const proposal of batch) {
      // A command in chunks takes effect with the last one.
      const count = chunkCount(proposal.command, this.#limits.chunkBytes);
      nextIndex += count;
      if (count > 1) {
        this.#chunkedCommands += 1;
        this.#chunks += count;
      }
      const index = nextIndex - 1;
      const former = this.#inFlight.get(index);
      // This node led before, lost its entry, and leads again: the old entry is gone for good.
      assert(former === undefined || former.term < term, 'two proposals at one index and term');
      former?.proposal.reject(overwrittenError());
      this.#inFlight.set(index, { proposal, term, deadlineMs: Infinity });
    }
  }

  /** To be called for every entry that is applied, in the turn in which it becomes visible. */
  applied(index: number, term: number, refusal?: Refusal): void {
    const inFlight = this.#inFlight.get(index);
    if (inFlight === undefined) return;
    this.#inFlight.delete(index);
    const { resolve, reject } = inFlight.proposal;
    if (inFlight.term !== term) reject(overwrittenError());
    else resolve(refusal === undefined ? { kind: 'applied', index } : { kind: refusal });
  }

  /** An installed snapshot says nothing about what the entries below it were. */
  skippedTo(index: number): void {
    for (const [each, inFlight] of this.#inFlight) {
      if (each <= index) this.#abandon(each, inFlight, 'a snapshot replaced its entry');
    }
  }

  leadershipLost(nowMs: number): void {
    for (const inFlight of this.#inFlight.values()) {
      if (inFlight.deadlineMs !== Infinity) continue;
      inFlight.deadlineMs = nowMs + this.#limits.fateTimeoutMs;
      this.#nextDeadlineMs = Math.min(this.#nextDeadlineMs, inFlight.deadlineMs);
    }
  }

  expire(nowMs: number): void {
    if (nowMs < this.#nextDeadlineMs) return;
    this.#nextDeadlineMs = Infinity;
    for (const [index, inFlight] of this.#inFlight) {
      if (inFlight.deadlineMs <= nowMs) this.#abandon(index, inFlight, 'leadership was lost');
      else this.#nextDeadlineMs = Math.min(this.#nextDeadlineMs, inFlight.deadlineMs);
    }
  }

  /** Settles everything; `reason` completes the sentence about what was already in flight. */
  abandonAll(reason: string): void {
    for (const proposal of this.#waiting) proposal.reject(noLeaderError());
    this.#waiting = [];
    for (const batch of this.#taken) {
      for (const proposal of batch) proposal.reject(unknownError(reason));
    }
    this.#taken = [];
    this.#takenCount = 0;
    for (const [index, inFlight] of this.#inFlight) this.#abandon(index, inFlight, reason);
  }

  #settle(batch: readonly Proposal[]): void {
    const position = this.#taken.indexOf(batch);
    if (position === -1) return;
    this.#taken.splice(position, 1);
    this.#takenCount -= batch.length;
  }

  #abandon(index: number, { proposal }: InFlight, reason: string): void {
    this.#inFlight.delete(index);
    proposal.reject(unknownError(reason));
  }
}

export function noLeaderError(): ServerError {
  return new ServerError('no-leader', 'this node does not lead the cluster');
}

/** Nothing was proposed: the caller may try again when some of what waits is `done`. */
export function overloadedError(done: 'committed' | 'applied'): ServerError {
  return new ServerError('overloaded', `too many bytes wait to be ${done}`);
}

/** OpenBao's texts (internal/physical/raft/raft.go, physical.ErrValueTooLarge). */
function tooLargeError(bytes: number, max: number, operations: number | undefined): ServerError {
  const problem = `put failed due to value being too large; got ${bytes} bytes, max: ${max} bytes`;
  const extent = operations === undefined ? '' : `, ${operations} operations in transaction`;
  return new ServerError('too-large', problem + extent);
}

function unknownError(reason: string): ServerError {
  return new ServerError('outcome-unknown', `the outcome of the write is unknown: ${reason}`);
}

function overwrittenError(): ServerError {
  return new ServerError('no-leader', 'leadership was lost before the write was committed');
}
