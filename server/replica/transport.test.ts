import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Message } from '../raft/message.ts';
import { appendOf, heartbeat, TransportNodes } from '../testing/transport-nodes.ts';
import type { TransportNode } from '../testing/transport-nodes.ts';

let nodes: TransportNodes;

beforeEach(async () => {
  nodes = await TransportNodes.create();
});

afterEach(() => nodes.close());

test('messages arrive in order; the answer finds its way without any configuration', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await nodes.node('n1', addresses), await nodes.node('n2', new Map())];
  addresses.set('n2', two.address);
  const sent = Array.from({ length: 100 }, (_, number) => heartbeat('n1', 'n2', number));
  for (const message of sent) one.transport.send(message);
  one.transport.flush();
  await two.hasReceived(100);
  expect(two.received).toEqual(sent);

  two.transport.send(heartbeat('n2', 'n1', 7));
  two.transport.flush();
  await one.hasReceived(1);
  expect(one.received).toEqual([heartbeat('n2', 'n1', 7)]);
});

test('a peer that is away is reported, and reached when it is back', async () => {
  const addresses = new Map<string, string>();
  const one = await nodes.node('n1', addresses);
  one.transport.send(heartbeat('n1', 'n2', 1));
  const reported = one.isUnreachable();
  one.transport.flush();
  await reported;
  expect(one.unreachable).toEqual(['n2']);

  const two = await nodes.node('n2', new Map([['n1', one.address]]));
  addresses.set('n2', two.address);
  // Its greeting ends the back-off.
  two.transport.greet('n1');
  two.transport.send(heartbeat('n2', 'n1', 1));
  two.transport.flush();
  await one.hasReceived(1);
  one.transport.send(heartbeat('n1', 'n2', 2));
  one.transport.flush();
  await two.hasReceived(1);
  expect(two.received).toEqual([heartbeat('n1', 'n2', 2)]);
});

test('a lost connection is reported and dialled anew', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await nodes.node('n1', addresses), await nodes.node('n2', addresses)];
  addresses.set('n1', one.address).set('n2', two.address);
  one.transport.send(heartbeat('n1', 'n2', 1));
  one.transport.flush();
  await two.hasReceived(1);
  const reported = one.isUnreachable();
  two.accepted[0]?.destroy();
  await reported;
  two.transport.greet('n1');
  for (let number = 2; two.received.length < 2 && number < 1_000; number += 1) {
    one.transport.send(heartbeat('n1', 'n2', number));
    const next = Promise.race([two.hasReceived(2), one.isUnreachable()]);
    one.transport.flush();
    await next;
    await new Promise(setImmediate);
  }
  expect(two.accepted).toHaveLength(2);
});

/** Accepts like `two`, but never reads what comes on `bulk`. */
function ignoringBulk(two: TransportNode): Socket[] {
  const bulk: Socket[] = [];
  const accept = two.transport.accept.bind(two.transport);
  two.transport.accept = (socket: Socket) => {
    socket.once('data', (chunk: Buffer) => {
      // The first connection is `control`, whose hello comes alone.
      if (two.accepted.length === 1) {
        accept(socket);
        socket.emit('data', chunk);
        return;
      }
      bulk.push(socket);
      socket.pause();
    });
  };
  return bulk;
}

test('appends that nobody reads delay no heartbeat, and cost a bounded queue', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await nodes.node('n1', addresses), await nodes.node('n2', new Map())];
  addresses.set('n2', two.address);
  const bulk = ignoringBulk(two);
  one.transport.send(heartbeat('n1', 'n2', 1));
  one.transport.flush();
  await two.hasReceived(1);
  const mib = 1024 * 1024;
  let lost = one.unreachable.length;
  for (let count = 2; count < 100; count += 1) {
    one.transport.send(appendOf('n1', 'n2', mib));
    one.transport.send(heartbeat('n1', 'n2', count));
    one.transport.flush();
    await two.hasReceived(count);
    expect(one.transport.backlogBytes('n2')).toBeLessThanOrEqual(18 * mib);
    lost = one.unreachable.length;
  }
  expect(bulk).toHaveLength(1);
  // 98 MiB went nowhere: what the bound did not hold was reported.
  expect(lost).toBeGreaterThan(3);
  expect(two.received.every(({ kind }) => kind === 'heartbeat')).toBe(true);
});

test('small appends follow a large one that is unanswered, and return to control after it', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await nodes.node('n1', addresses), await nodes.node('n2', new Map())];
  addresses.set('n2', two.address);
  const [large, small] = [100 * 1024, 10];
  const append = (prevLogIndex: number, bytes: number): Message => {
    const entry = { index: prevLogIndex + 1, term: 1, kind: 'command' as const };
    const entries = [{ ...entry, command: Buffer.alloc(bytes) }];
    const previous = { prevLogIndex, prevLogTerm: 1, leaderCommit: 0 };
    return { kind: 'appendEntries', from: 'n1', to: 'n2', term: 1, ...previous, entries };
  };
  const answer = (matchIndex: number): Message => ({
    ...{ kind: 'appendEntriesResponse', from: 'n2', to: 'n1', term: 1, success: true, matchIndex },
    ...{ rejectedIndex: 0, hintIndex: 0, hintTerm: 0, appliedIndex: 0 },
  });
  const indexes = (): number[] =>
    two.received.map((each) => (each.kind === 'appendEntries' ? each.prevLogIndex : -1));
  for (let index = 0; index < 50; index += 1) {
    one.transport.send(append(index, index % 10 === 0 ? large : small));
    one.transport.flush();
  }
  await two.hasReceived(50);
  expect(indexes()).toEqual(Array.from({ length: 50 }, (_, index) => index));
  const bytesRead = (): number[] => two.accepted.map((socket) => socket.bytesRead);
  const before = bytesRead();
  const bulk = before.indexOf(Math.max(...before));
  expect(before).toHaveLength(2);

  two.transport.send(answer(50));
  two.transport.flush();
  await one.hasReceived(1);
  one.transport.send(append(50, small));
  one.transport.flush();
  await two.hasReceived(51);
  expect(bytesRead()[bulk]).toBe(before[bulk]);
  expect(bytesRead()[1 - bulk]).toBeGreaterThan(before[1 - bulk] ?? Infinity);
});
