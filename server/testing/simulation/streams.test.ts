import { expect, test } from 'vitest';

import { FrameReader, frameLength } from '../../frames.ts';
import { Random } from '../random.ts';
import { EventQueue } from './event-queue.ts';
import type { SimulatedSocket } from './simulated-socket.ts';
import { Streams, type StreamHost, type StreamPlan } from './streams.ts';

type Cluster = {
  readonly queue: EventQueue;
  readonly streams: Streams;
  readonly hosts: Map<string, StreamHost>;
  readonly accepted: SimulatedSocket[];
  /** Directed links: `n1>n2`. */
  readonly cuts: Set<string>;
  /** Breaks the connection that sends next. */
  isBreaking: boolean;
  dial(): Promise<SimulatedSocket>;
  run(forUs: number): Promise<void>;
};

function cluster(plan: StreamPlan = { windowBytes: 1_000, cutProbability: 0.5 }): Cluster {
  const queue = new EventQueue();
  const random = new Random(7, 'streams');
  const hosts = new Map<string, StreamHost>();
  const self: Cluster = {
    ...{ queue, hosts, accepted: [], cuts: new Set<string>(), isBreaking: false },
    streams: new Streams({
      ...{ plan, queue, random, hostOf: (id) => hosts.get(id) },
      network: {
        isCut: (from, to) => self.cuts.has(`${from}>${to}`),
        segmentArrivalUs: () =>
          self.isBreaking ? undefined : queue.nowUs + random.between(1, 1_000),
      },
    }),
    dial: async () => {
      const from = hosts.get('n1');
      if (from === undefined) throw new Error('n1 is down');
      const dialled = self.streams.dial(from, 'n2');
      await self.run(10_000);
      return (await dialled) as SimulatedSocket;
    },
    run: async (forUs) => {
      const endUs = queue.nowUs + forUs;
      const afterPromises = (): Promise<void> => new Promise((run) => process.nextTick(run));
      await afterPromises();
      while (queue.runNext(endUs)) await afterPromises();
      queue.nowUs = endUs;
    },
  };
  for (const id of ['n1', 'n2']) {
    hosts.set(id, {
      id,
      run: (callback) => callback(),
      accept: (socket) => self.accepted.push(socket),
    });
  }
  return self;
}

function frames(count: number): Buffer[] {
  return Array.from({ length: count }, (_, number) => {
    const payload = Buffer.from(`frame ${number} ${'.'.repeat(number)}`);
    return Buffer.concat([frameLength(payload.length), payload]);
  });
}

test.each([1, 3, 100, 65_536])(
  'what is written is read, in whatever pieces: a window of %i bytes',
  async (windowBytes) => {
    const world = cluster({ windowBytes, cutProbability: 0.5 });
    const socket = await world.dial();
    const [read, chunks]: [string[], Buffer[]] = [[], []];
    const reader = new FrameReader(10_000);
    world.accepted[0]?.on('data', (chunk) => {
      chunks.push(chunk);
      for (const payload of reader.push(chunk)) read.push(payload.toString());
    });
    for (const frame of frames(40)) socket.write(frame);
    await world.run(10_000_000);
    expect(read).toEqual(frames(40).map((frame) => frame.subarray(4).toString()));
    expect(chunks.length).toBeGreaterThan(1);
  },
);

test('memory is looked at when it leaves, not when it is handed over', async () => {
  const world = cluster({ windowBytes: 10, cutProbability: 0 });
  const socket = await world.dial();
  const memory = Buffer.alloc(20, 'a');
  let isWritten = false;
  socket.write(memory, () => (isWritten = true));
  await world.run(10_000);
  expect(isWritten).toBe(false);
  expect(socket.writableLength).toBe(10);
  memory.fill('b');
  const got: Buffer[] = [];
  world.accepted[0]?.on('data', (chunk) => got.push(chunk));
  await world.run(10_000);
  expect(Buffer.concat(got).toString()).toBe('a'.repeat(10) + 'b'.repeat(10));
  expect(isWritten).toBe(true);
});

test('a cut link holds bytes back, of its own direction alone', async () => {
  const world = cluster();
  const socket = await world.dial();
  const [here, there]: [Buffer[], Buffer[]] = [[], []];
  socket.on('data', (chunk) => here.push(chunk));
  world.accepted[0]?.on('data', (chunk) => there.push(chunk));
  world.cuts.add('n1>n2');
  socket.write(Buffer.from('to n2'));
  world.accepted[0]?.write(Buffer.from('to n1'));
  await world.run(500_000);
  expect(Buffer.concat(here).toString()).toBe('to n1');
  expect(there).toEqual([]);
  world.cuts.clear();
  await world.run(100_000);
  // What has waited comes at once.
  expect(there.map(String)).toEqual(['to n2']);
});

test('a connection that breaks takes what is under way with it, and tells both ends', async () => {
  const world = cluster({ windowBytes: 1_000, cutProbability: 0 });
  const socket = await world.dial();
  const closed: string[] = [];
  socket.on('close', () => closed.push('here'));
  world.accepted[0]?.on('close', () => closed.push('there'));
  world.isBreaking = true;
  socket.write(Buffer.from('half of a frame'));
  await world.run(1);
  world.isBreaking = false;
  await world.run(100_000);
  expect(closed.toSorted()).toEqual(['here', 'there']);
  expect(socket.destroyed).toBe(true);
  let isWritten = false;
  expect(socket.write(Buffer.from('more'), () => (isWritten = true))).toBe(false);
  await world.run(1);
  await Promise.resolve();
  expect(isWritten).toBe(true);
});

test('an end is read after all that came before it', async () => {
  const world = cluster();
  const socket = await world.dial();
  const read: string[] = [];
  const reading = (async () => {
    const accepted = world.accepted[0];
    if (accepted === undefined) return;
    for await (const chunk of accepted.iterator()) read.push(chunk.toString());
  })();
  socket.write(Buffer.from('one '));
  socket.end(Buffer.from('two'));
  await world.run(100_000);
  await reading;
  expect(read.join('')).toBe('one two');
  expect(socket.destroyed).toBe(true);
});

test('whoever reads from a connection that is reset learns it', async () => {
  const world = cluster();
  await world.dial();
  const host = world.hosts.get('n1');
  const accepted = world.accepted[0];
  if (host === undefined || accepted === undefined) throw new Error('nobody is connected');
  const reading = accepted.iterator().next();
  world.streams.reset(host);
  const running = world.run(100_000);
  await expect(reading).rejects.toThrow('reset');
  await running;
});

test('a process that has ended hears nothing, and its peer does', async () => {
  const world = cluster();
  const socket = await world.dial();
  let hasHeard = false;
  socket.on('close', () => (hasHeard = true));
  const host = world.hosts.get('n1');
  if (host !== undefined) world.streams.end(host);
  await world.run(100_000);
  expect(hasHeard).toBe(false);
  expect(world.accepted[0]?.destroyed).toBe(true);
});

test('nobody is dialled where nothing runs', async () => {
  const world = cluster();
  const from = world.hosts.get('n1');
  world.hosts.delete('n2');
  if (from === undefined) throw new Error('n1 is down');
  const dialled = world.streams.dial(from, 'n2');
  const running = world.run(100_000);
  await expect(dialled).rejects.toThrow('refused');
  await running;
  expect(world.streams.counts.refused).toBe(1);
});
