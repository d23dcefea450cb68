import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { ClientRequest, IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isServerError } from '../errors.ts';
import { BodyIntake } from './body-intake.ts';
import { createHttpServer } from './http-server.ts';
import type { HttpServer } from './http-server.ts';
import { Node } from './testing/node.ts';

const BODY = 'x'.repeat(1000);
const LIMITS = { bodyBytesMax: BODY.length, heldBytesMax: 3 * BODY.length };

let intake: BodyIntake;
let server: Server;
let settled: string[];
let releases: (() => void)[];
let clients: ClientRequest[];
let isAnswering: boolean;

beforeEach(async () => {
  intake = new BodyIntake(LIMITS);
  settled = [];
  releases = [];
  clients = [];
  isAnswering = true;
  server = createServer((incoming, response) => {
    const announced = Number(incoming.headers['content-length'] ?? -1);
    void received(incoming, announced).then(() => isAnswering && response.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  for (const client of clients) client.destroy();
  server.close();
  server.closeAllConnections();
});

async function received(incoming: IncomingMessage, announced: number): Promise<void> {
  try {
    const { body, release } = await intake.receive(incoming, announced);
    settled.push(`${body.length} bytes`);
    releases.push(release);
  } catch (error) {
    settled.push(isServerError(error, 'overloaded') ? 'overloaded' : 'other');
  }
}

function put(length?: number): ClientRequest {
  const { port } = server.address() as AddressInfo;
  const headers = length === undefined ? {} : { 'Content-Length': length };
  const client = request({ host: '127.0.0.1', port, method: 'PUT', agent: false, headers });
  client.on('error', () => undefined);
  client.on('response', (response) => response.resume());
  clients.push(client);
  return client;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test('bodies are held up to the limit, until they are released', async () => {
  for (let count = 1; count <= 3; count += 1) {
    put(BODY.length).end(BODY);
    await until(() => settled.length === count);
  }
  expect(intake.heldBytes).toBe(LIMITS.heldBytesMax);
  put(1).end('y');
  await until(() => settled.length === 4);
  releases[0]?.();
  put(BODY.length).end(BODY);
  await until(() => settled.length === 5);
  const held = '1000 bytes';
  expect(settled).toEqual([held, held, held, 'overloaded', held]);
  expect(intake.heldBytes).toBe(LIMITS.heldBytesMax);
});

test('what has come of bodies that are not whole counts, and goes with its client', async () => {
  const slow = [put(), put(), put(), put()];
  for (const client of slow) client.write(BODY.slice(1));
  await until(() => settled.length === 1);
  expect(settled).toEqual(['overloaded']);
  expect(intake.heldBytes).toBe(3 * (BODY.length - 1));
  for (const client of slow) client.destroy();
  await until(() => settled.length === 4);
  expect(settled.slice(1)).toEqual(['other', 'other', 'other']);
  expect(intake.heldBytes).toBe(0);
});

test('a body is held for as long as it is used, whatever becomes of its client', async () => {
  isAnswering = false;
  const client = put(BODY.length);
  const isGone = new Promise((resolve) => {
    server.once('request', (_incoming, response: ServerResponse) =>
      response.once('close', resolve),
    );
  });
  client.end(BODY);
  await until(() => settled.length === 1);
  client.destroy();
  await isGone;
  expect(intake.heldBytes).toBe(BODY.length);
  releases[0]?.();
  expect(intake.heldBytes).toBe(0);
});

test('a body that comes byte by byte costs no more than its bytes', async () => {
  const count = 100_000;
  intake = new BodyIntake({ bodyBytesMax: count, heldBytesMax: count });
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.on('error', () => undefined);
  await once(client, 'connect');
  collect();
  const before = process.memoryUsage().heapUsed;
  client.write('PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (let sent = 0; sent < count; sent += 1_000) {
    client.write('1\r\nx\r\n'.repeat(1_000));
    await until(() => intake.heldBytes === sent + 1_000);
  }
  collect();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(30 * count);
  client.end('0\r\n\r\n');
  await until(() => settled.length === 1);
  expect(settled).toEqual([`${count} bytes`]);
});

/** Over HTTP, with room for one body of `write`. */
async function served(node: Node): Promise<HttpServer> {
  const http = createHttpServer({
    ...{ host: '127.0.0.1', port: 0, tls: undefined, maxConnections: 10 },
    ...{ maxRequestSize: 100, heldBodyBytesMax: 2 },
    handler: node.handler(),
  });
  await http.listen();
  return http;
}

function write(http: HttpServer): Promise<Response> {
  const url = `http://127.0.0.1:${http.port()}/v1/secret/a`;
  return fetch(url, { method: 'PUT', body: '{}' });
}

test('a client that must come again is told when', async () => {
  const node = new Node();
  let answer = (): void => undefined;
  const released = new Promise<undefined>((resolve) => {
    answer = () => resolve(undefined);
  });
  node.respond = () => released;
  const http = await served(node);
  const send = (): Promise<Response> => write(http);
  const first = send();
  await until(() => node.calls.length === 1);
  const refused = await send();
  expect([refused.status, refused.headers.get('Retry-After')]).toEqual([503, '1']);
  expect(node.calls).toHaveLength(1);
  answer();
  expect((await first).status).toBe(204);
  expect((await send()).status).toBe(204);
  await http.close();
});

test('the body of a request that was given up is held until what it began has ended', async () => {
  const node = new Node();
  node.requestMs = 20;
  let end = (): void => undefined;
  node.respond = () => new Promise((resolve) => (end = () => resolve(undefined)));
  const http = await served(node);
  const send = (): Promise<Response> => write(http);
  expect((await send()).status).toBe(504);
  expect((await send()).status).toBe(503);
  end();
  expect((await send()).status).toBe(504);
  expect(node.calls).toHaveLength(2);
  end();
  await http.close();
});
