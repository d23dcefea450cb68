/** The two ends of the port, with a stand-in for what runs behind it. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import type { Configuration, Entry } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import { systemClock } from './clock.ts';
import type { ConfigureInput } from './driver-input.ts';
import { Proposals } from './proposals.ts';
import type { RaftEvents, RaftHost, RaftStart, RunningRaft } from './raft-host.ts';
import { NO_STATISTICS } from './raft-statistics.ts';
import { serveRaft } from './raft-servant.ts';
import { memoryOf, packEntries, unpackEntries } from './thread-protocol.ts';
import { createThreadedRaft } from './threaded-raft.ts';

const UNANSWERED_BYTES_MAX = 100;
const A: Configuration = { servers: [{ id: 'a', address: '', suffrage: 'voter' }] };
const B: Configuration = { servers: [{ id: 'b', address: '', suffrage: 'voter' }] };
const POSITION = { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration: A };
const START: RaftStart = {
  credentials: { certificatePem: '', privateKeyPem: '' },
  address: '',
  position: POSITION,
  founding: [],
};
const STATUS: RaftStatus = {
  id: 'a',
  role: 'leader',
  leaderId: 'a',
  currentTerm: 2,
  votedFor: 'a',
  commitIndex: 1,
  appliedIndex: 1,
  firstIndex: 1,
  lastIndex: 1,
  durableIndex: 1,
  configuration: A,
  transferTarget: null,
  hasLease: false,
  freshness: undefined,
  progress: new Map(),
};

const ports: MessagePort[] = [];

afterEach(() => {
  for (const port of ports.splice(0)) port.close();
});

/** What the raft behind the port was told last. */
type Behind = {
  events: RaftEvents | undefined;
  readonly configured: ConfigureInput[];
  readonly applied: number[];
};

type Ends = { readonly host: RaftHost; readonly behind: Behind };

function connect(): Ends {
  const behind: Behind = { events: undefined, configured: [], applied: [] };
  const raft: RunningRaft = {
    wake: () => undefined,
    readIndex: () => undefined,
    configure: (input) => behind.configured.push(input),
    applied: (entries) => behind.applied.push(...entries.map(({ index }) => index)),
    restored: () => undefined,
    durable: () => undefined,
    status: () => STATUS,
    statistics: () => NO_STATISTICS,
    transferLeadership: () => Promise.resolve(),
    stop: () => undefined,
    close: () => Promise.resolve(),
  };
  const { port1, port2 } = new MessageChannel();
  ports.push(port1);
  const inner: RaftHost = {
    open: () =>
      Promise.resolve({
        isEmpty: false,
        start: async (_place, events) => {
          behind.events = events;
          return raft;
        },
        close: () => Promise.resolve(),
      }),
  };
  serveRaft(port2, inner, systemClock);
  const options = { clock: systemClock, unansweredBytesMax: UNANSWERED_BYTES_MAX };
  return { host: createThreadedRaft(port1, options), behind };
}

type Front = {
  readonly raft: RunningRaft;
  readonly proposals: Proposals;
  readonly entries: Entry[];
};

async function start(host: RaftHost): Promise<Front> {
  const proposals = new Proposals({
    proposalsMax: 100,
    entryBytesMax: 1_000,
    transactionBytesMax: 1_000,
    fateTimeoutMs: 1_000,
  });
  const entries: Entry[] = [];
  const opened = await host.open(POSITION);
  const raft = await opened.start(START, {
    proposals,
    applyEntries: (each) => entries.push(...each),
    isBacklogged: () => false,
    installSnapshot: () => Promise.resolve(),
    leaseSnapshot: () => Promise.reject(new Error('no snapshot')),
    endReads: () => undefined,
    observe: () => undefined,
    onFatal: () => undefined,
  });
  return { raft, proposals, entries };
}

/** Until what was posted has arrived, and its answer, too. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 10; turns += 1) await nextTurn();
}

test('writes of a turn arrive as one batch; an answer settles them by their place in it', async () => {
  const { host, behind } = connect();
  const { raft, proposals, entries } = await start(host);
  const writes = ['a', 'b'].map((text) => proposals.submit(Buffer.from(text)));
  raft.wake();
  await settle();
  const [batch = [], ...more] = behind.events?.proposals.takeBatches() ?? [];
  expect(more).toEqual([]);
  expect(batch.map(({ command }) => Buffer.from(command).toString())).toEqual(['a', 'b']);
  behind.events?.proposals.accepted(batch, 7, 2);
  behind.events?.applyEntries(
    batch.map(({ command }, i) => ({ index: 7 + i, term: 2, kind: 'command', command })),
  );
  await settle();
  for (const { index, term } of entries) proposals.applied(index, term);
  raft.applied(entries);
  expect(await Promise.all(writes)).toMatchObject([{ index: 7 }, { index: 8 }]);
  await settle();
  expect(behind.applied).toEqual([7, 8]);
});

test('beyond what may be unanswered writes are overloaded, until something is answered', async () => {
  const { host, behind } = connect();
  const { raft, proposals } = await start(host);
  const first = proposals.submit(Buffer.alloc(UNANSWERED_BYTES_MAX));
  raft.wake();
  await settle();
  const second = proposals.submit(Buffer.alloc(1));
  raft.wake();
  await expect(second).rejects.toMatchObject({ code: 'overloaded' });
  const [batch = []] = behind.events?.proposals.takeBatches() ?? [];
  behind.events?.proposals.accepted(batch, 1, 2);
  await settle();
  void proposals.submit(Buffer.alloc(1)).catch(() => undefined);
  raft.wake();
  await settle();
  expect(behind.events?.proposals.takeBatches()).toHaveLength(1);
  proposals.applied(1, 2);
  expect(await first).toMatchObject({ index: 1 });
});

test('what a stopped run left behind is not proposed by the next one', async () => {
  const { host, behind } = connect();
  const former = await start(host);
  const write = former.proposals.submit(Buffer.from('a'));
  former.raft.wake();
  await settle();
  former.raft.stop();
  former.proposals.abandonAll('the node stopped');
  await expect(write).rejects.toMatchObject({ code: 'outcome-unknown' });
  await former.raft.close();
  await start(host);
  expect(behind.events?.proposals.takeBatches()).toEqual([]);
});

test('a change of the configuration is computed anew when another one came first', async () => {
  const { host, behind } = connect();
  const { raft } = await start(host);
  const seen: Configuration[] = [];
  const told: unknown[] = [];
  raft.configure({
    kind: 'configure',
    edit: (inForce) => {
      seen.push(inForce);
      return { servers: [...inForce.servers, ...B.servers] };
    },
    proposal: { command: new Uint8Array(0), resolve: () => undefined, reject: () => undefined },
    refused: (result) => told.push(result),
  });
  await settle();
  const first = behind.configured.shift();
  const C: Configuration = { servers: [{ id: 'c', address: '', suffrage: 'voter' }] };
  expect(first?.edit(C)).toBeUndefined();
  first?.refused({ kind: 'unchanged' });
  await settle();
  const second = behind.configured.shift();
  expect(second?.edit(C)).toEqual({ servers: [...C.servers, ...B.servers] });
  second?.refused({ kind: 'pending' });
  await settle();
  expect(seen).toEqual([A, C]);
  expect(told).toEqual([{ kind: 'pending' }]);
});

test('packed entries are copies that can be given away, and the sender keeps its own (N-02, N-03)', () => {
  // From Node's pool, as what a socket reads may be.
  const commands = ['first', '', 'third'].map((text) => Buffer.from(text));
  const entries = commands.map((command, i): Entry => {
    return { index: 5 + i, term: i < 2 ? 1 : 2, kind: i === 1 ? 'noop' : 'command', command };
  });
  const packed = packEntries(entries);
  const sent = structuredClone(packed, { transfer: memoryOf(packed) });
  expect(packed.bytes.byteLength).toBe(0);
  expect(commands.map(String)).toEqual(['first', '', 'third']);
  const received = unpackEntries(sent);
  expect(received.map((entry) => ({ ...entry, command: Buffer.from(entry.command) }))).toEqual(
    entries,
  );
});
