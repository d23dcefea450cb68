/**
 * The receiving side of replication: how a log becomes the leader's, and how far the leader's
 * commit index may be believed.
 */

import assert from 'node:assert/strict';

import type {
  AppendEntries,
  AppendEntriesResponse,
  Heartbeat,
  InstallSnapshot,
  Message,
} from './message.ts';
import type { Log } from './log.ts';

/** The answer to an append or a snapshot; a success waits until all that it claims is durable. */
export type AppendAnswer =
  | { readonly success: true; readonly matchIndex: number }
  | {
      readonly success: false;
      readonly rejectedIndex: number;
      readonly hintIndex: number;
      readonly hintTerm: number;
    };

/**
 * What a server learns from the leader of one term; dropped when the term ends.
 *
 * Invariants:
 * - Up to `matchedIndex` the log equals the leader's, and nothing is removed there in this term.
 * - `leaderCommit` may lie beyond `matchedIndex`, even beyond the log: messages overtake each
 *   other, so it is kept until the entries arrive: `min(leaderCommit, matchedIndex) <= commitIndex`.
 */
export class Follower {
  readonly term: number;
  readonly #log: Log;
  #matchedIndex: number;
  #leaderCommit = 0;

  constructor(log: Log, term: number) {
    this.term = term;
    this.#log = log;
    // Every leader to come holds what is committed (Raft §5.4.3).
    this.#matchedIndex = log.commitIndex;
  }

  acceptEntries(message: AppendEntries): AppendAnswer {
    const { prevLogIndex, prevLogTerm, entries } = message;
    assert(
      entries.every((entry, position) => entry.index === prevLogIndex + 1 + position),
      'appendEntries with a gap',
    );
    this.#leaderCommit = Math.max(this.#leaderCommit, message.leaderCommit);

    if (prevLogIndex < this.#log.commitIndex) return this.#match(this.#log.commitIndex);
    if (!this.#log.holds(prevLogIndex, prevLogTerm)) return this.#refuse(message);

    this.#log.splice(entries);
    return this.#match(prevLogIndex + entries.length);
  }

  response(answer: AppendAnswer, ends: Pick<Message, 'from' | 'to'>): AppendEntriesResponse {
    return {
      kind: 'appendEntriesResponse',
      ...ends,
      term: this.term,
      matchIndex: 0,
      rejectedIndex: 0,
      hintIndex: 0,
      hintTerm: 0,
      appliedIndex: this.#log.appliedIndex,
      ...answer,
    };
  }

  /** A heartbeat names only what this server has acknowledged in this term. */
  acceptHeartbeat(message: Heartbeat): void {
    assert(message.leaderCommit <= this.#log.lastIndex, 'heartbeat commits what is not held');
    this.#leaderCommit = Math.max(this.#leaderCommit, message.leaderCommit);
    this.#match(message.leaderCommit);
  }

  /** Returns whether the snapshot must replace the log (Raft §7, figure 13). */
  acceptSnapshot({ snapshot }: InstallSnapshot): { restored: boolean; answer: AppendAnswer } {
    const { lastIncludedIndex, lastIncludedTerm } = snapshot;
    if (lastIncludedIndex <= this.#log.commitIndex) {
      return { restored: false, answer: this.#match(this.#log.commitIndex) };
    }
    const restored = !this.#log.holds(lastIncludedIndex, lastIncludedTerm);
    if (restored) this.#log.restore(snapshot);
    this.#leaderCommit = Math.max(this.#leaderCommit, lastIncludedIndex);
    return { restored, answer: this.#match(lastIncludedIndex) };
  }

  #match(index: number): AppendAnswer {
    this.#matchedIndex = Math.max(this.#matchedIndex, index, this.#log.commitIndex);
    assert(this.#matchedIndex <= this.#log.lastIndex, 'the leader removed from its log');
    this.#log.commitTo(Math.min(this.#leaderCommit, this.#matchedIndex));
    return { success: true, matchIndex: this.#matchedIndex };
  }

  /**
   * The hint skips whole terms: no index above it can agree, because from there on this log has
   * later terms than the leader's at `prevLogIndex` (Raft §5.3, end).
   */
  #refuse({ prevLogIndex, prevLogTerm }: AppendEntries): AppendAnswer {
    const hintIndex = this.#log.lastIndexWithTermAtMost(prevLogIndex, prevLogTerm);
    assert(this.#log.commitIndex <= hintIndex, 'the leader refutes what is committed');
    const hintTerm = this.#log.termAt(hintIndex);
    assert(hintTerm !== undefined);
    return { success: false, rejectedIndex: prevLogIndex, hintIndex, hintTerm };
  }
}
