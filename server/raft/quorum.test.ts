import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Configuration, NodeId, Server } from './message.ts';
import { Quorum, quorumSize } from './quorum.ts';

/** One letter is one voter; `outgoing` makes it joint. */
function quorum(incoming: string, outgoing?: string): Quorum {
  return new Quorum(
    configuration([...incoming], outgoing === undefined ? undefined : [...outgoing]),
  );
}

function configuration(incoming: readonly NodeId[], outgoing?: readonly NodeId[]): Configuration {
  const server = (id: NodeId, suffrage: Server['suffrage']): Server => ({
    id,
    address: '',
    suffrage,
  });
  const servers = incoming.map((id) => server(id, 'voter'));
  if (outgoing === undefined) return { servers: [...servers, server('learner', 'learner')] };
  const leaving = outgoing
    .filter((id) => !incoming.includes(id))
    .map((id) => server(id, 'leaving'));
  const joint = { votersOutgoing: outgoing, autoLeave: true };
  return { servers: [...servers, ...leaving], joint };
}

function votes({ granted, refused }: { granted: string; refused: string }): Map<NodeId, boolean> {
  return new Map([
    ...[...granted].map((id) => [id, true] as const),
    ...[...refused].map((id) => [id, false] as const),
  ]);
}

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

describe('index()', () => {
  test.each([
    { held: { a: 5 }, index: 5 },
    { held: { a: 5, b: 3 }, index: 3 },
    { held: { a: 1, b: 9, c: 5 }, index: 5 },
    { held: { a: 9, b: 1, c: 5 }, index: 5 },
    { held: { a: 0, b: 0, c: 7 }, index: 0 },
    { held: { a: 2, b: 4, c: 6, d: 8 }, index: 4 },
    { held: { a: 100, b: 20, c: 3, d: 9, e: 10 }, index: 10 },
  ])('a majority of $held holds $index', ({ held, index }) => {
    const byVoter = new Map<NodeId, number>(Object.entries(held));
    const one = quorum([...byVoter.keys()].join(''));
    expect(one.index((id) => byVoter.get(id) ?? 0)).toBe(index);
  });

  test.each([
    // Equal halves decide as one.
    { incoming: 'abc', outgoing: 'abc', held: { a: 1, b: 2, c: 3 }, index: 2 },
    // The slower half decides, whichever it is.
    { incoming: 'abc', outgoing: 'def', held: { a: 9, b: 8, c: 7, d: 3, e: 2, f: 1 }, index: 2 },
    { incoming: 'def', outgoing: 'abc', held: { a: 9, b: 8, c: 7, d: 3, e: 2, f: 1 }, index: 2 },
    // One voter alone in a half has a veto.
    { incoming: 'a', outgoing: 'bcd', held: { a: 1, b: 9, c: 9, d: 9 }, index: 1 },
    { incoming: 'abc', outgoing: 'bcd', held: { a: 0, b: 7, c: 5, d: 0 }, index: 5 },
  ])('$incoming and $outgoing that hold $held agree on $index', (row) => {
    const byVoter = new Map<NodeId, number>(Object.entries(row.held));
    const joint = quorum(row.incoming, row.outgoing);
    expect(joint.index((id) => byVoter.get(id) ?? 0)).toBe(row.index);
  });
});

describe('tally()', () => {
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
  ])('is $outcome with "$granted" against "$refused"', ({ outcome, ...cast }) => {
    expect(quorum('abcd').tally(votes(cast))).toBe(outcome);
  });

  test.each([
    { granted: 'ab', refused: '', outcome: 'pending' },
    { granted: 'abde', refused: '', outcome: 'won' },
    { granted: 'abde', refused: 'cf', outcome: 'won' },
    { granted: 'abd', refused: 'c', outcome: 'pending' },
    { granted: 'abc', refused: 'd', outcome: 'pending' },
    // One half that is lost loses it all, even if the other is won.
    { granted: 'abc', refused: 'de', outcome: 'lost' },
    { granted: 'def', refused: 'ab', outcome: 'lost' },
  ])('of two halves is $outcome with "$granted" against "$refused"', ({ outcome, ...cast }) => {
    expect(quorum('abc', 'def').tally(votes(cast))).toBe(outcome);
  });
});

describe('against all subsets of the voters', () => {
  const ids = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'), {
    minLength: 1,
    maxLength: 5,
  });
  const halves = fc.record({ incoming: ids, outgoing: fc.option(ids, { nil: undefined }) });

  test('index() is the highest that some quorum holds as a whole', () => {
    const held = fc.dictionary(fc.constantFrom(...'abcdefg'), fc.nat(6), { noNullPrototype: true });
    fc.assert(
      fc.property(halves, held, ({ incoming, outgoing }, byVoter) => {
        const heldBy = (id: NodeId): number => byVoter[id] ?? 0;
        const best = Math.max(
          ...subsets([...incoming, ...(outgoing ?? [])])
            .filter((subset) => isQuorum(subset, { incoming, outgoing }))
            .map((subset) => Math.min(...subset.map(heldBy))),
        );
        expect(new Quorum(configuration(incoming, outgoing)).index(heldBy)).toBe(best);
      }),
      { numRuns: 2_000 },
    );
  });

  test('tally() is won if those who granted are a quorum, lost if nobody else can make one', () => {
    const cast = fc.dictionary(fc.constantFrom(...'abcdefg'), fc.boolean(), {
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(halves, cast, ({ incoming, outgoing }, votesCast) => {
        const all = [...new Set([...incoming, ...(outgoing ?? [])])];
        const granted = all.filter((id) => votesCast[id] === true);
        const possible = all.filter((id) => votesCast[id] !== false);
        const outcome = isQuorum(granted, { incoming, outgoing })
          ? 'won'
          : isQuorum(possible, { incoming, outgoing })
            ? 'pending'
            : 'lost';
        const tallied = new Quorum(configuration(incoming, outgoing));
        expect(tallied.tally(new Map(Object.entries(votesCast)))).toBe(outcome);
        expect(tallied.isMet((id) => votesCast[id] === true)).toBe(outcome === 'won');
      }),
      { numRuns: 2_000 },
    );
  });

  test('quorums of neighbours overlap, be the step direct or joint', () => {
    fc.assert(
      fc.property(ids, ids, (before, after) => {
        const old = new Quorum(configuration(before));
        const joint = new Quorum(configuration(after, before));
        const young = new Quorum(configuration(after));
        const all = subsets([...before, ...after]);
        for (const one of all.filter((subset) => joint.isMet((id) => subset.includes(id)))) {
          for (const half of [old, young]) {
            const rest = (id: NodeId): boolean => !one.includes(id);
            expect(half.isMet(rest), `${before} to ${after} by ${one}`).toBe(false);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

/** Counts heads, without `quorumSize`: that is what is tested. */
function isQuorum(
  subset: readonly NodeId[],
  { incoming, outgoing }: { incoming: readonly NodeId[]; outgoing: readonly NodeId[] | undefined },
): boolean {
  const isMajorityOf = (voters: readonly NodeId[]): boolean =>
    voters.length < 2 * voters.filter((id) => subset.includes(id)).length;
  return isMajorityOf(incoming) && (outgoing === undefined || isMajorityOf(outgoing));
}

function subsets(ids: readonly NodeId[]): NodeId[][] {
  const unique = [...new Set(ids)];
  return Array.from({ length: 2 ** unique.length }, (_, bits) =>
    unique.filter((_id, position) => (bits >> position) % 2 === 1),
  );
}
