/** Against a real server that a test holds and releases: order is asserted, never speed. */

import { afterEach, expect, test } from 'vitest';
import { connectTargets, type HttpClient } from './client.ts';
import { monotonicNs, systemClock } from './clock.ts';
import { closedLoop } from './closed-loop.ts';
import type { Answer, Request, Target } from './exchange.ts';
import { openLoop } from './open-loop.ts';
import { buildPlan, evenRouting } from './plan.ts';
import { startStubServer, type StubAnswer, type StubServer } from './stub-server.ts';

const OK: StubAnswer = { status: 200, chunks: ['{"key":"', 'k1"}'], delayMs: 0 };

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

async function serve(answerTo: (requestNumber: number) => StubAnswer = () => OK) {
  const server = await startStubServer({ nodeId: 'n1', answerTo });
  opened.push(server);
  return server;
}

function connect(server: StubServer, socketsPerTarget: number): HttpClient {
  const client = connectTargets({
    targets: [targetOf(server)],
    socketsPerTarget,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  opened.push(client);
  return client;
}

function targetOf(server: StubServer): Target {
  return { name: 'n1', origin: server.origin, nodeId: 'n1', isActive: true };
}

function get(path: string): Request {
  return { method: 'GET', path, headers: ['x-vault-token', 't'], body: undefined };
}

function send(client: HttpClient, path: string) {
  let abort = (): void => {};
  const answer = new Promise<Answer>((resolve) => {
    const handle = client.send(0, get(path), resolve);
    abort = () => handle.abort();
  });
  return { answer, abort };
}

test('an answer carries status, node, whole body, and ordered times', async () => {
  const client = connect(await serve(), 1);
  const startNs = monotonicNs();
  const answer = await client.ask(0, get('/v1/a'), 5000);
  expect(answer).toMatchObject({ status: 200, servedBy: 'n1' });
  expect(answer.body.toString()).toBe('{"key":"k1"}');
  expect(answer.headers.get('x-vault-raft-node-id')).toBe('n1');
  expect(startNs).toBeLessThanOrEqual(answer.writtenNs);
  expect(answer.writtenNs).toBeLessThan(answer.completionNs);
});

test('a request waits for a socket, in order, and its wait is not service time', async () => {
  const server = await serve();
  const client = connect(server, 1);
  server.hold();
  const answers = ['/v1/a', '/v1/b', '/v1/c'].map((path) => send(client, path).answer);
  await server.arrived(1);
  expect(server.requests).toEqual(['GET /v1/a']);
  expect(client.waiting(0)).toBe(2);

  server.release();
  const [a, b, c] = await Promise.all(answers);
  expect(server.requests).toEqual(['GET /v1/a', 'GET /v1/b', 'GET /v1/c']);
  expect(a?.completionNs).toBeLessThanOrEqual(b?.writtenNs ?? 0);
  expect(b?.completionNs).toBeLessThanOrEqual(c?.writtenNs ?? 0);
});

test('an aborted request gives its socket to the next one', async () => {
  const server = await serve();
  const client = connect(server, 1);
  server.hold();
  const running = send(client, '/v1/running');
  const waiting = send(client, '/v1/waiting');
  const last = send(client, '/v1/last');
  await server.arrived(1);

  waiting.abort();
  running.abort();
  expect(await waiting.answer).toMatchObject({ failure: 'aborted', writtenNs: undefined });
  expect(await running.answer).toMatchObject({ failure: 'aborted' });
  server.release();
  expect(await last.answer).toMatchObject({ kind: 'answered' });
  expect(server.requests).toEqual(['GET /v1/running', 'GET /v1/last']);
});

test('an abort before the socket is connected never reaches the server', async () => {
  const server = await serve();
  const client = connect(server, 1);
  const early = send(client, '/v1/early');
  early.abort();
  expect(await early.answer).toMatchObject({ failure: 'aborted', writtenNs: undefined });
  expect(await send(client, '/v1/next').answer).toMatchObject({ kind: 'answered' });
  expect(server.requests).toEqual(['GET /v1/next']);
});

test('a broken connection fails its request as reset and is opened again for the next', async () => {
  const server = await serve();
  const client = connect(server, 1);
  server.hold();
  const broken = send(client, '/v1/broken');
  await server.arrived(1);
  server.breakConnections();
  expect(await broken.answer).toMatchObject({ kind: 'failed', failure: 'reset' });
  server.release();
  expect(await send(client, '/v1/next').answer).toMatchObject({ kind: 'answered' });
});

test('a node that is down refuses', async () => {
  const server = await serve();
  const client = connect(server, 2);
  await server.close();
  expect(await send(client, '/v1/a').answer).toMatchObject({ failure: 'refused' });
  await expect(client.ask(0, get('/v1/a'), 5000)).rejects.toThrow('Cannot get an answer');
});

test('ask() gives up at its deadline; close() aborts what is under way and what comes after', async () => {
  const server = await serve();
  const client = connect(server, 1);
  server.hold();
  await expect(client.ask(0, get('/v1/a'), 1)).rejects.toThrow('none within 1 ms');
  const running = send(client, '/v1/b');
  const waiting = send(client, '/v1/c');
  await client.close();
  expect(await running.answer).toMatchObject({ failure: 'aborted' });
  expect(await waiting.answer).toMatchObject({ failure: 'aborted' });
  expect(await send(client, '/v1/d').answer).toMatchObject({ failure: 'aborted' });
});

const WORKLOAD = {
  operations: [{ name: 'read', weight: 1, writes: false }],
  chooseKeys: () => ({ next: () => 0 }),
  chooseValueBytes: () => () => 0,
};

// Two of 100 requests find the server frozen for 300 ms, on the only two sockets. Whatever this
// machine adds to all of them, most others meet the freeze in their response time alone.
test('over real sockets too, a freeze shows in response and hardly in service', async () => {
  const server = await serve((number) => ({
    ...OK,
    delayMs: number === 20 || number === 21 ? 300 : 0,
  }));
  const plan = buildPlan({
    seed: 1,
    schedule: { kind: 'constant', rate: 200 },
    durationMs: 505,
    workload: WORKLOAD,
    routing: evenRouting(1),
  });
  const { samples, counts } = await openLoop({
    plan,
    targets: [targetOf(server)],
    sender: connect(server, 2),
    clock: systemClock('coarse'),
    requestOf: () => get('/v1/x'),
    verify: (_index, status, body) => status === 200 && body.includes('"key":"k1"'),
    inFlightMax: 1000,
    timeoutMs: 30_000,
    signal: new AbortController().signal,
  });
  expect(counts.ok).toBe(plan.length);
  const over100 = (column: Float64Array) => column.filter((ns) => ns > 100e6).length;
  expect(over100(samples.responseNs)).toBeGreaterThan(20);
  expect(over100(samples.responseNs)).toBeGreaterThan(over100(samples.serviceNs) + 10);
});

test('the closed loop counts what the servers and the engine count', async () => {
  const servers = [await serve(), await serve((n) => ({ ...OK, status: n % 5 === 0 ? 503 : 200 }))];
  const targets = servers.map((server, i) => ({
    ...targetOf(server),
    name: `n${i + 1}`,
    nodeId: `n${i + 1}`,
  }));
  let completed = 0;
  const result = await closedLoop({
    targets,
    operationNames: ['read', 'write'],
    connectionsPerTarget: 2,
    requestsOf: (target, connection) => [
      { ...get(`/v1/${target}/${connection}`), operation: 0 },
      { ...get('/v1/w'), method: 'POST', body: '{}', operation: 1 },
    ],
    durationMs: 300,
    timeoutMs: 10_000,
    nowNs: monotonicNs,
    intervalMs: 50,
    onInterval: ({ completions }) => {
      for (const { ok, failed } of completions.flat()) completed += ok + sum(failed.values());
    },
    signal: new AbortController().signal,
  });

  const cells = result.completions.flat();
  const ok = cells.reduce((total, cell) => total + cell.ok, 0);
  const failed = cells.reduce((total, cell) => total + sum(cell.failed.values()), 0);
  expect(ok).toBeGreaterThan(0);
  expect(ok + failed).toBe(result.engineCount);
  expect(ok + failed).toBe(completed);
  const arrived = servers.reduce((total, server) => total + server.requests.length, 0);
  expect(arrived).toBeGreaterThanOrEqual(ok + failed);
  expect(result.connections).toBe(4);
  const elapsedSeconds = (result.endNs - result.startNs) / 1e9;
  expect(result.throughputPerSecond * elapsedSeconds).toBeCloseTo(ok, 6);

  // All of n2's answers name n1; each server was asked only for its own paths and operations.
  expect(result.completions[0]?.every((cell) => cell.forwarded === 0)).toBe(true);
  const [, second = []] = result.completions;
  for (const cell of second) expect(cell.forwarded).toBe(cell.ok + sum(cell.failed.values()));
  expect([...new Set(second.flatMap((cell) => [...cell.failed.keys()]))]).toEqual([503]);
  expect(servers[1]?.requests.some((request) => request.includes('/v1/0/'))).toBe(false);
  for (const histogram of result.responses.flat()) histogram.destroy();
});

test('the closed loop looks at answers, and counts the wrong ones', async () => {
  const server = await serve();
  const wrongOf = async (isRight: (status: number, body: string) => boolean) => {
    const result = await closedLoop({
      targets: [targetOf(server)],
      operationNames: ['read'],
      connectionsPerTarget: 1,
      requestsOf: () => [{ ...get('/v1/x'), operation: 0, isRight }],
      durationMs: 150,
      timeoutMs: 10_000,
      nowNs: monotonicNs,
      intervalMs: 50,
      onInterval: () => {},
      signal: new AbortController().signal,
    });
    for (const histogram of result.responses.flat()) histogram.destroy();
    return result.wrongAnswers;
  };
  const body = OK.chunks.join('');
  expect(await wrongOf((status, text) => status === 200 && text === body)).toBe(0);
  expect(await wrongOf((_status, text) => text !== body)).toBeGreaterThan(0);
});

test('a callback that throws ends the closed loop, not the process', async () => {
  const server = await serve();
  const gone = new Error('the node is gone');
  const loop = closedLoop({
    targets: [targetOf(server)],
    operationNames: ['read'],
    connectionsPerTarget: 1,
    requestsOf: () => [{ ...get('/v1/x'), operation: 0 }],
    durationMs: 60_000,
    timeoutMs: 10_000,
    nowNs: monotonicNs,
    intervalMs: 10,
    onInterval: () => {
      throw gone;
    },
    signal: new AbortController().signal,
  });
  await expect(loop).rejects.toBe(gone);
});

test('an aborted closed loop ends with what it has', async () => {
  const server = await serve();
  const controller = new AbortController();
  const result = await closedLoop({
    targets: [targetOf(server)],
    operationNames: ['read'],
    connectionsPerTarget: 1,
    requestsOf: () => [{ ...get('/v1/x'), operation: 0 }],
    durationMs: 60_000,
    timeoutMs: 10_000,
    nowNs: monotonicNs,
    intervalMs: 10,
    onInterval: () => controller.abort(),
    signal: controller.signal,
  });
  expect(result.endNs - result.startNs).toBeLessThan(60e9);
  for (const histogram of result.responses.flat()) histogram.destroy();
});

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
