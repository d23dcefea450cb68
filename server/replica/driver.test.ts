import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import type { Entry, Message, NodeId, Server } from '../raft/message.ts';
import { Raft } from '../raft/raft.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { LogAppend } from '../storage/durable-log.ts';
import { EventQueue } from '../testing/simulation/event-queue.ts';
import { simulatedClock } from '../testing/simulation/simulated-clock.ts';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import { Driver } from './driver.ts';
import { Proposals } from './proposals.ts';

type Append = { readonly write: LogAppend; done(): void; fail(error: Error): void };

type Harness = {
  readonly driver: Driver;
  readonly proposals: Proposals;
  /** Writes that the log was asked for and has not finished. */
  readonly appends: Append[];
  readonly sent: Message[];
  readonly applied: Entry[];
  readonly failures: unknown[];
  status(): RaftStatus;
};

const drivers: Driver[] = [];

afterEach(() => {
  for (const driver of drivers.splice(0)) driver.stop();
});

/** A driver of node `n1` among `voters`, over a log whose writes end when the test says so. */
function start(
  voters: readonly string[],
  electionTicks = 1_000,
  clock: Clock = systemClock,
): Harness {
  const servers = voters.map((id): Server => ({ id, address: '', suffrage: 'voter' }));
  const configuration = { servers };
  const raft = new Raft({
    id: 'n1',
    hardState: { currentTerm: 1, votedFor: null, commitIndex: 0 },
    snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration },
    entries: [],
    appliedIndex: 0,
    configuration,
    electionTicks,
    heartbeatTicks: 10,
    leaseMs: 0,
    random: () => 0,
    commitNotify: { kind: 'push', isGathered: true },
    limits: { appendBytesMax: 1e6, inflightAppendsMax: 8, uncommittedBytesMax: 1_000 },
  });
  const harness = {
    proposals: new Proposals({
      proposalsMax: 100,
      entryBytesMax: 1e6,
      transactionBytesMax: 1e6,
      fateTimeoutMs: 1e6,
    }),
    appends: [] as Append[],
    sent: [] as Message[],
    applied: [] as Entry[],
    failures: [] as unknown[],
    status: () => raft.status(),
  };
  const driver = new Driver({
    clock,
    raft,
    proposals: harness.proposals,
    heartbeatTicks: 10,
    log: {
      append: (write) => new Promise((done, fail) => harness.appends.push({ write, done, fail })),
      compact: () => undefined,
      close: () => Promise.resolve(),
    },
    send: (message) => harness.sent.push(message),
    flush: () => undefined,
    sendSnapshot: () => undefined,
    applyEntries: (entries) => harness.applied.push(...entries),
    installSnapshot: () => Promise.resolve(),
    discardSnapshot: () => undefined,
    endReads: () => undefined,
    observe: () => undefined,
    onFatal: (error) => harness.failures.push(error),
  });
  drivers.push(driver);
  driver.start();
  return { ...harness, driver };
}

/** Until all that was enqueued has led to all that it leads to. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 8; turns += 1) await nextTurn();
}

/** Makes `n1` the leader: the votes of all, and its no-op durable. */
async function lead(harness: Harness): Promise<void> {
  harness.driver.enqueue({ kind: 'campaign' });
  await settle();
  const from = 'n2';
  const term = 2;
  if (harness.status().role === 'preCandidate') {
    harness.driver.enqueue({
      kind: 'message',
      message: {
        kind: 'requestVoteResponse',
        from,
        to: 'n1',
        term,
        isPreVote: true,
        voteGranted: true,
      },
    });
    await settle();
  }
  for (const append of harness.appends.splice(0)) append.done();
  await settle();
  if (harness.status().role === 'candidate') {
    harness.driver.enqueue({
      kind: 'message',
      message: {
        kind: 'requestVoteResponse',
        from,
        to: 'n1',
        term,
        isPreVote: false,
        voteGranted: true,
      },
    });
    await settle();
  }
  for (const append of harness.appends.splice(0)) append.done();
  await settle();
  expect(harness.status().role).toBe('leader');
  harness.sent.length = 0;
  harness.applied.length = 0;
}

function appendOf(index: number, leaderCommit: number): Message {
  const entry: Entry = { index, term: 2, kind: 'command', command: Buffer.from('x') };
  const previous = { prevLogIndex: index - 1, prevLogTerm: index === 1 ? 0 : 2 };
  const addressed = { from: 'n2', to: 'n1', term: 2 };
  return { kind: 'appendEntries', ...addressed, ...previous, entries: [entry], leaderCommit };
}

const matches = (messages: readonly Message[]): number[] =>
  messages.flatMap((each) => (each.kind === 'appendEntriesResponse' ? [each.matchIndex] : []));

test('a single server applies nothing before its disk holds it', async () => {
  const harness = start(['n1']);
  await lead(harness);
  void harness.proposals.submit(Buffer.from('a'));
  harness.driver.wake();
  await settle();
  expect(harness.appends).toHaveLength(1);
  expect(harness.applied).toEqual([]);
  harness.appends[0]?.done();
  await settle();
  expect(harness.applied.map((entry) => entry.command.toString())).toEqual(['a']);
});

test('a leader sends while it writes, all proposals of a turn as one', async () => {
  const harness = start(['n1', 'n2']);
  await lead(harness);
  const match = { matchIndex: 1, rejectedIndex: 0, hintIndex: 0, hintTerm: 0, appliedIndex: 0 };
  const addressed = { from: 'n2', to: 'n1', term: 2 };
  const message = { kind: 'appendEntriesResponse', ...addressed, success: true, ...match } as const;
  harness.driver.enqueue({ kind: 'message', message });
  await settle();
  harness.sent.length = 0;
  for (const command of ['a', 'b', 'c']) void harness.proposals.submit(Buffer.from(command));
  harness.driver.wake();
  await settle();
  expect(harness.appends.map(({ write }) => write.entries.length)).toEqual([3]);
  const appends = harness.sent.flatMap((each) =>
    each.kind === 'appendEntries' ? [each.entries.length] : [],
  );
  expect(appends).toEqual([3]);
});

test('what is proposed in a turn is one batch, in whatever order its microtasks and ticks run', async () => {
  const harness = start(['n1']);
  await lead(harness);
  const propose = (command: string): void => {
    void harness.proposals.submit(Buffer.from(command));
    harness.driver.wake();
  };
  process.nextTick(() => propose('a'));
  queueMicrotask(() => {
    propose('b');
    process.nextTick(() => propose('c'));
  });
  propose('d');
  await settle();
  expect(harness.appends.map(({ write }) => write.entries.length)).toEqual([4]);
});

test('a follower claims only what its disk holds, in order', async () => {
  const harness = start(['n1', 'n2']);
  harness.driver.enqueue({ kind: 'message', message: appendOf(1, 0) });
  await settle();
  harness.driver.enqueue({ kind: 'message', message: appendOf(2, 1) });
  await settle();
  expect(harness.appends).toHaveLength(2);
  expect(matches(harness.sent)).toEqual([]);
  harness.appends[1]?.done();
  await settle();
  expect(matches(harness.sent)).toEqual([]);
  expect(harness.applied).toEqual([]);
  harness.appends[0]?.done();
  await settle();
  expect(matches(harness.sent)).toEqual([1, 2]);
  expect(harness.applied.map((entry) => entry.index)).toEqual([1]);
});

test('a failing disk is fatal once, and nothing is sent afterwards', async () => {
  const harness = start(['n1', 'n2']);
  harness.driver.enqueue({ kind: 'message', message: appendOf(1, 0) });
  harness.driver.enqueue({ kind: 'message', message: appendOf(2, 0) });
  await settle();
  harness.sent.length = 0;
  const failure = new Error('EIO');
  harness.appends[0]?.fail(failure);
  await settle();
  harness.driver.enqueue({ kind: 'message', message: appendOf(1, 1) });
  await settle();
  expect(harness.failures).toEqual([failure]);
  expect(harness.sent).toEqual([]);
});

test('too many bytes under way are refused as overloaded', async () => {
  const harness = start(['n1']);
  await lead(harness);
  const first = harness.proposals.submit(Buffer.alloc(900));
  harness.driver.wake();
  await settle();
  const second = harness.proposals.submit(Buffer.alloc(900));
  harness.driver.wake();
  await expect(second).rejects.toMatchObject({ code: 'overloaded' });
  harness.appends[0]?.done();
  await settle();
  expect(harness.applied).toHaveLength(1);
  harness.proposals.applied(2, 2);
  expect(await first).toEqual({ kind: 'applied', index: 2 });
});

test('a node that was away itself does not take the others for silent', () => {
  const queue = new EventQueue();
  let awayMs = 0;
  const clock = { ...simulatedClock(queue), nowMs: () => queue.nowUs / 1000 + awayMs };
  const harness = start(['n1', 'n2'], 30, clock);
  while (queue.runNext(100_000));
  // For ten election timeouts nothing runs at all.
  awayMs = 6_000;
  while (queue.runNext(200_000));
  expect(harness.status().role).toBe('follower');
  while (queue.runNext(700_000));
  expect(harness.status().role).toBe('preCandidate');
});

/** Where a process starves, each of its timers is late: by fifteen ticks of real time here. */
function starvedClock(queue: EventQueue): Clock {
  return { ...simulatedClock(queue), nowMs: () => (queue.nowUs / 1000) * 15 };
}

test('a node that is late every time soon sees that nobody leads', () => {
  const queue = new EventQueue();
  const harness = start(['n1', 'n2'], 30, starvedClock(queue));
  // Three election timeouts of its clock, in six stalls.
  while (queue.runNext(120_000));
  expect(harness.status().role).toBe('preCandidate');
});

test('a node that is late every time, and hears of a leader each time, stays with it', () => {
  const queue = new EventQueue();
  const harness = start(['n1', 'n2'], 30, starvedClock(queue));
  const heartbeat: Message = {
    kind: 'appendEntries',
    ...{ from: 'n2', to: 'n1', term: 1, prevLogIndex: 0, prevLogTerm: 0 },
    ...{ entries: [], leaderCommit: 0 },
  };
  for (let untilUs = 20_000; untilUs <= 400_000; untilUs += 20_000) {
    harness.driver.enqueue({ kind: 'message', message: heartbeat });
    while (queue.runNext(untilUs));
    expect(harness.status().role).toBe('follower');
  }
});

test('who proposed hears in the same turn that leadership was lost for want of a quorum', async () => {
  const harness = start(['n1', 'n2'], 30);
  await lead(harness);
  const lost = vi.spyOn(harness.proposals, 'leadershipLost');
  while (harness.status().role === 'leader') await nextTurn();
  expect(harness.status().role).toBe('follower');
  expect(lost).toHaveBeenCalledTimes(1);
});

test('stop() answers what was asked and not yet done, and what is asked later', async () => {
  const { driver } = start(['n1']);
  const answers: unknown[] = [];
  const proposal = { command: Buffer.alloc(0), resolve: () => undefined, reject: () => undefined };
  const refused = (result: unknown): number => answers.push(result);
  const ask = (): void => {
    driver.enqueue({ kind: 'configure', edit: () => undefined, proposal, refused });
    driver.enqueue({ kind: 'transfer', to: 'n2', answer: (began) => answers.push(began) });
  };
  ask();
  driver.stop();
  expect(answers).toEqual([{ kind: 'notLeader' }, false]);
  ask();
  expect(answers).toEqual([{ kind: 'notLeader' }, false, { kind: 'notLeader' }, false]);
});

test('writes that never pause do not prolong the installation of a snapshot', async () => {
  const { driver, appends, failures } = start(['n1', 'n2']);
  const servers = ['n1', 'n2'].map((id): Server => ({ id, address: '', suffrage: 'voter' }));
  const snapshot = { lastIncludedIndex: 7, lastIncludedTerm: 2, configuration: { servers } };
  let isDone = false;
  driver.enqueue({
    kind: 'snapshotReceived',
    message: { kind: 'installSnapshot', from: 'n2', to: 'n1', term: 2, snapshot },
    file: '7-2.snapshot',
    done: () => (isDone = true),
  });
  await settle();
  for (let index = 8; index < 12; index += 1) {
    driver.enqueue({ kind: 'message', message: appendOf(index, 7) });
    await settle();
    appends.shift()?.done();
    await settle();
  }
  expect(appends.length).toBeGreaterThan(0);
  expect(isDone).toBe(true);
  expect(failures).toEqual([]);
});

test('everyone who sent a snapshot hears of its end, also of one that came twice', async () => {
  const { driver, failures } = start(['n1', 'n2', 'n3']);
  const heard: NodeId[] = [];
  const servers = ['n1', 'n2', 'n3'].map((id): Server => ({ id, address: '', suffrage: 'voter' }));
  for (const from of ['n2', 'n3']) {
    driver.enqueue({
      kind: 'snapshotReceived',
      message: {
        kind: 'installSnapshot',
        from,
        to: 'n1',
        term: from === 'n2' ? 2 : 3,
        snapshot: { lastIncludedIndex: 7, lastIncludedTerm: 1, configuration: { servers } },
      },
      file: '7-1.snapshot',
      done: () => heard.push(from),
    });
  }
  await settle();
  driver.enqueue({ kind: 'unreachable', id: 'n2' });
  await settle();
  expect(heard).toContain('n2');
  expect(failures).toEqual([]);
});

/** What the leader has sent to `n2` since it was last asked: how many entries, and which commit. */
function appendsToN2({ sent }: Harness): { entries: number; leaderCommit: number }[] {
  return sent.splice(0).flatMap((message) => {
    if (message.kind !== 'appendEntries' || message.to !== 'n2') return [];
    return [{ entries: message.entries.length, leaderCommit: message.leaderCommit }];
  });
}

/** `n2` holds the log up to `matchIndex`; returns when the turn that hears of it is over. */
async function acknowledge({ driver, appends }: Harness, matchIndex: number): Promise<void> {
  for (const append of appends.splice(0)) append.done();
  await settle();
  const indexes = { matchIndex, rejectedIndex: 0, hintIndex: 0, hintTerm: 0, appliedIndex: 0 };
  driver.enqueue({
    kind: 'message',
    message: {
      ...{ kind: 'appendEntriesResponse', from: 'n2', to: 'n1', term: 2 },
      ...{ success: true, ...indexes },
    },
  });
  await nextTurn();
}

async function leadWithPeer(): Promise<Harness> {
  const harness = start(['n1', 'n2', 'n3']);
  await lead(harness);
  await acknowledge(harness, 1);
  await settle();
  harness.sent.length = 0;
  return harness;
}

function submit({ driver, proposals }: Harness, count: number): void {
  for (let i = 0; i < count; i += 1) void proposals.submit(Buffer.from('x')).catch(() => {});
  driver.wake();
}

test('the commit of several writes is told with what their callers write next', async () => {
  const harness = await leadWithPeer();
  submit(harness, 2);
  await settle();
  expect(appendsToN2(harness)).toEqual([{ entries: 2, leaderCommit: 1 }]);

  await acknowledge(harness, 3);
  expect(harness.applied.at(-1)?.index).toBe(3);
  submit(harness, 2);
  await settle();
  expect(appendsToN2(harness)).toEqual([{ entries: 2, leaderCommit: 3 }]);
});

test('if nothing is written next it is told alone, a turn later', async () => {
  const harness = await leadWithPeer();
  submit(harness, 2);
  await settle();
  await acknowledge(harness, 3);
  appendsToN2(harness);
  await nextTurn();
  expect(appendsToN2(harness)).toEqual([{ entries: 0, leaderCommit: 3 }]);
  await settle();
  expect(appendsToN2(harness)).toEqual([]);
});

test('the commit of a single write is told in the turn that hears of it', async () => {
  const harness = await leadWithPeer();
  submit(harness, 1);
  await settle();
  appendsToN2(harness);
  await acknowledge(harness, 2);
  expect(appendsToN2(harness)).toEqual([{ entries: 0, leaderCommit: 2 }]);
});

test.each([
  { name: 'alone', voters: ['n1'], committed: 6 },
  { name: 'whose peers are silent', voters: ['n1', 'n2', 'n3'], committed: 3 },
])('a leader $name comes to rest, whatever it has committed', async ({ voters, committed }) => {
  let turns = 0;
  const clock: Clock = {
    ...systemClock,
    every: () => () => undefined,
    nextTurn: (action) => {
      turns += 1;
      systemClock.nextTurn(action);
    },
  };
  const harness = start(voters, 1_000, clock);
  await lead(harness);
  if (voters.length > 1) await acknowledge(harness, 1);
  submit(harness, 5);
  await settle();
  for (const append of harness.appends.splice(0)) append.done();
  await settle();
  // The last that is heard: what it commits is told to those who do not answer, and that is all.
  if (voters.length > 1) await acknowledge(harness, committed);
  await settle();
  expect(harness.applied.at(-1)?.index).toBe(committed);
  const before = turns;
  await settle();
  expect(turns).toBe(before);
  expect(harness.failures).toEqual([]);
});
