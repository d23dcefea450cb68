/** Majority arithmetic over the voters of one configuration. */

import assert from 'node:assert/strict';

import type { NodeId } from './message.ts';

/** The smallest number of voters of which two such sets always overlap. */
export function quorumSize(voterCount: number): number {
  assert(voterCount > 0);
  return Math.floor(voterCount / 2) + 1;
}

/** The highest index that a majority holds, given what each voter holds. */
export function quorumIndex(matchIndexes: readonly number[]): number {
  const descending = matchIndexes.toSorted((left, right) => right - left);
  const index = descending[quorumSize(descending.length) - 1];
  assert(index !== undefined);
  return index;
}

/** Votes of servers that are not voters do not count. */
export function tallyVotes(
  voters: readonly NodeId[],
  votes: ReadonlyMap<NodeId, boolean>,
): 'won' | 'lost' | 'pending' {
  const quorum = quorumSize(voters.length);
  let granted = 0;
  let refused = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === true) granted += 1;
    if (vote === false) refused += 1;
  }
  if (granted >= quorum) return 'won';
  return voters.length - refused < quorum ? 'lost' : 'pending';
}
