/** Sender and receiver over plain sockets, without raft around them. */

import type { FileHandle } from 'node:fs/promises';
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FrameReader } from '../frames.ts';
import type { InstallSnapshot } from '../raft/message.ts';
import { createMemoryStore } from '../storage/memory.ts';
import type { Store } from '../storage/store.ts';
import { snapshotHost } from '../testing/snapshot-host.ts';
import { encodeControl } from './control-frames.ts';
import { PEER_FRAME_BYTES_MAX } from './frame-fields.ts';
import { SnapshotBuilder } from './snapshot-builder.ts';
import { SnapshotReceiver } from './snapshot-receiver.ts';
import { PROGRESS_TIMEOUT_MS, SENDS_MAX, SnapshotSender } from './snapshot-sender.ts';

const VALUE_BYTES = 100_000;
const configuration = { servers: [] };
let directory: string;
let store: Store;
let builder: SnapshotBuilder;
const ends: (() => void)[] = [];
const lines: { event: string; peer?: string; offset?: number }[] = [];
const logger = {
  info: (fields: object, event: string) => lines.push({ event, ...fields }),
  warn: (fields: object, event: string) => lines.push({ event, ...fields }),
  error: () => undefined,
};

/** A state of some megabytes at an index. */
async function fill(index: number, keys = 40): Promise<void> {
  const operations = Array.from({ length: keys }, (_, number) => ({
    ...({ kind: 'put', key: `k/${number}` } as const),
    value: Buffer.alloc(VALUE_BYTES, index + number),
  }));
  await store.apply(operations, { lastIncludedIndex: index, lastIncludedTerm: 1, configuration });
  store.publish();
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'transfer-'));
  store = createMemoryStore();
  await fill(10);
  builder = new SnapshotBuilder({
    ...snapshotHost,
    directory: join(directory, 'sender'),
    store,
    bytesPerSecond: 0,
    logger,
  });
  lines.length = 0;
});

afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await builder.close();
  await rm(directory, { recursive: true });
});

type Follower = {
  readonly port: number;
  readonly installed: { readonly message: InstallSnapshot; readonly bytes: Buffer }[];
  readonly sockets: Socket[];
  /** Called with each connection's byte count as it grows. */
  onBytes: (socket: Socket, bytes: number) => void;
  /** What an installation waits for. */
  installing: Promise<void>;
  files(): Promise<string[]>;
};

async function follower(id: string, snapshotBytesMax = 1e9): Promise<Follower> {
  const place = join(directory, id);
  const receiver = new SnapshotReceiver({
    ...{ ...snapshotHost, directory: place, nodeId: id, snapshotBytesMax, logger },
    onSnapshot: async (message, file) => {
      await self.installing;
      self.installed.push({ message, bytes: await readFile(file) });
      await rm(file);
    },
  });
  const server: Server = createServer((socket) => {
    self.sockets.push(socket);
    socket.on('error', () => undefined);
    // The first byte stands for the hello: who sends.
    socket.once('readable', () => {
      const from = `n${(socket.read(1) as Buffer)[0]}`;
      const reader = new FrameReader(PEER_FRAME_BYTES_MAX);
      const push = reader.push.bind(reader);
      reader.push = (chunk) => {
        self.onBytes(socket, socket.bytesRead);
        return push(chunk);
      };
      receiver.accept({ from, socket, reader, early: [] });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    receiver.close();
    server.close();
  });
  const self: Follower = {
    ...{ port: (server.address() as AddressInfo).port, installed: [], sockets: [] },
    ...{ onBytes: () => undefined, installing: Promise.resolve() },
    files: () => readdir(place),
  };
  return self;
}

function sender(
  followers: Record<string, Follower>,
  options: { node?: number; firstIndex?: number; bytesPerSecond?: number } = {},
): {
  sender: SnapshotSender;
  done(count: number): Promise<string[]>;
  held: readonly string[];
  finished: readonly string[];
} {
  const { node = 1, firstIndex = 1, bytesPerSecond = 0 } = options;
  const [finished, held]: [string[], string[]] = [[], []];
  let wake = (): void => undefined;
  const made = new SnapshotSender({
    ...{ ...snapshotHost, builder, logger, bytesPerSecond, firstIndex: () => firstIndex },
    dial: async (to) => {
      const socket = connect(followers[to]?.port ?? 0, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write(Buffer.from([node]));
      return socket;
    },
    hold: (to, index) => held.push(`${to} ${index}`),
    onDone: (to, isComplete) => {
      finished.push(`${to} ${isComplete ? 'ok' : 'failed'}`);
      wake();
    },
  });
  ends.push(() => made.close());
  const done = async (count: number): Promise<string[]> => {
    while (finished.length < count) await new Promise<void>((resolve) => (wake = resolve));
    return finished;
  };
  return { sender: made, done, held, finished };
}

function announcement(to: string, term = 1, from = 'n1'): InstallSnapshot {
  const snapshot = { lastIncludedIndex: 10, lastIncludedTerm: 1, configuration };
  return { kind: 'installSnapshot', from, to, term, snapshot };
}

async function exported(): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const snapshot = store.exportSnapshot();
  for await (const chunk of snapshot.chunks) chunks.push(chunk);
  await snapshot.close();
  return Buffer.concat(chunks);
}

test('a snapshot is built once for all, and few are sent at a time', async () => {
  const followers = Object.fromEntries(
    await Promise.all(['n2', 'n3', 'n4', 'n5'].map(async (id) => [id, await follower(id)])),
  ) as Record<string, Follower>;
  const { sender: leader, done, held } = sender(followers);
  let most = 0;
  const connected = (): number =>
    Object.values(followers).filter(({ sockets, installed }) => sockets.length > installed.length)
      .length;
  for (const each of Object.values(followers)) {
    each.onBytes = () => (most = Math.max(most, connected()));
  }
  for (const to of Object.keys(followers)) {
    leader.send(announcement(to));
    leader.send(announcement(to));
  }
  expect((await done(4)).toSorted()).toEqual(['n2 ok', 'n3 ok', 'n4 ok', 'n5 ok']);
  // From where the log begins while the file is built, then from the file on.
  for (const to of Object.keys(followers)) {
    expect(held.filter((each) => each.startsWith(to))).toEqual([`${to} 0`, `${to} 10`]);
  }
  expect(builder.statistics().count).toBe(1);
  expect(most).toBe(SENDS_MAX);
  const bytes = await exported();
  for (const { installed } of Object.values(followers)) {
    expect(installed).toHaveLength(1);
    expect(installed[0]?.bytes.equals(bytes)).toBe(true);
    expect(installed[0]?.message.snapshot.lastIncludedIndex).toBe(10);
  }
});

test('a lost connection costs what was on its way, not what had arrived', async () => {
  const n2 = await follower('n2');
  const { sender: leader, done } = sender({ n2 });
  n2.onBytes = (socket, bytes) => {
    if (n2.sockets.length === 1 && bytes > 2_000_000) socket.destroy();
  };
  leader.send(announcement('n2'));
  expect(await done(1)).toEqual(['n2 failed']);
  await fill(11);
  leader.send(announcement('n2'));
  expect(await done(2)).toEqual(['n2 failed', 'n2 ok']);
  const starts = lines.filter(({ event }) => event === 'snapshot send started');
  expect(starts.map(({ offset }) => offset)).toEqual([0, expect.any(Number)]);
  expect(starts[1]?.offset).toBeGreaterThan(1_000_000);
  // It is the very file that was begun, though the store has gone on.
  expect(builder.statistics().count).toBe(1);
  expect(n2.installed[0]?.message.snapshot.lastIncludedIndex).toBe(10);
  expect(n2.installed[0]?.bytes.length).toBe((await exported()).length);
});

test('what a disk may have lost is not gone on with', async () => {
  const n2 = await follower('n2');
  const { sender: leader, done } = sender({ n2 });
  const file = await open(join(directory, 'any'), 'w');
  const handles = Object.getPrototypeOf(file) as FileHandle;
  await file.close();
  n2.onBytes = () => {
    n2.onBytes = () => undefined;
    const failing = vi.spyOn(handles, 'sync').mockRejectedValueOnce(new Error('EIO'));
    ends.push(() => failing.mockRestore());
  };
  leader.send(announcement('n2'));
  expect(await done(1)).toEqual(['n2 failed']);
  expect(await n2.files()).toEqual([]);
  leader.send(announcement('n2'));
  expect(await done(2)).toEqual(['n2 failed', 'n2 ok']);
});

test('what was begun is thrown away when another snapshot is offered', async () => {
  const n2 = await follower('n2');
  const { sender: leader, done } = sender({ n2 });
  n2.onBytes = (socket, bytes) => {
    if (n2.sockets.length === 1 && bytes > 2_000_000) socket.destroy();
  };
  leader.send(announcement('n2'));
  await done(1);
  expect(await n2.files()).toHaveLength(1);
  await fill(11);
  // The log begins behind the first one by now: a follower could not go on from there.
  const { sender: later, done: laterDone } = sender({ n2 }, { firstIndex: 12 });
  later.send(announcement('n2'));
  expect(await laterDone(1)).toEqual(['n2 ok']);
  expect(builder.statistics().count).toBe(2);
  expect(n2.installed[0]?.message.snapshot.lastIncludedIndex).toBe(11);
  expect(n2.installed[0]?.bytes.equals(await exported())).toBe(true);
  expect(await n2.files()).toEqual([]);
});

test('a later leader interrupts what an earlier one sends, and not the other way round', async () => {
  const n2 = await follower('n2');
  const early = sender({ n2 });
  const later = sender({ n2 }, { node: 3 });
  let begun = false;
  n2.onBytes = (_socket, bytes) => {
    if (begun || bytes < 1_000_000) return;
    begun = true;
    later.sender.send(announcement('n2', 2, 'n3'));
  };
  early.sender.send(announcement('n2', 1));
  expect(await later.done(1)).toEqual(['n2 ok']);
  expect(await early.done(1)).toEqual(['n2 failed']);
  expect(n2.installed.map(({ message }) => message.from)).toEqual(['n3']);

  let install = (): void => undefined;
  n2.installing = new Promise((resolve) => (install = resolve));
  const arrived = new Promise<void>((resolve) => {
    n2.onBytes = (_socket, bytes) => bytes > 4_000_000 && resolve();
  });
  later.sender.send(announcement('n2', 2, 'n3'));
  await arrived;
  early.sender.send(announcement('n2', 1));
  expect(await early.done(2)).toEqual(['n2 failed', 'n2 failed']);
  install();
  expect(await later.done(2)).toEqual(['n2 ok', 'n2 ok']);
});

test('a second snapshot waits while the first one is installed (etcd #18055)', async () => {
  const n2 = await follower('n2');
  let install = (): void => undefined;
  n2.installing = new Promise((resolve) => (install = resolve));
  const early = sender({ n2 });
  const later = sender({ n2 }, { node: 3 });
  const arrived = new Promise<void>((resolve) => {
    n2.onBytes = (_socket, bytes) => bytes > 4_000_000 && resolve();
  });
  early.sender.send(announcement('n2', 1));
  await arrived;
  later.sender.send(announcement('n2', 2, 'n3'));
  // It interrupts the wait of the first sender, not the installation.
  expect(await early.done(1)).toEqual(['n2 failed']);
  expect(n2.installed).toEqual([]);
  install();
  expect(await later.done(1)).toEqual(['n2 ok']);
  expect(n2.installed.map(({ message }) => message.term)).toEqual([1, 2]);
});

test('a limit of bytes per second is kept by all transfers together', async () => {
  const followers = { n2: await follower('n2'), n3: await follower('n3') };
  const bytesPerSecond = 16 * 1024 * 1024;
  const { sender: leader, done } = sender(followers, { bytesPerSecond });
  const startMs = performance.now();
  leader.send(announcement('n2'));
  leader.send(announcement('n3'));
  await done(2);
  const seconds = (performance.now() - startMs) / 1_000;
  expect(seconds).toBeGreaterThan((2 * 39 * VALUE_BYTES) / bytesPerSecond);
});

test('a leader that is none any more ends its transfers, each with a report', async () => {
  const followers = {
    n2: await follower('n2'),
    n3: await follower('n3'),
    n4: await follower('n4'),
  };
  const { sender: leader, done } = sender(followers);
  followers.n2.onBytes = (_socket, bytes) => bytes > 1_000_000 && leader.abort();
  for (const to of ['n2', 'n3', 'n4']) leader.send(announcement(to));
  expect((await done(3)).toSorted()).toEqual(['n2 failed', 'n3 failed', 'n4 failed']);
  await builder.close();
  expect(await readdir(join(directory, 'sender'))).toEqual([]);
});

test('what is larger than allowed is refused before any of it is taken', async () => {
  const n2 = await follower('n2', 1_000);
  const { sender: leader, done } = sender({ n2 });
  leader.send(announcement('n2'));
  expect(await done(1)).toEqual(['n2 failed']);
  expect(n2.sockets[0]?.bytesRead).toBeLessThan(1_000);
});

test('a receiver that asks for a snapshot and then reads nothing is given up in time', async () => {
  // More than the kernel takes of what nobody reads.
  await fill(11, 400);
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.write(Buffer.concat(encodeControl({ kind: 'snapshotReceived', offset: 0 })));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const n2: Follower = { ...(await follower('n2')), port };
  const { sender: leader, finished } = sender({ n2 });
  leader.send(announcement('n2'));
  while (!lines.some(({ event }) => event === 'snapshot send started')) await nextTurn();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const endMs = performance.now() + 5_000;
    while (finished.length === 0 && performance.now() < endMs) {
      vi.advanceTimersByTime(PROGRESS_TIMEOUT_MS / 10);
      await nextTurn();
    }
  } finally {
    vi.useRealTimers();
  }
  expect(finished).toEqual(['n2 failed']);
});
