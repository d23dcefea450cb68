import type { NodeId } from './message.ts';
import type { Quorum } from './quorum.ts';

/** One server's bid for a term, or in a pre-vote for the chance to make one. */
export class Campaign {
  readonly isPreVote: boolean;
  readonly #quorum: Quorum;
  readonly #votes = new Map<NodeId, boolean>();
  /** The write that makes the candidate's vote for itself durable; 0 until it is handed out. */
  #ownVoteToken = 0;

  constructor(options: { readonly isPreVote: boolean; readonly quorum: Quorum }) {
    this.isPreVote = options.isPreVote;
    this.#quorum = options.quorum;
  }

  /** Returns how the campaign stands. The first vote of a server counts. */
  record(voter: NodeId, voteGranted: boolean): 'won' | 'lost' | 'pending' {
    if (!this.#votes.has(voter)) this.#votes.set(voter, voteGranted);
    return this.#quorum.tally(this.#votes);
  }

  beginWrite(token: number): void {
    if (this.#ownVoteToken === 0) this.#ownVoteToken = token;
  }

  isOwnVoteDurable(tokenDone: number): boolean {
    return this.#ownVoteToken !== 0 && this.#ownVoteToken <= tokenDone;
  }
}
