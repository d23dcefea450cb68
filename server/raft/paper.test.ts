/** One test per claim of the Raft paper (extended version), by section. */

import { describe, expect, test } from 'vitest';

import type { AppendEntries, Entry, HardState, Message, RequestVote } from './message.ts';
import { Raft, type RaftOptions } from './raft.ts';

const ELECTION_TICKS = 10;

type Start = {
  readonly term?: number;
  readonly votedFor?: string;
  /** The terms of the log's entries. */
  readonly log?: readonly number[];
  readonly voters?: number;
  readonly random?: () => number;
};

/** A core with its disk at hand: every write is done at once, and messages are kept. */
class Subject {
  readonly raft: Raft;
  readonly sent: Message[] = [];
  readonly applied: Entry[] = [];
  hardState: HardState;

  constructor({ term = 0, votedFor, log = [], voters = 3, random = () => 0 }: Start) {
    this.hardState = { currentTerm: term, votedFor: votedFor ?? null, commitIndex: 0 };
    const servers = Array.from({ length: voters }, (_, index) => ({
      id: `n${index + 1}`,
      address: '',
      suffrage: 'voter' as const,
    }));
    const options: RaftOptions = {
      id: 'n1',
      hardState: this.hardState,
      snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration: { servers } },
      entries: log.map((entryTerm, index) => entry(index + 1, entryTerm)),
      appliedIndex: 0,
      configuration: { servers },
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: 1,
      leaseMs: 0,
      random,
      commitNotify: { kind: 'push', isGathered: false },
      limits: { appendBytesMax: 10_000, inflightAppendsMax: 10, uncommittedBytesMax: 10_000 },
    };
    this.raft = new Raft(options);
  }

  settle(): void {
    while (this.raft.hasReady()) {
      const ready = this.raft.ready();
      this.hardState = ready.hardState ?? this.hardState;
      if (ready.appendToken !== 0) this.raft.storageAppendDone(ready.appendToken);
      this.sent.push(...ready.messages, ...ready.messagesAfterAppend);
      this.applied.push(...ready.committedEntries);
      const last = ready.committedEntries.at(-1);
      if (last !== undefined) this.raft.storageApplied(last.index);
    }
  }

  step(message: Message): void {
    this.raft.step(message);
    this.settle();
  }

  tick(count: number): void {
    for (let tick = 0; tick < count; tick += 1) {
      this.raft.tick();
      this.settle();
    }
  }

  /** What was sent since the last call. */
  take<Kind extends Message['kind']>(kind: Kind): Extract<Message, { kind: Kind }>[] {
    const messages = this.sent.splice(0);
    return messages.filter((m): m is Extract<Message, { kind: Kind }> => m.kind === kind);
  }

  /** Stands and wins, with the votes of all others. */
  elect(): this {
    this.raft.campaign();
    this.settle();
    for (const isPreVote of [true, false]) {
      for (const request of this.take('requestVote')) {
        this.step({
          kind: 'requestVoteResponse',
          from: request.to,
          to: 'n1',
          term: request.term,
          isPreVote,
          voteGranted: true,
        });
        if (this.raft.status().role === 'leader') return this;
      }
    }
    return this;
  }

  acknowledge(from: string, matchIndex: number): void {
    this.step(acknowledgement(from, matchIndex, this.raft.status().currentTerm));
  }
}

function entry(index: number, term: number): Entry {
  return { index, term, kind: 'command', command: new Uint8Array(1) };
}

function append(fields: Partial<AppendEntries>): AppendEntries {
  return {
    kind: 'appendEntries',
    from: 'n2',
    to: 'n1',
    term: 1,
    prevLogIndex: 0,
    prevLogTerm: 0,
    entries: [],
    leaderCommit: 0,
    ...fields,
  };
}

function voteRequest(fields: Partial<RequestVote>): RequestVote {
  return {
    kind: 'requestVote',
    from: 'n2',
    to: 'n1',
    term: 1,
    isPreVote: false,
    lastLogIndex: 0,
    lastLogTerm: 0,
    isTransfer: false,
    ...fields,
  };
}

function acknowledgement(from: string, matchIndex: number, term: number): Message {
  return {
    kind: 'appendEntriesResponse',
    from,
    to: 'n1',
    term,
    success: true,
    matchIndex,
    rejectedIndex: 0,
    hintIndex: 0,
    hintTerm: 0,
    appliedIndex: 0,
  };
}

describe('§5.1 terms', () => {
  test.each([
    { name: 'follower', start: (s: Subject) => s },
    { name: 'leader', start: (s: Subject) => s.elect() },
  ])('a $name that sees a higher term becomes a follower of that term', ({ start }) => {
    const subject = start(new Subject({ term: 1 }));
    subject.step(append({ term: 7 }));
    expect(subject.raft.status()).toMatchObject({
      role: 'follower',
      currentTerm: 7,
      leaderId: 'n2',
    });
  });

  test('a request with an old term is refused, and its sender told the term', () => {
    const subject = new Subject({ term: 5 });
    subject.step(append({ term: 4, entries: [entry(1, 4)] }));
    expect(subject.take('appendEntriesResponse')).toMatchObject([{ success: false, term: 5 }]);
    subject.step(voteRequest({ term: 4 }));
    expect(subject.take('requestVoteResponse')).toMatchObject([{ voteGranted: false, term: 5 }]);
    expect(subject.raft.status()).toMatchObject({ currentTerm: 5, lastIndex: 0 });
  });

  test('term and vote are durable before a vote is told', () => {
    const subject = new Subject({});
    subject.raft.step(voteRequest({ term: 3 }));
    const ready = subject.raft.ready();
    expect(ready.hardState).toMatchObject({ currentTerm: 3, votedFor: 'n2' });
    expect(ready.messages).toEqual([]);
    expect(ready.messagesAfterAppend).toMatchObject([{ voteGranted: true, term: 3 }]);
  });
});

describe('§5.2 leader election', () => {
  test('a server starts as a follower, and stays one while it hears a leader', () => {
    const subject = new Subject({});
    for (let round = 0; round < 5; round += 1) {
      expect(subject.raft.status().role).toBe('follower');
      subject.tick(ELECTION_TICKS - 1);
      subject.step(append({}));
    }
    expect(subject.take('requestVote')).toEqual([]);
  });

  test('without a leader for the election timeout it asks all others for votes', () => {
    const subject = new Subject({ term: 1 });
    subject.tick(ELECTION_TICKS - 1);
    expect(subject.raft.status().role).toBe('follower');
    subject.tick(1);
    expect(subject.take('requestVote')).toMatchObject([
      { to: 'n2', term: 2, isPreVote: true },
      { to: 'n3', term: 2, isPreVote: true },
    ]);
  });

  test('a candidate votes for itself, in a term of its own', () => {
    const subject = new Subject({ term: 1, voters: 1 }).elect();
    expect(subject.hardState).toMatchObject({ currentTerm: 2, votedFor: 'n1' });
  });

  test.each([
    { voters: 1, granted: 0, refused: 0, role: 'leader' },
    { voters: 3, granted: 1, refused: 0, role: 'leader' },
    { voters: 3, granted: 0, refused: 1, role: 'candidate' },
    { voters: 3, granted: 0, refused: 2, role: 'follower' },
    { voters: 5, granted: 1, refused: 2, role: 'candidate' },
    { voters: 5, granted: 2, refused: 2, role: 'leader' },
    { voters: 5, granted: 1, refused: 3, role: 'follower' },
  ])('of $voters, $granted granting and $refused refusing make it $role', (row) => {
    const subject = new Subject({ voters: row.voters });
    subject.step({ kind: 'timeoutNow', from: 'n2', to: 'n1', term: 0 });
    const ids = Array.from({ length: row.granted + row.refused }, (_, index) => `n${index + 2}`);
    for (const [index, from] of ids.entries()) {
      subject.step({
        kind: 'requestVoteResponse',
        from,
        to: 'n1',
        term: 1,
        isPreVote: false,
        voteGranted: index < row.granted,
      });
    }
    expect(subject.raft.status().role).toBe(row.role);
  });

  test.each([
    { votedFor: undefined, from: 'n2', voteGranted: true },
    { votedFor: 'n2', from: 'n2', voteGranted: true },
    { votedFor: 'n3', from: 'n2', voteGranted: false },
  ])('after a vote for $votedFor, $from is answered $voteGranted', (row) => {
    const vote = row.votedFor === undefined ? {} : { votedFor: row.votedFor };
    const subject = new Subject({ term: 1, ...vote });
    subject.step(voteRequest({ from: row.from }));
    expect(subject.take('requestVoteResponse')).toMatchObject([{ voteGranted: row.voteGranted }]);
  });

  test('a candidate that hears the leader of its term follows it', () => {
    const subject = new Subject({});
    subject.step({ kind: 'timeoutNow', from: 'n3', to: 'n1', term: 0 });
    expect(subject.raft.status().role).toBe('candidate');
    subject.step(append({ term: 1 }));
    expect(subject.raft.status()).toMatchObject({ role: 'follower', leaderId: 'n2' });
  });

  test('election timeouts are spread over [electionTicks, 2 * electionTicks)', () => {
    const seen = new Set<number>();
    for (let draw = 0; draw < ELECTION_TICKS; draw += 1) {
      const subject = new Subject({ random: () => draw / ELECTION_TICKS });
      let ticks = 0;
      while (subject.raft.status().role === 'follower') {
        subject.tick(1);
        ticks += 1;
      }
      seen.add(ticks);
    }
    expect([...seen].toSorted((left, right) => left - right)).toEqual(
      Array.from({ length: ELECTION_TICKS }, (_, index) => ELECTION_TICKS + index),
    );
  });

  test('a second leader in a term is a broken invariant, not a case', () => {
    const subject = new Subject({ term: 2 }).elect();
    expect(() => subject.step(append({ term: 3 }))).toThrow('two leaders in one term');
  });

  test('a leader sends heartbeats to all others', () => {
    const subject = new Subject({}).elect();
    subject.take('heartbeat');
    subject.tick(1);
    expect(subject.take('heartbeat').map((message) => message.to)).toEqual(['n2', 'n3']);
  });
});

describe('§5.3 log replication', () => {
  test('a proposal is appended in the term of the leader, and sent to all others', () => {
    const subject = new Subject({}).elect();
    subject.acknowledge('n2', 1);
    subject.acknowledge('n3', 1);
    subject.take('appendEntries');
    subject.raft.propose([new Uint8Array(3)]);
    subject.settle();
    for (const message of subject.take('appendEntries')) {
      expect(message).toMatchObject({ prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 1 });
      expect(message.entries).toMatchObject([{ index: 2, term: 1, kind: 'command' }]);
    }
  });

  test.each([
    { voters: 1, acknowledged: 0, commitIndex: 1 },
    { voters: 3, acknowledged: 0, commitIndex: 0 },
    { voters: 3, acknowledged: 1, commitIndex: 1 },
    { voters: 5, acknowledged: 1, commitIndex: 0 },
    { voters: 5, acknowledged: 2, commitIndex: 1 },
  ])('of $voters, $acknowledged acknowledging commit up to $commitIndex', (row) => {
    const subject = new Subject({ voters: row.voters }).elect();
    for (let index = 0; index < row.acknowledged; index += 1) {
      subject.acknowledge(`n${index + 2}`, 1);
    }
    expect(subject.raft.status().commitIndex).toBe(row.commitIndex);
  });

  test('committing an entry commits all before it, and they are applied in order', () => {
    const subject = new Subject({ term: 2, log: [1, 2] }).elect();
    subject.acknowledge('n2', 3);
    expect(subject.applied.map((applied) => applied.index)).toEqual([1, 2, 3]);
  });

  test('a follower applies what it learns to be committed, in order', () => {
    const subject = new Subject({});
    subject.step(append({ entries: [entry(1, 1), entry(2, 1)], leaderCommit: 1 }));
    expect(subject.applied.map((applied) => applied.index)).toEqual([1]);
    subject.step(append({ prevLogIndex: 2, prevLogTerm: 1, leaderCommit: 2 }));
    expect(subject.applied.map((applied) => applied.index)).toEqual([1, 2]);
  });

  test.each([
    { prev: [0, 0], success: true },
    { prev: [1, 1], success: true },
    { prev: [2, 2], success: true },
    { prev: [2, 1], success: false },
    { prev: [1, 2], success: false },
    { prev: [3, 3], success: false },
  ])('a log of terms 1 2 answers an append after $prev with $success', ({ prev, success }) => {
    const [prevLogIndex = 0, prevLogTerm = 0] = prev;
    const subject = new Subject({ term: 3, log: [1, 2] });
    subject.step(append({ term: 3, prevLogIndex, prevLogTerm }));
    expect(subject.take('appendEntriesResponse')).toMatchObject([{ success }]);
  });

  test.each([
    { prev: [2, 2], terms: [3], log: [1, 2, 3] },
    { prev: [1, 1], terms: [3, 4], log: [1, 3, 4] },
    { prev: [0, 0], terms: [1], log: [1, 2] },
    { prev: [0, 0], terms: [3], log: [3] },
  ])('a log of terms 1 2 becomes $log by $terms after $prev', ({ prev, terms, log }) => {
    const [prevLogIndex = 0, prevLogTerm = 0] = prev;
    const subject = new Subject({ term: 4, log: [1, 2] });
    const entries = terms.map((term, index) => entry(prevLogIndex + 1 + index, term));
    subject.step(append({ term: 4, prevLogIndex, prevLogTerm, entries, leaderCommit: log.length }));
    expect(subject.raft.status().lastIndex).toBe(log.length);
    const matched = log.slice(0, prevLogIndex + terms.length);
    expect(subject.applied.map((applied) => applied.term)).toEqual(matched);
  });

  // Figure 7: a leader of term 8 against the logs (a) to (f), here as followers.
  const leaderLog = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8];
  test.each([
    { name: 'a', log: [1, 1, 1, 4, 4, 5, 5, 6, 6] },
    { name: 'b', log: [1, 1, 1, 4] },
    { name: 'c', log: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6] },
    { name: 'd', log: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7] },
    { name: 'e', log: [1, 1, 1, 4, 4, 4, 4] },
    { name: 'f', log: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3] },
  ])('figure 7: the log of follower ($name) becomes that of the leader', ({ log }) => {
    const subject = new Subject({ term: 8, log });
    let prevLogIndex = leaderLog.length - 1;
    for (let round = 0; round < leaderLog.length; round += 1) {
      const entries = leaderLog
        .slice(prevLogIndex)
        .map((term, index) => entry(prevLogIndex + 1 + index, term));
      const prevLogTerm = leaderLog[prevLogIndex - 1] ?? 0;
      subject.step(append({ term: 8, prevLogIndex, prevLogTerm, entries, leaderCommit: 11 }));
      const [answer] = subject.take('appendEntriesResponse');
      if (answer?.success === true) break;
      prevLogIndex = Math.min(answer?.hintIndex ?? 0, prevLogIndex - 1);
    }
    expect(subject.applied.map((applied) => applied.term)).toEqual(leaderLog);
  });
});

describe('§5.4 safety', () => {
  test.each([
    { own: [1], last: [1, 1], voteGranted: true },
    { own: [1], last: [2, 1], voteGranted: true },
    { own: [1, 1], last: [1, 1], voteGranted: false },
    { own: [1], last: [1, 2], voteGranted: true },
    { own: [1, 1], last: [1, 2], voteGranted: true },
    { own: [2], last: [5, 1], voteGranted: false },
  ])('§5.4.1: a log of terms $own grants $last: $voteGranted', ({ own, last, voteGranted }) => {
    const [lastLogIndex = 0, lastLogTerm = 0] = last;
    const subject = new Subject({ term: 3, log: own });
    subject.step(voteRequest({ term: 4, lastLogIndex, lastLogTerm }));
    expect(subject.take('requestVoteResponse')).toMatchObject([{ voteGranted }]);
  });

  test.each([
    { matchIndex: 1, commitIndex: 0 },
    { matchIndex: 2, commitIndex: 0 },
    { matchIndex: 3, commitIndex: 3 },
  ])('§5.4.2: a match of $matchIndex in a log of terms 1 2 3 commits $commitIndex', (row) => {
    const subject = new Subject({ term: 2, log: [1, 2] }).elect();
    subject.acknowledge('n2', row.matchIndex);
    expect(subject.raft.status().commitIndex).toBe(row.commitIndex);
  });
});

describe('§8 client interaction', () => {
  test('a new leader begins with a no-op of its term', () => {
    const subject = new Subject({ term: 2, log: [1, 2] }).elect();
    const [message] = subject.take('appendEntries');
    expect(message?.entries).toMatchObject([{ index: 3, term: 3, kind: 'noop' }]);
  });
});
