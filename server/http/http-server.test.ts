import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { connect as connectTls } from 'node:tls';

import { afterEach, describe, expect, test } from 'vitest';

import { createClusterCredentials } from '../cluster/credentials.ts';
import { toServerError } from './wire-errors.ts';
import type { Answer, Incoming } from './exchange.ts';
import { createHttpServer, type HttpServer, type HttpServerOptions } from './http-server.ts';

const MAX_REQUEST_SIZE = 1000;

const errorAnswer = (error: unknown): Answer => ({
  status: toServerError(error).code === 'too-large' ? 413 : 400,
  headers: ['Content-Type', 'application/json'],
  body: `<${toServerError(error).message}>`,
});

/** Answers with what it was asked. */
const echo = async (incoming: Incoming): Promise<Answer> => ({
  status: incoming.url === '/empty' ? 204 : 200,
  headers: ['Cache-Control', 'no-store'],
  body: `<${incoming.method} ${incoming.url} ${incoming.body.toString()}>`,
});

/** Echoes once it is released. */
function held(): { handle: typeof echo; release: () => void } {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const handle = async (incoming: Incoming): Promise<Answer> => {
    await released;
    return echo(incoming);
  };
  return { handle, release };
}

let servers: HttpServer[] = [];

async function listen(options: Partial<HttpServerOptions> = {}): Promise<HttpServer> {
  const server = createHttpServer({
    host: '127.0.0.1',
    port: 0,
    tls: undefined,
    maxRequestSize: MAX_REQUEST_SIZE,
    heldBodyBytesMax: 10 * MAX_REQUEST_SIZE,
    maxConnections: 100,
    handler: { handle: echo, errorAnswer },
    ...options,
  });
  servers.push(server);
  await server.listen();
  return server;
}

afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  servers = [];
});

/** Everything the server says until it closes, or until `last` has come. */
async function talk(socket: Socket, text: string, last?: string): Promise<string> {
  let received = '';
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString();
    if (last !== undefined && received.includes(last)) socket.end();
  });
  socket.write(text);
  await once(socket, 'close');
  return received;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

const open = (server: HttpServer): Socket => connect(server.port(), '127.0.0.1');

function request(method: string, path: string, rest = '', body = ''): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${rest}\r\n${body}`;
}

describe('requests', () => {
  test.each([
    ['a read', request('GET', '/v1/a'), '<GET /v1/a >'],
    ['a list', request('LIST', '/v1/a'), '<LIST /v1/a >'],
    ['a write', request('PUT', '/v1/a', 'Content-Length: 7\r\n', '{"a":1}'), '<PUT /v1/a {"a":1}>'],
    [
      'a chunked write',
      request(
        'PUT',
        '/v1/a',
        'Transfer-Encoding: chunked\r\n',
        '3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
      ),
      '<PUT /v1/a {"a":1}>',
    ],
    [
      'a body that is announced as empty',
      request('PUT', '/v1/a', 'Content-Length: 0\r\n'),
      '<PUT /v1/a >',
    ],
  ])('%s', async (_name, text, answer) => {
    const received = await talk(open(await listen()), text, answer);
    expect(received).toMatch(
      /^HTTP\/1\.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: \d+/,
    );
    expect(received).toContain(answer);
  });

  test('answers keep the order of pipelined requests', async () => {
    const text = ['/1', '/2', '/3'].map((path) => request('GET', path)).join('');
    const received = await talk(open(await listen()), text, '<GET /3 >');
    expect(received.match(/<[^>]*>/g)).toEqual(['<GET /1 >', '<GET /2 >', '<GET /3 >']);
  });

  test('so many requests of one connection are under way, and as many again when they were answered', async () => {
    const { handle, release } = held();
    const server = await listen({ handler: { handle, errorAnswer } });
    const socket = open(server);
    const text = request('GET', '/a').repeat(256);
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    const answers = (): number => received.split('<GET').length - 1;
    socket.write(text);
    await until(() => server.inFlight() === 256);
    release();
    await until(() => answers() === 256);
    socket.write(text);
    await until(() => answers() === 512);
    expect(server.inFlight()).toBe(0);
    socket.destroy();
  });

  test('a connection with one request more is cut off, and what came with it is not begun', async () => {
    const { handle, release } = held();
    const server = await listen({ handler: { handle, errorAnswer } });
    expect(await talk(open(server), request('GET', '/a').repeat(1_000))).toBe('');
    expect(server.inFlight()).toBe(256);
    release();
    await until(() => server.inFlight() === 0);
  });

  test('204 has neither body nor length', async () => {
    const text = request('GET', '/empty', 'Connection: close\r\n');
    const received = await talk(open(await listen()), text);
    expect(received).toMatch(/^HTTP\/1\.1 204 No Content\r\n/);
    expect(received).not.toMatch(/content-length|transfer-encoding|<GET/i);
  });

  test('an answer that is a stream is sent, whatever comes with the question', async () => {
    const streamed = async ({ stream }: Incoming): Promise<Answer> => {
      const answer = [Buffer.from(stream === undefined ? '<held>' : '<streamed>')];
      return { status: 200, headers: [], body: '', stream: Readable.from(answer) };
    };
    const server = await listen({ handler: { handle: streamed, errorAnswer } });
    const text = request('GET', '/v1/sys/storage/raft/snapshot', 'Content-Length: 4\r\n', 'body');
    expect(await talk(open(server), text, '<')).toContain('<held>');
  });

  test('text beyond ASCII has its length in bytes', async () => {
    const server = await listen({
      handler: { handle: async () => ({ status: 200, headers: [], body: '<é€>' }), errorAnswer },
    });
    const received = await talk(open(server), request('GET', '/', 'Connection: close\r\n'));
    expect(received).toMatch(/Content-Length: 7\r\n[^]*<é€>$/);
  });

  test('over TLS', async () => {
    const { certificatePem, privateKeyPem } = await createClusterCredentials();
    const tls = { cert: Buffer.from(certificatePem), key: Buffer.from(privateKeyPem) };
    const server = await listen({ tls });
    const socket = connectTls({
      port: server.port(),
      host: '127.0.0.1',
      ca: certificatePem,
      checkServerIdentity: () => undefined,
    });
    expect(await talk(socket, request('SCAN', '/v1/a'), '<SCAN')).toContain('<SCAN /v1/a >');
  });
});

describe('refusals', () => {
  const big = 'x'.repeat(MAX_REQUEST_SIZE + 1);
  test.each([
    [
      'an announced body that is too large',
      request('PUT', '/', `Content-Length: ${big.length}\r\n`, big),
      '413',
      'http: request body too large',
    ],
    [
      'a chunked body that grows too large',
      request(
        'PUT',
        '/',
        'Transfer-Encoding: chunked\r\n',
        `${big.length.toString(16)}\r\n${big}\r\n0\r\n\r\n`,
      ),
      '413',
      'http: request body too large',
    ],
    [
      'two index headers',
      request('GET', '/', 'X-Vault-Index: a\r\nX-Vault-Index: b\r\n'),
      '400',
      'more than one X-Vault-Index',
    ],
    ['an unknown method', request('BOGUS', '/'), '405', 'unsupported method'],
    [
      'headers without end',
      request('GET', '/', `X-A: ${'a'.repeat(40_000)}\r\n`),
      '431',
      'headers too large',
    ],
    [
      'both lengths',
      request('PUT', '/', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      '400',
      'malformed request',
    ],
    ['a folded header', request('GET', '/', 'X-A: b\r\n  c\r\n'), '400', 'malformed request'],
    ['no HTTP at all', '\u0016\u0003\u0001\r\n\r\n', '405', 'unsupported method'],
  ])('%s', async (_name, text, status, message) => {
    const received = await talk(open(await listen()), text);
    expect(received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [^]*Connection: close`));
    expect(received).toContain(message);
    expect(received.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  });

  test('what is malformed behind a request is never answered in its place', async () => {
    const { handle, release } = held();
    const server = await listen({ handler: { handle, errorAnswer } });
    const socket = open(server);
    const received = talk(socket, `${request('GET', '/1')}BOGUS / HTTP/1.1\r\n\r\n`);
    while (server.inFlight() === 0) await new Promise((resolve) => setImmediate(resolve));
    release();
    expect(await received).toMatch(/^HTTP\/1\.1 200 OK[^]*<GET \/1 >$/);
  });
});

describe('shutdown', () => {
  test('finishes what is under way, and closes the connection with it', async () => {
    const { handle, release } = held();
    const server = await listen({ handler: { handle, errorAnswer } });
    const port = server.port();
    const socket = open(server);
    const received = talk(socket, request('GET', '/1'));
    while (server.inFlight() === 0) await new Promise((resolve) => setImmediate(resolve));
    const closed = server.close();
    const refused = connect(port, '127.0.0.1');
    await expect(once(refused, 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    release();
    expect(await received).toMatch(/Connection: close[^]*<GET \/1 >$/);
    await closed;
    expect(server.inFlight()).toBe(0);
  });

  test('idle connections do not hold it up', async () => {
    const idle = await listen();
    const socket = open(idle);
    await talkOnce(socket, request('GET', '/1'));
    const closed = once(socket, 'close');
    await idle.close();
    await closed;
    expect(socket.destroyed).toBe(true);
  });
});

test('a port in use is an error', async () => {
  const server = await listen();
  await expect(listen({ port: server.port() })).rejects.toMatchObject({ code: 'EADDRINUSE' });
});

async function talkOnce(socket: Socket, text: string): Promise<void> {
  socket.on('error', () => undefined);
  socket.write(text);
  await once(socket, 'data');
}

test.each(['end', 'destroy', 'resetAndDestroy'] as const)(
  'a body that ends before its time ends its request, too: %s',
  async (way) => {
    const server = await listen();
    const socket = open(server);
    socket.on('error', () => undefined);
    socket.write(request('PUT', '/a', 'Content-Length: 100\r\n', 'not all'));
    while (server.inFlight() === 0) await new Promise((resolve) => setImmediate(resolve));
    socket.resume();
    socket[way]();
    while (server.inFlight() > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await talk(open(server), request('GET', '/b', 'Connection: close\r\n'))).toContain('/b');
  },
);
