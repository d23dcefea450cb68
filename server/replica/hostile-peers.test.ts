/** What reaches the cluster port without being a healthy peer: refused, said once, harmless. */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { appendOf, diskOf, heartbeat, TransportNodes } from '../testing/transport-nodes.ts';
import type { TransportNode } from '../testing/transport-nodes.ts';
import { encodeControl } from './control-frames.ts';
import type { Hello } from './control-frames.ts';
import { encodeMessage } from './wire.ts';

let nodes: TransportNodes;
let one: TransportNode;
let two: TransportNode;

/** `n1` and `n2` are peers that talk; whatever a test does must not end that. */
beforeEach(async () => {
  nodes = await TransportNodes.create();
  const addresses = new Map<string, string>();
  one = await nodes.node('n1', addresses);
  two = await nodes.node('n2', addresses);
  addresses.set('n1', one.address).set('n2', two.address);
  one.transport.send(heartbeat('n1', 'n2', 1));
  one.transport.flush();
  await two.hasReceived(1);
});

afterEach(() => nodes.close());

async function isUndisturbed(): Promise<boolean> {
  const before = two.received.length;
  const [socket] = two.accepted;
  one.transport.send(heartbeat('n1', 'n2', 99));
  one.transport.flush();
  await two.hasReceived(before + 1);
  return socket?.destroyed === false && one.unreachable.length === 0;
}

function hello(change: Partial<Hello> = {}): Buffer[] {
  const good = { kind: 'hello', purpose: 'control', clusterId: 'cluster' } as const;
  const { from = 'n3' } = change;
  const parties = { from, fromInstance: diskOf(from), to: 'n2', toInstance: diskOf('n2') };
  return encodeControl({ ...good, ...parties, memberIndex: 0, address: 'h:1', ...change });
}

/** A connection of somebody who holds the certificate. */
async function dial(parts: readonly Buffer[]): Promise<Socket> {
  const socket = await one.network.dial(two.address, 'bao-raft/1');
  socket.resume();
  socket.write(Buffer.concat(parts));
  return socket;
}

test('whoever breaks the format loses the connection, the others do not notice', async () => {
  const rows = {
    'another cluster': [hello({ clusterId: 'x' })],
    'meant for another node': [hello({ to: 'n9' })],
    'meant for another disk': [hello({ toInstance: 'x' })],
    'from this very node': [hello({ from: 'n2' })],
    'from nobody': [hello({ from: '' })],
    'a message before the hello': [encodeMessage(heartbeat('n3', 'n2', 1))],
    'a second hello': [hello(), hello()],
    'an oversized frame': [hello(), [Buffer.from('ffffffff', 'hex')]],
    'an oversized hello': [[Buffer.from('01200000', 'hex')]],
    'an empty frame': [hello(), [Buffer.alloc(4)]],
    garbage: [[Buffer.from('GET / HTTP/1.1\r\nHost: here\r\n\r\n')]],
    'an unknown kind': [hello(), [Buffer.from('0200000001ff', 'hex')]],
    'an unknown version': [hello(), [Buffer.from('0200000009ff', 'hex')]],
    'a frame for a sender': [hello(), encodeControl({ kind: 'snapshotReceived', offset: 1 })],
    'a cut entry': [hello(), cut(encodeMessage(appendOf('n3', 'n2', 100)))],
  };
  for (const parts of Object.values(rows)) {
    const socket = await dial(parts.flat());
    if (!socket.destroyed) await once(socket, 'close');
  }
  expect(await isUndisturbed()).toBe(true);
  expect(two.received.every(({ from }) => from === 'n1')).toBe(true);
  // Every reason is said, but no more than a few lines a minute.
  expect(two.refusals).toHaveLength(8);
});

/** A whole frame whose last record says more than there is. */
function cut(parts: readonly Buffer[]): Buffer[] {
  const whole = Buffer.concat(parts);
  const frame = Buffer.from(whole.subarray(0, whole.length - 10));
  frame.writeUInt32LE(frame.length - 4, 0);
  return [frame];
}

test('a hundred refusals are one line', async () => {
  for (let count = 0; count < 100; count += 1) {
    const socket = await dial(hello({ clusterId: 'x' }));
    if (!socket.destroyed) await once(socket, 'close');
  }
  expect(two.refusals).toEqual([{ remoteAddress: '127.0.0.1', reason: 'another cluster' }]);
  expect(await isUndisturbed()).toBe(true);
});

test('a member that says it is another one, which is connected, is refused', async () => {
  const impostor = await dial(hello({ from: 'n1', address: '127.0.0.1:1' }));
  await once(impostor, 'close');
  expect(two.refusals).toEqual([
    { remoteAddress: '127.0.0.1', reason: 'the node is connected from elsewhere' },
  ]);
  expect(await isUndisturbed()).toBe(true);
  // Answers still go to the real one.
  two.transport.send(heartbeat('n2', 'n1', 7));
  two.transport.flush();
  await one.hasReceived(1);
});

test('unknown nodes are few, and forgotten with their connections', async () => {
  const strangers: Socket[] = [];
  for (let count = 0; count < 8; count += 1) {
    strangers.push(await dial(hello({ from: `stranger-${count}` })));
  }
  const before = two.received.length;
  strangers[7]?.write(Buffer.concat(encodeMessage(heartbeat('stranger-7', 'n2', 1))));
  await two.hasReceived(before + 1);
  const ninth = await dial(hello({ from: 'stranger-8' }));
  await once(ninth, 'close');
  expect(two.refusals).toMatchObject([{ reason: 'too many unknown nodes' }]);

  const closed = once(two.accepted[1] as Socket, 'close');
  strangers[0]?.destroy();
  await closed;
  const next = await dial([
    ...hello({ from: 'stranger-9' }),
    ...encodeMessage(heartbeat('stranger-9', 'n2', 1)),
  ]);
  await two.hasReceived(before + 2);
  expect(next.destroyed).toBe(false);
  expect(await isUndisturbed()).toBe(true);
});

test('a frame that never ends keeps nobody waiting', async () => {
  const whole = Buffer.concat(encodeMessage(appendOf('n3', 'n2', 1_000_000)));
  await dial([...hello(), whole.subarray(0, 500_000)]);
  expect(await isUndisturbed()).toBe(true);
});

test('frames that are sent again arrive again: raft is what makes them harmless', async () => {
  const frame = encodeMessage(heartbeat('n3', 'n2', 5));
  const before = two.received.length;
  await dial([...hello(), ...frame, ...frame, ...frame]);
  await two.hasReceived(before + 3);
  expect(await isUndisturbed()).toBe(true);
});
