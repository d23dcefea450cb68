/** Each invariant is fed something that breaks it: a check that cannot fail is none. */

import { describe, expect, test } from 'vitest';

import { encodeConfiguration } from '../../raft/configuration.ts';
import type { Entry, HardState, Message, NodeId, Ready, Server } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { chainDigest, LogImage } from '../simulated-node.ts';
import { InvariantViolation, type InvariantId } from './invariants.ts';
import { SafetyChecker, type ObservedNode } from './safety-checker.ts';

const SERVERS: readonly Server[] = ['n1', 'n2', 'n3'].map((id) => ({
  id,
  address: '',
  suffrage: 'voter',
}));

type FakeStatus = { -readonly [Field in keyof RaftStatus]: RaftStatus[Field] };
type Fake = {
  -readonly [Field in keyof ObservedNode]: ObservedNode[Field];
} & { status: FakeStatus };

function fake(id: NodeId): Fake {
  const status: FakeStatus = {
    id,
    role: 'follower',
    leaderId: null,
    currentTerm: 1,
    votedFor: null,
    commitIndex: 0,
    appliedIndex: 0,
    firstIndex: 1,
    lastIndex: 0,
    durableIndex: 0,
    configuration: { servers: SERVERS },
    transferTarget: null,
    hasLease: false,
    freshness: undefined,
    progress: new Map(),
  };
  return {
    id,
    status,
    raft: { status: () => status },
    hardState: { currentTerm: 1, votedFor: null, commitIndex: 0 },
    disk: new LogImage(),
    view: new LogImage(),
    state: { index: 0, digest: 0 },
  };
}

function entry(index: number, term: number, text = 'x', kind: Entry['kind'] = 'command'): Entry {
  return { index, term, kind, command: Buffer.from(text) };
}

/** Three nodes, of which `n1` leads term 1 with the votes of all. */
class Trio {
  readonly nodes = new Map(['n1', 'n2', 'n3'].map((id) => [id, fake(id)]));
  readonly checker = new SafetyChecker(this.nodes, {
    electionTicks: 5,
    limits: { appendBytesMax: 100, inflightAppendsMax: 2, uncommittedBytesMax: 50 },
    proposalBytesMax: 10,
    serialOf: (command) => Buffer.from(command).toString(),
  });

  constructor() {
    for (const node of this.nodes.values()) {
      node.hardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };
      this.checker.onStart(node);
    }
    this.lead('n1', 1);
  }

  node(id: NodeId): Fake {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error('no such node');
    return node;
  }

  change(id: NodeId, status: Partial<RaftStatus>): void {
    Object.assign(this.node(id).status, status);
    this.checker.onChange(this.node(id));
  }

  lead(id: NodeId, term: number): void {
    this.change(id, { role: 'leader', currentTerm: term });
  }

  /** Everybody's hard state: term and vote. */
  vote(term: number, votedFor: NodeId): void {
    for (const node of this.nodes.values()) this.store(node.id, { currentTerm: term, votedFor });
  }

  store(id: NodeId, hardState: Partial<HardState>): void {
    const node = this.node(id);
    node.hardState = { ...node.hardState, ...hardState };
    this.checker.onDiskChange(node);
  }

  /** Hands an entry out to be written on `id`; on disk too, where `durable` says so. */
  write(id: NodeId, each: Entry, durable = true): void {
    const node = this.node(id);
    node.view.put(each);
    if (durable) node.disk.put(each);
    const ready: Ready = {
      appendToken: 1,
      hardState: undefined,
      snapshot: undefined,
      entries: [each],
      messages: [],
      messagesAfterAppend: [],
      committedEntries: [],
      readStates: [],
    };
    this.checker.onReady(node, ready);
    this.change(id, { lastIndex: node.view.lastIndex, durableIndex: node.disk.lastIndex });
  }

  writeEverywhere(each: Entry): void {
    for (const id of this.nodes.keys()) this.write(id, each);
  }

  commit(id: NodeId, commitIndex: number): void {
    this.change(id, { commitIndex });
  }

  apply(id: NodeId, ...entries: Entry[]): void {
    const node = this.node(id);
    let { digest } = node.state;
    for (const each of entries) digest = chainDigest(digest, each);
    node.state = { index: entries.at(-1)?.index ?? 0, digest };
    this.checker.onApply(node, entries);
  }

  send(message: Message): void {
    this.checker.onSend(this.node(message.from), message);
  }
}

function appendOf(entries: readonly Entry[], from = 'n1', term = 1): Message {
  const addressed = { from, to: 'n2', term, prevLogIndex: 0, prevLogTerm: 0 };
  return { kind: 'appendEntries', ...addressed, entries, leaderCommit: 0 };
}

function voteFor(to: NodeId, term: number, from = 'n2'): Message {
  return { kind: 'requestVoteResponse', from, to, term, isPreVote: false, voteGranted: true };
}

function matchOf(matchIndex: number): Message {
  const rest = { rejectedIndex: 0, hintIndex: 0, hintTerm: 0, appliedIndex: 0 };
  const addressed = { from: 'n2', to: 'n1', term: 1 };
  return { kind: 'appendEntriesResponse', ...addressed, success: true, matchIndex, ...rest };
}

const configurationEntry = (index: number): Entry => ({
  index,
  term: 1,
  kind: 'configuration',
  command: encodeConfiguration({ servers: SERVERS.slice(0, index) }),
});

const BREACHES: readonly (readonly [InvariantId, string, (trio: Trio) => void])[] = [
  ['I1', 'two leaders in a term', (trio) => trio.send(appendOf([], 'n3'))],
  [
    'I1',
    'a second vote in a term',
    (trio) => {
      trio.send(voteFor('n1', 1));
      trio.node('n2').hardState = { currentTerm: 1, votedFor: 'n3', commitIndex: 0 };
      trio.send(voteFor('n3', 1));
    },
  ],
  [
    'I2',
    'a leader that replaces',
    (trio) => {
      trio.write('n1', entry(1, 1, 'a'));
      trio.write('n1', entry(1, 1, 'b'));
    },
  ],
  [
    'I3',
    'unequal entries at one position',
    (trio) => {
      trio.write('n1', entry(1, 1, 'a'));
      trio.write('n2', entry(1, 1, 'b'));
    },
  ],
  [
    'I3',
    'unequal predecessors',
    (trio) => {
      trio.vote(3, 'n1');
      trio.write('n1', entry(1, 1, 'a'));
      trio.write('n2', entry(1, 2, 'b'));
      trio.write('n3', entry(1, 1, 'a'));
      trio.write('n3', entry(2, 3, 'c'));
      trio.write('n2', entry(2, 3, 'c'));
    },
  ],
  [
    'I4',
    'a leader without a committed entry',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.node('n3').view.reset(0, 0);
      trio.node('n3').disk.reset(0, 0);
      trio.change('n3', { lastIndex: 0, durableIndex: 0 });
      trio.vote(2, 'n3');
      trio.lead('n3', 2);
    },
  ],
  [
    'I5',
    'an entry applied before it is committed',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.apply('n2', entry(1, 1));
    },
  ],
  [
    'I5',
    'another entry applied',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.apply('n2', entry(1, 1, 'other'));
    },
  ],
  [
    'I6',
    'another entry committed',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.write('n2', entry(1, 2));
      trio.commit('n2', 1);
    },
  ],
  [
    'I7',
    'a commit that one disk holds',
    (trio) => {
      trio.write('n1', entry(1, 1));
      trio.write('n2', entry(1, 1), false);
      trio.commit('n1', 1);
    },
  ],
  [
    'I7',
    'an old term committed by counting',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.vote(2, 'n1');
      trio.lead('n1', 2);
      trio.commit('n1', 1);
    },
  ],
  [
    'I7',
    'a commit by a follower',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n2', 1);
    },
  ],
  ['I8', 'a term that goes back', (trio) => trio.change('n2', { currentTerm: 0 })],
  ['I8', 'a vote that changes on disk', (trio) => trio.store('n2', { votedFor: 'n3' })],
  [
    'I8',
    'a vote that a restart forgets',
    (trio) => {
      trio.node('n2').hardState = { currentTerm: 0, votedFor: null, commitIndex: 0 };
      trio.checker.onStart(trio.node('n2'));
    },
  ],
  ['I9', 'applied before committed', (trio) => trio.change('n2', { appliedIndex: 1 })],
  [
    'I9',
    'applied what is not durable',
    (trio) => {
      trio.write('n1', entry(1, 1));
      trio.write('n3', entry(1, 1));
      trio.write('n2', entry(1, 1), false);
      trio.commit('n1', 1);
      trio.apply('n2', entry(1, 1));
    },
  ],
  ['I10', 'a match that is not durable', (trio) => trio.send(matchOf(1))],
  ['I10', 'a vote that is not durable', (trio) => trio.send(voteFor('n3', 2))],
  ['I10', 'another vote than the durable one', (trio) => trio.send(voteFor('n3', 1))],
  [
    'I10',
    'a request for votes with a log that is not durable',
    (trio) => {
      trio.write('n1', entry(1, 1), false);
      trio.node('n1').status.role = 'candidate';
      trio.send({
        kind: 'requestVote',
        from: 'n1',
        to: 'n2',
        term: 1,
        isPreVote: false,
        lastLogIndex: 1,
        lastLogTerm: 1,
        isTransfer: false,
      });
    },
  ],
  [
    'I11',
    'two configurations that wait',
    (trio) => {
      trio.write('n1', configurationEntry(1));
      trio.write('n1', configurationEntry(2));
    },
  ],
  [
    'I11',
    'a configuration in force that is not applied',
    (trio) => trio.change('n2', { configuration: { servers: SERVERS.slice(0, 2) } }),
  ],
  [
    'I12',
    'a leader whose votes are not durable',
    (trio) => {
      trio.store('n2', { currentTerm: 2, votedFor: 'n2' });
      trio.lead('n2', 2);
    },
  ],
  ['I13', 'a log that storage was not given', (trio) => trio.change('n2', { lastIndex: 1 })],
  [
    'I13',
    'durable in name only',
    (trio) => {
      trio.write('n2', entry(1, 1), false);
      trio.change('n2', { durableIndex: 1 });
    },
  ],
  [
    'I15',
    'a leader that nobody answers',
    (trio) => {
      for (let tick = 0; tick < 20; tick += 1) {
        trio.checker.contact.onTick('n1', trio.node('n1').status);
      }
    },
  ],
  [
    'I15',
    'a lease that outlives an election',
    (trio) => {
      trio.change('n1', { hasLease: true });
      trio.checker.checkLease(trio.node('n1').status);
      trio.vote(2, 'n2');
      trio.lead('n2', 2);
      trio.checker.checkLease(trio.node('n1').status);
    },
  ],
  [
    'I16',
    'appends beyond the window',
    (trio) => {
      for (let index = 1; index <= 4; index += 1) trio.send(appendOf([entry(1, 1)]));
    },
  ],
  [
    'I16',
    'an append beyond its size',
    (trio) => trio.send(appendOf([entry(1, 1), entry(2, 1, 'y'.repeat(100))])),
  ],
  [
    'I16',
    'a next index at the match index',
    (trio) => {
      const row = {
        kind: 'replicate',
        appliedIndex: 0,
        recentActive: true,
        quietTicks: 0,
      } as const;
      const progress = new Map([['n2', { matchIndex: 0, nextIndex: 0, ...row }]]);
      trio.change('n1', { progress });
    },
  ],
  [
    'I17',
    'too many uncommitted bytes',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      for (let index = 2; index <= 5; index += 1) trio.write('n1', entry(index, 1, 'z'.repeat(20)));
      trio.commit('n1', 1);
    },
  ],
  [
    'I18',
    'a state machine that starts with something else',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.node('n2').state = { index: 1, digest: 1234 };
      trio.checker.onStart(trio.node('n2'));
    },
  ],
  [
    'I20',
    'a command committed twice',
    (trio) => {
      trio.writeEverywhere(entry(1, 1, 'serial 7'));
      trio.writeEverywhere(entry(2, 1, 'serial 7'));
      trio.commit('n1', 2);
    },
  ],
  [
    'I21',
    'a snapshot of another state',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.node('n2').state = { index: 1, digest: 1234 };
      trio.checker.onDiskChange(trio.node('n2'));
    },
  ],
  [
    'I21',
    'a snapshot that takes a node back',
    (trio) => {
      trio.writeEverywhere(entry(1, 1));
      trio.commit('n1', 1);
      trio.apply('n2', entry(1, 1));
      trio.node('n2').state = { index: 0, digest: 0 };
      trio.checker.onDiskChange(trio.node('n2'));
    },
  ],
  [
    'I23',
    'a candidate whom nobody asked',
    (trio) => trio.change('n2', { role: 'candidate', currentTerm: 2 }),
  ],
];

describe('the safety checker sees', () => {
  test.each(BREACHES)('%s: %s', (id, _, breach) => {
    let violation: unknown;
    try {
      breach(new Trio());
    } catch (error) {
      violation = error;
    }
    expect(violation).toBeInstanceOf(InvariantViolation);
    expect((violation as InvariantViolation).id).toBe(id);
  });

  test('nothing wrong in a cluster that writes, commits and applies', () => {
    const trio = new Trio();
    for (let index = 1; index <= 3; index += 1) {
      trio.writeEverywhere(entry(index, 1, `serial ${index}`));
      for (const id of trio.nodes.keys()) {
        trio.commit(id, index);
        trio.apply(id, entry(index, 1, `serial ${index}`));
        trio.change(id, { appliedIndex: index });
      }
    }
    expect(trio.checker.committedIndex).toBe(3);
  });
});
