import { describe, expect, test } from 'vitest';

import { quorumIndex, quorumSize, tallyVotes } from './quorum.ts';

test.each([
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 3],
  [5, 3],
  [6, 4],
  [7, 4],
])('of %i voters, %i are a quorum', (voterCount, size) => {
  expect(quorumSize(voterCount)).toBe(size);
});

test.each([
  { held: [5], index: 5 },
  { held: [5, 3], index: 3 },
  { held: [1, 9, 5], index: 5 },
  { held: [9, 1, 5], index: 5 },
  { held: [0, 0, 7], index: 0 },
  { held: [2, 4, 6, 8], index: 4 },
  { held: [100, 20, 3, 9, 10], index: 10 },
])('a majority of $held holds $index', ({ held, index }) => {
  expect(quorumIndex(held)).toBe(index);
});

describe('tallyVotes()', () => {
  const voters = ['a', 'b', 'c', 'd'];
  test.each([
    { granted: '', refused: '', outcome: 'pending' },
    { granted: 'ab', refused: '', outcome: 'pending' },
    { granted: 'ab', refused: 'c', outcome: 'pending' },
    { granted: 'abc', refused: '', outcome: 'won' },
    { granted: 'abc', refused: 'd', outcome: 'won' },
    { granted: 'a', refused: 'bc', outcome: 'lost' },
    { granted: 'ab', refused: 'cd', outcome: 'lost' },
    // Strangers and learners are not counted.
    { granted: 'abxyz', refused: '', outcome: 'pending' },
    { granted: 'abc', refused: 'xyz', outcome: 'won' },
  ])('is $outcome with "$granted" against "$refused"', ({ granted, refused, outcome }) => {
    const votes = new Map<string, boolean>();
    for (const id of granted) votes.set(id, true);
    for (const id of refused) votes.set(id, false);
    expect(tallyVotes(voters, votes)).toBe(outcome);
  });
});
