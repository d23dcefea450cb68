import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { createClusterCredentials } from '../cluster/credentials.ts';
import { createClusterNetwork } from '../cluster/listener.ts';
import type { ClusterNetwork } from '../cluster/listener.ts';
import type { ClusterCredentials } from '../core/ports.ts';
import type { Message } from '../raft/message.ts';
import { silentLogger } from '../testing/replica-cluster.ts';
import { Transport } from './transport.ts';
import { encodeControl, encodeMessage } from './wire.ts';

const ends: (() => Promise<void>)[] = [];
let credentials: ClusterCredentials;

beforeAll(async () => {
  credentials = await createClusterCredentials();
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

type Node = {
  readonly transport: Transport;
  readonly network: ClusterNetwork;
  readonly address: string;
  readonly received: Message[];
  readonly unreachable: string[];
  readonly accepted: Socket[];
  /** Resolves when so many messages have been received in all. */
  hasReceived(count: number): Promise<void>;
  /** Resolves at the next report of that kind. */
  isUnreachable(): Promise<void>;
};

async function node(nodeId: string, addresses: Map<string, string>): Promise<Node> {
  const network = createClusterNetwork({ host: '127.0.0.1', port: 0, logger: silentLogger });
  const [received, unreachable, accepted]: [Message[], string[], Socket[]] = [[], [], []];
  let wake = (): void => undefined;
  network.onConnection('bao-raft/1', (socket) => {
    accepted.push(socket);
    transport.accept(socket);
  });
  await network.listen(credentials);
  const address = `127.0.0.1:${network.port()}`;
  const transport = new Transport({
    clusterId: 'cluster',
    nodeId,
    address,
    network,
    logger: silentLogger,
    addressOf: (id) => addresses.get(id),
    onMessage: (message) => {
      received.push(message);
      wake();
    },
    onUnreachable: (id) => {
      unreachable.push(id);
      wake();
    },
    onSnapshotConnection: () => undefined,
  });
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
  };
  ends.push(async () => {
    transport.close();
    await network.close();
  });
  return {
    ...{ transport, network, address, received, unreachable, accepted },
    hasReceived: (count) => until(() => count <= received.length),
    isUnreachable: () => {
      const before = unreachable.length;
      return until(() => before < unreachable.length);
    },
  };
}

const heartbeat = (from: string, to: string, leaderCommit: number): Message => ({
  ...{ kind: 'heartbeat', from, to, term: 1, leaderCommit },
});

function appendOf(from: string, to: string, bytes: number): Message {
  const entries = [{ index: 1, term: 1, kind: 'command' as const, command: Buffer.alloc(bytes) }];
  const previous = { prevLogIndex: 0, prevLogTerm: 0, leaderCommit: 0 };
  return { kind: 'appendEntries', from, to, term: 1, ...previous, entries };
}

test('messages arrive in order; the answer finds its way without any configuration', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await node('n1', addresses), await node('n2', new Map())];
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
  const one = await node('n1', addresses);
  one.transport.send(heartbeat('n1', 'n2', 1));
  const reported = one.isUnreachable();
  one.transport.flush();
  await reported;
  expect(one.unreachable).toEqual(['n2']);

  const two = await node('n2', new Map([['n1', one.address]]));
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
  const [one, two] = [await node('n1', addresses), await node('n2', new Map())];
  addresses.set('n2', two.address);
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

test('a peer that does not read costs a bounded queue; small messages still have room', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await node('n1', addresses), await node('n2', new Map())];
  addresses.set('n2', two.address);
  const mib = 1024 * 1024;
  // Not flushed: as if the socket took nothing.
  for (let count = 0; count < 20; count += 1) one.transport.send(appendOf('n1', 'n2', mib));
  expect(one.unreachable.length).toBe(13);
  one.transport.send(heartbeat('n1', 'n2', 9));
  expect(one.unreachable.length).toBe(13);
  one.transport.flush();
  await two.hasReceived(8);
  expect(two.received.at(-1)).toEqual(heartbeat('n1', 'n2', 9));
});

test('whoever breaks the format loses the connection, the others do not notice', async () => {
  const addresses = new Map<string, string>();
  const [one, two] = [await node('n1', addresses), await node('n2', new Map())];
  addresses.set('n2', two.address);
  const good = { kind: 'hello', purpose: 'messages', clusterId: 'cluster' } as const;
  const hello = encodeControl({ ...good, from: 'n3', to: 'n2', address: 'h:1' });
  const stranger = encodeControl({ ...good, clusterId: 'x', from: 'n3', to: 'n2', address: 'h:1' });
  const astray = encodeControl({ ...good, from: 'n3', to: 'n9', address: 'h:1' });
  const itself = encodeControl({ ...good, from: 'n2', to: 'n2', address: 'h:1' });
  const rows = [
    [stranger],
    [astray],
    [itself],
    [encodeMessage(heartbeat('n3', 'n2', 1))],
    [hello, hello],
    [hello, [Buffer.from('ffffffff', 'hex')]],
    [hello, [Buffer.from('0200000009ff', 'hex')]],
    [hello, encodeControl({ kind: 'snapshotReceived', offset: 1 })],
  ];
  for (const parts of rows) {
    const socket = await one.network.dial(two.address, 'bao-raft/1');
    const closed = once(socket, 'close');
    socket.resume();
    socket.write(Buffer.concat(parts.flat()));
    await closed;
  }
  one.transport.send(heartbeat('n1', 'n2', 1));
  one.transport.flush();
  await two.hasReceived(1);
  expect(two.received).toEqual([heartbeat('n1', 'n2', 1)]);
});
