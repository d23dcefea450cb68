/**
 * Who decides: a majority of the voters, in a joint configuration one of each half (thesis §4.3).
 * Whatever needs the consent of a quorum asks here: votes, the commit index, the leader's check
 * that it is not alone.
 */

import assert from 'node:assert/strict';

import type { Configuration, NodeId } from './message.ts';

/** The smallest number of voters of which two such sets always overlap. */
export function quorumSize(voterCount: number): number {
  assert(voterCount > 0);
  return Math.floor(voterCount / 2) + 1;
}

/**
 * Invariant: a half is empty only in the configuration of a server that has yet to join, of which
 * no decision is asked.
 */
export class Quorum {
  /** The voters of either half, each once. */
  readonly voters: readonly NodeId[];
  /** One, or in a joint configuration two: the incoming one, then the outgoing one. */
  readonly #halves: readonly (readonly NodeId[])[];

  constructor({ servers, joint }: Configuration) {
    const incoming = servers.filter(({ suffrage }) => suffrage === 'voter').map(({ id }) => id);
    this.#halves = joint === undefined ? [incoming] : [incoming, joint.votersOutgoing];
    this.voters = joint === undefined ? incoming : [...new Set(this.#halves.flat())];
  }

  includes(id: NodeId): boolean {
    return this.voters.includes(id);
  }

  /** The highest index that a quorum holds, given what each voter holds. */
  index(heldBy: (voter: NodeId) => number): number {
    let index = Infinity;
    for (const half of this.#halves) index = Math.min(index, majorityIndex(half.map(heldBy)));
    return index;
  }

  /** Whether those for whom `holds` is true are a quorum. */
  isMet(holds: (voter: NodeId) => boolean): boolean {
    return this.#halves.every((half) => quorumSize(half.length) <= half.filter(holds).length);
  }

  /** Votes of servers that are not voters do not count. */
  tally(votes: ReadonlyMap<NodeId, boolean>): 'won' | 'lost' | 'pending' {
    if (this.isMet((voter) => votes.get(voter) === true)) return 'won';
    return this.isMet((voter) => votes.get(voter) !== false) ? 'pending' : 'lost';
  }
}

function majorityIndex(held: number[]): number {
  held.sort((left, right) => right - left);
  const index = held[quorumSize(held.length) - 1];
  assert(index !== undefined);
  return index;
}
