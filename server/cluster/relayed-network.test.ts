/** Forwarding to a node whose cluster port is held by another thread, here at the end of a port. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { afterEach, beforeAll, expect, test } from 'vitest';
import type { ClusterCredentials } from '../core/ports.ts';
import { createClusterCredentials } from './credentials.ts';
import { createForwarder, serveForwarding } from './forwarding.ts';
import type { Forwarder, WireRequest, WireResponse } from './forwarding.ts';
import { createClusterNetwork } from './listener.ts';
import type { ClusterNetwork } from './listener.ts';
import { RELAY_WINDOW_BYTES } from './network-protocol.ts';
import { serveNetwork } from './network-servant.ts';
import { createRelayedNetwork } from './relayed-network.ts';
import type { RelayedNetwork } from './relayed-network.ts';

const logger = { info() {}, warn() {} };
const TIMEOUT_MS = 10_000;
const MIB = 1024 * 1024;

let credentials: ClusterCredentials;
const ends: (() => Promise<void>)[] = [];

beforeAll(async () => {
  credentials = await createClusterCredentials();
});

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

type Relay = { readonly relayed: RelayedNetwork; readonly port: MessagePort };

async function startRelay(): Promise<Relay> {
  const { port1, port2 } = new MessageChannel();
  serveNetwork(port2, network());
  const relayed = createRelayedNetwork(port1);
  ends.push(async () => {
    await relayed.close().catch(() => undefined);
    port1.close();
  });
  await relayed.listen(credentials);
  return { relayed, port: port1 };
}

function network(): ClusterNetwork {
  return createClusterNetwork({ host: '127.0.0.1', port: 0, logger });
}

async function startForwarder(): Promise<Forwarder> {
  const dialling = network();
  await dialling.listen(credentials);
  const forwarder = createForwarder(dialling);
  ends.push(async () => {
    forwarder.close();
    await dialling.close();
  });
  return forwarder;
}

function requestOf(id: string, body: Buffer = Buffer.alloc(0)): WireRequest {
  return { id, method: 'PUT', url: '/v1/a', headers: {}, body, remoteAddress: '127.0.0.1' };
}

function responseOf(body: Buffer): WireResponse {
  return { status: 200, headers: {}, body, index: 1 };
}

test('requests and answers arrive whole, also those larger than what may be under way', async () => {
  const { relayed } = await startRelay();
  serveForwarding(relayed, async ({ body }) => responseOf(Buffer.concat([body, body])));
  const forwarder = await startForwarder();
  const address = `127.0.0.1:${relayed.port()}`;
  const bodies = [0, 1, RELAY_WINDOW_BYTES, 8 * MIB].map((bytes, i) => Buffer.alloc(bytes, i + 1));
  const answers = await Promise.all(
    bodies.map((body, i) => forwarder.forward(address, requestOf(String(i), body), TIMEOUT_MS)),
  );
  expect(answers.map(({ body }) => body.length)).toEqual(bodies.map((body) => 2 * body.length));
  for (const [i, { body }] of answers.entries()) {
    expect(body.equals(Buffer.concat([bodies[i] ?? body, bodies[i] ?? body])), String(i)).toBe(
      true,
    );
  }
});

test('suspend() ends what was accepted: its outcome is unknown', async () => {
  const { relayed } = await startRelay();
  let arrived: () => void = () => undefined;
  const arrival = new Promise<void>((resolve) => (arrived = resolve));
  serveForwarding(relayed, () => {
    arrived();
    return new Promise(() => undefined);
  });
  const forwarder = await startForwarder();
  const address = `127.0.0.1:${relayed.port()}`;
  const answer = forwarder.forward(address, requestOf('1'), TIMEOUT_MS);
  await arrival;
  relayed.suspend();
  await expect(answer).rejects.toMatchObject({ code: 'outcome-unknown' });
  await expect(relayed.dial(address, 'bao-forward/1')).rejects.toThrow('suspended');
});

test('a port in use is said with its code', async () => {
  const { relayed } = await startRelay();
  const { port1, port2 } = new MessageChannel();
  const port = relayed.port();
  serveNetwork(port2, createClusterNetwork({ host: '127.0.0.1', port, logger }));
  const second = createRelayedNetwork(port1);
  ends.push(async () => port1.close());
  await expect(second.bind()).rejects.toMatchObject({ code: 'EADDRINUSE', port });
});

test('when the thread is gone, whoever waits for it hears so', async () => {
  const { relayed } = await startRelay();
  relayed.fail(new Error('the thread has ended'));
  await expect(relayed.listen(credentials)).rejects.toThrow('the thread has ended');
  await nextTurn();
  await expect(relayed.dial('127.0.0.1:1', 'bao-forward/1')).rejects.toThrow('suspended');
});
