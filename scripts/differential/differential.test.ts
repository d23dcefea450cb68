/** The parts of the comparison that need nothing of etcd. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { compareMessages, compareStatus, type Difference } from './agreement.ts';
import { changesOf } from './changes.ts';
import { parseCases } from './datadriven.ts';
import { fromWire, toWire, type WireMessage } from './message.ts';
import type { NodeStatus } from './oracle.ts';
import { OurSide } from './our-side.ts';
import { ReadBook } from './read-book.ts';
import { commitsForOthers, hasStoodAside } from './removed-leader.ts';
import { scenarioOf } from './step.ts';

const MAIN = fileURLToPath(new URL('main.js', import.meta.url));

const STATUS: NodeStatus = {
  role: 'leader',
  term: 2,
  vote: 1,
  leader: 1,
  commit: 3,
  applied: 3,
  firstIndex: 2,
  log: ['1:p1', '2:noop', '2:p2'],
  configuration: {
    voters: [1, 2],
    votersOutgoing: [],
    learners: [3],
    learnersNext: [],
    autoLeave: false,
  },
  transferTarget: 0,
  match: { 1: 4, 2: 3, 3: 0 },
};

function differences(run: (count: (difference: Difference) => void) => void): Difference[] {
  const counted: Difference[] = [];
  run((difference) => counted.push(difference));
  return counted;
}

function statusDifferences(id: number, change: Partial<NodeStatus>): Difference[] {
  const theirs = { ...STATUS, ...change };
  return differences((count) => compareStatus(id, { ours: STATUS, theirs }, count));
}

describe('of two states', () => {
  test('equal ones agree', () => {
    expect(statusDifferences(1, {})).toEqual([]);
  });

  test.each<Partial<NodeStatus>>([
    { role: 'follower' },
    { term: 3 },
    { vote: 0 },
    { leader: 2 },
    { commit: 2 },
    { applied: 2 },
    { firstIndex: 1 },
    { log: ['1:p1', '2:noop', '2:p3'] },
    { log: ['1:p1', '2:noop'] },
    { configuration: { ...STATUS.configuration, learners: [], learnersNext: [3] } },
    { configuration: { ...STATUS.configuration, autoLeave: true } },
    { transferTarget: 2 },
    { match: { 1: 4, 2: 4, 3: 0 } },
    { match: { 1: 4, 2: 3 } },
  ])('%j is a disagreement', (change) => {
    expect(() => statusDifferences(1, change)).toThrow(/of node 1/);
  });

  test('a learner of ours may have forgotten its leader, a voter may not', () => {
    const silent = { ...STATUS, role: 'follower' as const, leader: 0 };
    const theirs = { ...silent, leader: 2 };
    const compare = (id: number) =>
      differences((count) => compareStatus(id, { ours: silent, theirs }, count));
    expect(compare(3)).toEqual(['silent leader is forgotten']);
    expect(() => compare(1)).toThrow('leader of node 1');
  });
});

describe('of what was sent', () => {
  const vote: WireMessage = { kind: 'requestVote', from: 1, to: 2, term: 3, index: 4, logTerm: 2 };
  const append: WireMessage = {
    kind: 'appendEntries',
    from: 1,
    to: 2,
    term: 2,
    index: 2,
    logTerm: 1,
    entryTerms: [2],
    commit: 3,
  };

  function messageDifferences(ours: WireMessage[], theirs: WireMessage[], op = 'tick') {
    const step = { op, isLed: true, sender: STATUS };
    return differences((count) => compareMessages({ ours, theirs }, step, count));
  }

  test('the same in another order agrees', () => {
    const other = { ...vote, to: 3 };
    expect(messageDifferences([vote, other], [other, vote])).toEqual([]);
  });

  test('another field, one too few and one too many are disagreements', () => {
    expect(() => messageDifferences([vote], [{ ...vote, logTerm: 1 }])).toThrow('only ours');
    expect(() => messageDifferences([], [vote])).toThrow("only etcd's");
    expect(() => messageDifferences([vote, vote], [vote])).toThrow('only ours');
  });

  test('appends come when they like, with what the log says', () => {
    expect(messageDifferences([append], [])).toEqual(['append is paced otherwise']);
    for (const wrong of [
      { logTerm: 2 },
      { entryTerms: [1] },
      { commit: 4 },
      { entryTerms: [2, 2, 2] },
    ]) {
      expect(() => messageDifferences([{ ...append, ...wrong }], [])).toThrow("leader's log");
    }
  });

  test('a heartbeat of the clock must be matched, one for a read need not', () => {
    const heartbeat: WireMessage = { kind: 'heartbeat', from: 1, to: 2, term: 2, commit: 3 };
    expect(() => messageDifferences([heartbeat], [])).toThrow('only ours');
    expect(messageDifferences([heartbeat], [], 'read')).toEqual([
      'read needs another round, or none',
    ]);
  });

  test('a match may repeat an older one, and not fall short', () => {
    const answer: WireMessage = {
      kind: 'appendEntriesResponse',
      from: 2,
      to: 1,
      term: 2,
      index: 3,
    };
    expect(messageDifferences([{ ...answer, index: 4 }], [answer])).toEqual([
      'older claim is repeated',
    ]);
    expect(() => messageDifferences([{ ...answer, index: 2 }], [answer])).toThrow('only ours');
    expect(() => messageDifferences([{ ...answer, refused: true }], [answer])).toThrow('only ours');
  });
});

describe('of reads', () => {
  const answered = (id: number, ours: number, theirs: number) =>
    [
      { envelopes: [], reads: [{ kind: 'confirmed' as const, id, index: ours }] },
      { messages: [], reads: [{ id: String(id), index: theirs }] },
    ] as const;

  test('both answers must be the same, and hold what was committed', () => {
    const book = new ReadBook();
    book.expect(1, 5);
    book.note(...answered(1, 5, 5));
    expect(book.comparedCount).toBe(1);
    book.expect(2, 5);
    expect(() => book.note(...answered(2, 6, 5))).toThrow("etcd's at 5");
    book.expect(3, 5);
    expect(() => book.note(...answered(3, 4, 4))).toThrow('misses what was committed');
  });

  test("an answer of etcd's that is too old is told, for it may be that of a removed leader", () => {
    const book = new ReadBook();
    book.expect(1, 5);
    const [ours] = answered(1, 5, 5);
    expect(
      book.note({ ...ours, reads: [] }, { messages: [], reads: [{ id: '1', index: 4 }] }),
    ).toBe(1);
    expect(() => book.note(ours, { messages: [], reads: [] })).toThrow("etcd's at 4");
  });
});

describe('of a leader that is removed', () => {
  const configuration = { ...STATUS.configuration, voters: [2, 3, 4], learners: [] };
  const ours = { ...STATUS, configuration, commit: 4 };
  const theirs = { ...ours, commit: 3, match: { 2: 4, 3: 4, 4: 0 } };

  test('what a majority of the others holds may be committed at once, and nothing else', () => {
    expect(commitsForOthers(1, ours, theirs)).toBe(true);
    expect(commitsForOthers(1, ours, { ...theirs, match: { 2: 4, 3: 3, 4: 0 } })).toBe(false);
    expect(commitsForOthers(2, ours, theirs)).toBe(false);
    const old = { ...theirs, log: ['1:p1', '2:noop', '1:p2'] };
    expect(commitsForOthers(1, ours, old)).toBe(false);
  });

  test('it may stand aside when it leads no more, and a voter may not', () => {
    const follower = { ...ours, role: 'follower' as const };
    expect(hasStoodAside(1, follower, theirs)).toBe(true);
    expect(hasStoodAside(2, follower, theirs)).toBe(false);
    expect(hasStoodAside(1, ours, theirs)).toBe(false);
  });
});

test('what a message says survives the other vocabulary', () => {
  const header = { from: 'n1', to: 'n2', term: 3 };
  const messages = [
    {
      kind: 'requestVote',
      ...header,
      isPreVote: true,
      isTransfer: false,
      lastLogIndex: 4,
      lastLogTerm: 2,
    },
    { kind: 'requestVoteResponse', ...header, isPreVote: false, voteGranted: true },
    { kind: 'heartbeat', ...header, leaderCommit: 2, round: 7, freshRound: 0, freshIndex: 0 },
    { kind: 'heartbeatResponse', ...header, appliedIndex: 2, round: 7 },
    { kind: 'timeoutNow', ...header },
    { kind: 'readIndex', ...header, id: 9 },
    { kind: 'readIndexResponse', ...header, id: 9, success: true, index: 4 },
  ] as const;
  for (const message of messages) expect(fromWire(toWire(message), 7)).toEqual(message);
});

test('a seed is a scenario, and a step keeps its draws when others go', () => {
  expect(scenarioOf(7, 50)).toEqual(scenarioOf(7, 50));
  expect(scenarioOf(7, 50)).not.toEqual(scenarioOf(8, 50));
});

test('our side begins as etcd is told to', () => {
  const side = new OurSide({ ...scenarioOf(3, 0), voterCount: 3, spareCount: 1 });
  expect([...side.nodes.keys()]).toEqual([1, 2, 3, 4]);
  expect(side.status(4)).toMatchObject({ role: 'follower', term: 0, firstIndex: 1, log: [] });
  expect(side.status(4).configuration.voters).toEqual([1, 2, 3]);
});

test('changes are what turns one configuration into another', () => {
  const server = (id: string, suffrage: 'voter' | 'learner') => ({ id, address: '', suffrage });
  const current = {
    servers: [server('n1', 'voter'), server('n2', 'voter'), server('n3', 'learner')],
  };
  const target = {
    servers: [server('n1', 'voter'), server('n2', 'learner'), server('n4', 'voter')],
  };
  expect(changesOf(current, target)).toBe('l2 r3 v4');
  expect(changesOf(current, current)).toBe('');
});

test('cases of a script are read with their arguments, input and output', () => {
  const text = '# Prose.\nfirst a=(1, 2) b=x\nsome input\n----\none\ntwo\n\nsecond\n----\nthree\n';
  expect(parseCases('file.txt', text)).toEqual([
    {
      place: 'file.txt:2',
      command: 'first',
      arguments: new Map([
        ['a', ['1', '2']],
        ['b', ['x']],
      ]),
      input: 'some input',
      expected: ['one', 'two'],
    },
    {
      place: 'file.txt:8',
      command: 'second',
      arguments: new Map(),
      input: '',
      expected: ['three'],
    },
  ]);
});

test('without Go it says what to install, and that is no failure', () => {
  const { stdout, status } = spawnSync(process.execPath, [MAIN], {
    encoding: 'utf8',
    env: { PATH: '' },
  });
  expect(stdout).toMatch(/^differential: skipped, it needs: apt-get install .*golang-go\n$/);
  expect(status).toBe(0);
});
