import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterCredentials } from '../core/ports.ts';
import { createClusterCredentials } from './credentials.ts';
import { createClusterNetwork, splitAddress } from './listener.ts';
import type { ClusterNetwork, ClusterNetworkOptions } from './listener.ts';

const logger = { info() {}, warn() {} };
const networks: ClusterNetwork[] = [];
let ours: ClusterCredentials;
let others: ClusterCredentials;

beforeAll(async () => {
  ours = await createClusterCredentials();
  others = await createClusterCredentials();
});

afterEach(async () => {
  for (const network of networks.splice(0)) await network.close();
});

async function listening(
  credentials: ClusterCredentials,
  options: Partial<ClusterNetworkOptions> = {},
): Promise<ClusterNetwork & { address: string }> {
  const network = createClusterNetwork({ host: '127.0.0.1', port: 0, logger, ...options });
  networks.push(network);
  network.onConnection('bao-raft/1', (socket) => socket.pipe(socket));
  await network.listen(credentials);
  return Object.assign(network, { address: `127.0.0.1:${network.port()}` });
}

/** Whether a peer that dials is answered; TLS 1.3 tells a client of its refusal only later. */
async function isAnswered(dialling: ClusterNetwork, address: string): Promise<boolean> {
  try {
    const socket = await dialling.dial(address, 'bao-raft/1');
    socket.write('hello');
    const [event] = await Promise.race([
      once(socket, 'data').then(() => ['answered']),
      once(socket, 'close').then(() => ['closed']),
    ]);
    socket.destroy();
    return event === 'answered';
  } catch {
    return false;
  }
}

test('holders of the same credentials reach each other', async () => {
  const [one, two] = [await listening(ours), await listening(ours)];
  expect(await isAnswered(one, two.address)).toBe(true);
  expect(await isAnswered(two, one.address)).toBe(true);
});

test('another certificate is refused in both directions, and disturbs nobody', async () => {
  const [one, two, stranger] = [
    await listening(ours),
    await listening(ours),
    await listening(others),
  ];
  expect(await isAnswered(stranger, one.address)).toBe(false);
  expect(await isAnswered(one, stranger.address)).toBe(false);
  expect(await isAnswered(two, one.address)).toBe(true);
});

describe('what is no peer is refused and disturbs nobody', () => {
  const strangers = {
    'plain text': (port: number) => {
      const socket = connectTcp(port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      return socket;
    },
    'no certificate': (port: number) =>
      connectTls({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ALPNProtocols: ['bao-raft/1'],
      }),
    'an unknown protocol': (port: number) =>
      connectTls({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        cert: ours.certificatePem,
        key: ours.privateKeyPem,
        ALPNProtocols: ['h2'],
      }),
    'no protocol': (port: number) =>
      connectTls({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        cert: ours.certificatePem,
        key: ours.privateKeyPem,
      }),
    silence: (port: number) => connectTcp(port, '127.0.0.1'),
  };
  test.each(Object.entries(strangers))('%s', async (_name, dial) => {
    const network = await listening(ours, { handshakeTimeoutMs: 300 });
    const socket = dial(network.port());
    socket.on('error', () => undefined);
    socket.resume();
    // Not `once`, which rejects if an error comes first.
    await new Promise((resolve) => socket.on('close', resolve));
    expect(await isAnswered(network, network.address)).toBe(true);
  });
});

test('a bound port accepts nobody before there are credentials, and after suspend', async () => {
  const [peer, network] = [
    await listening(ours),
    createClusterNetwork({ host: '127.0.0.1', port: 0, logger }),
  ];
  networks.push(network);
  network.onConnection('bao-raft/1', (socket) => socket.pipe(socket));
  await network.bind();
  const port = network.port();
  const address = `127.0.0.1:${port}`;
  expect(await isAnswered(peer, address)).toBe(false);
  await expect(network.dial(peer.address, 'bao-raft/1')).rejects.toThrow('suspended');

  await network.listen(ours);
  const socket = await peer.dial(address, 'bao-raft/1');
  network.suspend();
  await once(socket, 'close');
  expect(await isAnswered(peer, address)).toBe(false);

  await network.listen(ours);
  expect(network.port()).toBe(port);
  expect(await isAnswered(peer, address)).toBe(true);
});

test('connections beyond the limit are dropped', async () => {
  const network = await listening(ours, { connectionsMax: 1 });
  const first = await network.dial(network.address, 'bao-raft/1');
  expect(await isAnswered(network, network.address)).toBe(false);
  first.destroy();
  await once(first, 'close');
});

test('bind() rejects when the port is in use', async () => {
  const network = await listening(ours);
  const second = createClusterNetwork({ host: '127.0.0.1', port: network.port(), logger });
  await expect(second.bind()).rejects.toMatchObject({ code: 'EADDRINUSE' });
});

test.each([
  { address: '127.0.0.1:8201', expected: { host: '127.0.0.1', port: 8201 } },
  { address: 'node-1.local:1', expected: { host: 'node-1.local', port: 1 } },
  { address: '[::1]:8201', expected: { host: '::1', port: 8201 } },
])('splitAddress($address)', ({ address, expected }) => {
  expect(splitAddress(address)).toEqual(expected);
});

test.each(['', 'host', ':1', 'host:', 'host:65536', '::1:8201', '[x]:1', 'http://host:1'])(
  'splitAddress(%j) is refused',
  (address) => expect(() => splitAddress(address)).toThrow('not a host:port address'),
);

test('whoever holds handshakes open pushes out only others of the kind, and is said once', async () => {
  const lines: object[] = [];
  const network = await listening(ours, {
    handshakesMax: 8,
    logger: { info() {}, warn: (fields) => lines.push(fields) },
  });
  const silent = Array.from({ length: 50 }, () => connectTcp(network.port(), '127.0.0.1'));
  for (const socket of silent) socket.on('error', () => undefined);
  const closed = silent.slice(0, 42).map((socket) => {
    socket.resume();
    return new Promise((resolve) => socket.on('close', resolve));
  });
  await Promise.all(closed);
  expect(await isAnswered(network, network.address)).toBe(true);
  for (const socket of silent) socket.destroy();
  expect(lines.length).toBeLessThanOrEqual(1);
});
