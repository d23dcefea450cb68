import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterCredentials } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { createClusterCredentials } from './credentials.ts';
import { createForwarder, serveForwarding } from './forwarding.ts';
import type { Forwarder, WireRequest, WireResponse } from './forwarding.ts';
import { createClusterNetwork } from './listener.ts';
import type { ClusterNetwork } from './listener.ts';

const MIB = 1024 * 1024;
const logger = { info() {}, warn() {} };
const networks: ClusterNetwork[] = [];
let credentials: ClusterCredentials;

beforeAll(async () => {
  credentials = await createClusterCredentials();
});

afterEach(async () => {
  for (const each of networks.splice(0)) await each.close();
});

async function network(): Promise<ClusterNetwork> {
  const created = createClusterNetwork({ host: '127.0.0.1', port: 0, logger });
  networks.push(created);
  await created.listen(credentials);
  return created;
}

type Pair = {
  readonly active: ClusterNetwork;
  readonly address: string;
  readonly forwarder: Forwarder;
  /** Connections that the standby opened. */
  readonly dialled: Socket[];
};

/** A standby's forwarder, and an active node that answers with `handler`. */
async function pair(handler: (request: WireRequest) => Promise<WireResponse>): Promise<Pair> {
  const [active, standby] = [await network(), await network()];
  serveForwarding(active, handler);
  const dialled: Socket[] = [];
  const forwarder = createForwarder({
    dial: async (address, protocol) => {
      const socket = await standby.dial(address, protocol);
      dialled.push(socket);
      return socket;
    },
  });
  return { active, address: `127.0.0.1:${active.port()}`, forwarder, dialled };
}

function requestOf(body: Buffer = Buffer.alloc(0), url = '/v1/secret/a'): WireRequest {
  const headers = { 'x-vault-token': 's.abc', 'x-ümlaut': 'ä' };
  return { id: 'r1', method: 'PUT', url, headers, body, remoteAddress: '192.0.2.1' };
}

const echo = async (request: WireRequest): Promise<WireResponse> => ({
  status: 200,
  headers: { 'x-url': request.url },
  body: request.body,
  index: 7,
});

/** A promise that is settled from outside. */
function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

test('a request arrives as it was, and so does its answer', async () => {
  const seen: WireRequest[] = [];
  const { forwarder, address } = await pair(async (request) => {
    seen.push(request);
    return await echo(request);
  });
  const request = requestOf(Buffer.from('body'));
  expect(await forwarder.forward(address, request)).toEqual({
    status: 200,
    headers: { 'x-url': '/v1/secret/a' },
    body: Buffer.from('body'),
    index: 7,
  });
  expect(seen).toEqual([request]);
});

test('large bodies travel beside small ones, each with its own answer', async () => {
  const { forwarder, address, dialled } = await pair(echo);
  const bodies = Array.from({ length: 60 }, (_, number) =>
    Buffer.alloc(number % 3 === 0 ? MIB : 10, number),
  );
  const responses = await Promise.all(
    bodies.map((body, number) => forwarder.forward(address, requestOf(body, `/v1/${number}`))),
  );
  for (const [number, response] of responses.entries()) {
    expect(response.headers['x-url']).toBe(`/v1/${number}`);
    expect(response.body.equals(bodies[number] ?? Buffer.alloc(0))).toBe(true);
  }
  expect(dialled.length).toBeLessThanOrEqual(8);
});

test('a small request does not wait for one that takes long', async () => {
  const slow = gate();
  const { forwarder, address } = await pair(async (request) => {
    if (request.url === '/slow') await slow.opened;
    return await echo(request);
  });
  const held = Array.from({ length: 20 }, () =>
    forwarder.forward(address, requestOf(undefined, '/slow')),
  );
  const quick = await forwarder.forward(address, requestOf(undefined, '/quick'));
  expect(quick.headers['x-url']).toBe('/quick');
  slow.open();
  expect(await Promise.all(held)).toHaveLength(20);
});

test('idle connections are used again', async () => {
  const { forwarder, address, dialled } = await pair(echo);
  for (let count = 0; count < 20; count += 1) await forwarder.forward(address, requestOf());
  expect(dialled).toHaveLength(1);
});

describe('failures', () => {
  test('nobody listens: nothing happened', async () => {
    const { forwarder, active, address } = await pair(echo);
    await active.close();
    await expect(forwarder.forward(address, requestOf())).rejects.toMatchObject({
      code: 'no-leader',
    });
  });

  test('a target that refuses is not dialled by each request that waits for it', async () => {
    let dials = 0;
    const forwarder = createForwarder({
      dial: async () => {
        dials += 1;
        throw new Error('refused');
      },
    });
    for (let request = 0; request < 20; request += 1) {
      await expect(forwarder.forward('127.0.0.1:1', requestOf())).rejects.toMatchObject({
        code: 'no-leader',
      });
    }
    expect(dials).toBeLessThan(20);
  });

  test('the connection is lost while the request is executed: nobody knows', async () => {
    const { forwarder, active, address } = await pair(async (request) => {
      active.suspend();
      return await echo(request);
    });
    await expect(forwarder.forward(address, requestOf())).rejects.toMatchObject({
      code: 'outcome-unknown',
    });
  });

  test('no answer in time: nobody knows, and the connection is not trusted again', async () => {
    const stuck = gate();
    const { forwarder, address, dialled } = await pair(async (request) => {
      if (request.url === '/stuck') await stuck.opened;
      return await echo(request);
    });
    await expect(
      forwarder.forward(address, requestOf(undefined, '/stuck'), 100),
    ).rejects.toMatchObject({ code: 'outcome-unknown' });
    stuck.open();
    await forwarder.forward(address, requestOf());
    expect(dialled).toHaveLength(2);
  });

  test.each([
    { thrown: new ServerError('no-leader', 'lost'), code: 'no-leader', message: 'lost' },
    {
      thrown: new ServerError('outcome-unknown', 'gone'),
      code: 'outcome-unknown',
      message: 'gone',
    },
    { thrown: new ServerError('overloaded', 'full'), code: 'overloaded', message: 'full' },
    { thrown: new Error('secret detail'), code: 'internal', message: 'internal error' },
  ])('the handler throws $thrown.message', async ({ thrown, code, message }) => {
    const { forwarder, address } = await pair(() => Promise.reject(thrown));
    await expect(forwarder.forward(address, requestOf())).rejects.toMatchObject({ code, message });
  });

  test('a body beyond the limit is refused before it is sent', async () => {
    const { forwarder, address, dialled } = await pair(echo);
    await expect(
      forwarder.forward(address, requestOf(Buffer.alloc(32 * MIB + 1))),
    ).rejects.toMatchObject({ code: 'too-large' });
    expect(dialled).toHaveLength(0);
    expect((await forwarder.forward(address, requestOf(Buffer.alloc(32 * MIB)))).status).toBe(200);
  });

  test('an answer in no known form has an unknown outcome', async () => {
    const [active, standby] = [await network(), await network()];
    active.onConnection('bao-forward/1', (socket) => {
      socket.on('data', () => socket.write(Buffer.from('05000000ffffffffff', 'hex')));
    });
    const forwarder = createForwarder(standby);
    await expect(
      forwarder.forward(`127.0.0.1:${active.port()}`, requestOf()),
    ).rejects.toMatchObject({ code: 'outcome-unknown' });
  });

  test('a peer that sends garbage loses its connection, the others do not notice', async () => {
    const { forwarder, address, active } = await pair(echo);
    for (const garbage of ['ffffffff00', '0100000001', '0b00000001010000000000000002000000']) {
      const socket = await active.dial(address, 'bao-forward/1');
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.resume();
      socket.write(Buffer.from(garbage, 'hex'));
      await closed;
      expect((await forwarder.forward(address, requestOf())).status).toBe(200);
    }
  });

  test('close() ends what is under way as unknown', async () => {
    const never = gate();
    const started = gate();
    const { forwarder, address } = await pair(async (request) => {
      started.open();
      await never.opened;
      return await echo(request);
    });
    const forwarded = forwarder.forward(address, requestOf());
    await Promise.race([started.opened, forwarded]);
    forwarder.close();
    await assert.rejects(forwarded, { code: 'outcome-unknown' });
    never.open();
  });
});
