import { describe, expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { recover } from './recovery.ts';

const configuration = { servers: [] };

/** A log that begins after `index` of `term`, with one entry for each further term named. */
function logOf(index: number, term: number, terms: readonly number[]) {
  const entries = terms.map((each, offset): Entry => ({
    index: index + 1 + offset,
    term: each,
    kind: 'noop',
    command: Buffer.alloc(0),
  }));
  const hardState = { currentTerm: 5, votedFor: 'n1', commitIndex: 1 };
  return { hardState, snapshot: { index, term }, entries };
}

function positionOf(lastIncludedIndex: number, lastIncludedTerm: number) {
  return { lastIncludedIndex, lastIncludedTerm, configuration };
}

describe('log and store as one crash or another leaves them', () => {
  test.each([
    { name: 'fresh', log: logOf(0, 0, []), position: positionOf(0, 0) },
    { name: 'store behind', log: logOf(0, 0, [1, 1, 2]), position: positionOf(2, 1) },
    { name: 'store at the end', log: logOf(3, 1, [2]), position: positionOf(4, 2) },
    { name: 'store where the log begins', log: logOf(3, 1, [2]), position: positionOf(3, 1) },
  ])('$name: the log counts', ({ log, position }) => {
    const { index, term } = log.snapshot;
    expect(recover(log, position, [])).toEqual({
      hardState: log.hardState,
      snapshot: { lastIncludedIndex: index, lastIncludedTerm: term, configuration },
      entries: log.entries,
      reset: undefined,
    });
  });

  test.each([
    { name: 'store beyond the end', log: logOf(0, 0, [1]), position: positionOf(9, 3) },
    { name: 'another entry there', log: logOf(0, 0, [1, 1]), position: positionOf(2, 2) },
    { name: 'store before the log', log: logOf(9, 3, []), position: positionOf(8, 3) },
  ])('$name: refused, or reset if a snapshot was being installed', ({ log, position }) => {
    expect(() => recover(log, position, [])).toThrow(/acknowledged data was lost/);
    expect(() => recover(log, position, [{ index: 1, term: 1 }])).toThrow(/was lost/);
    const { lastIncludedIndex: index, lastIncludedTerm: term } = position;
    const recovery = recover(log, position, [{ index, term }]);
    expect(recovery).toMatchObject({ snapshot: position, entries: [], reset: { index, term } });
    expect(recovery.hardState).toEqual({ currentTerm: 5, votedFor: 'n1', commitIndex: index });
  });

  test('a snapshot of a later term than the hard state raises it and forgets the vote', () => {
    const recovery = recover(logOf(0, 0, [1]), positionOf(9, 7), [{ index: 9, term: 7 }]);
    expect(recovery.hardState).toEqual({ currentTerm: 7, votedFor: null, commitIndex: 9 });
  });
});
