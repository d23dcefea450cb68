/**
 * A real HTTP server whose behavior a test knows: it answers at once, after a delay, or when told.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export type StubAnswer = {
  readonly status: number;
  /** Written chunk by chunk. */
  readonly chunks: readonly string[];
  readonly delayMs: number;
};

export type StubServer = {
  readonly origin: string;
  /** `METHOD path` of all requests so far, in order of arrival. */
  readonly requests: readonly string[];
  /** Holds all answers back from now on. */
  hold(): void;
  /** Gives all answers held back, and answers as usual again. */
  release(): void;
  /** Resolves when `count` requests have arrived in all. */
  arrived(count: number): Promise<void>;
  /** Breaks all connections. */
  breakConnections(): void;
  close(): Promise<void>;
};

/** Listens on a free port of the loopback; `answerTo` gets the number of the request, from 0. */
export async function startStubServer(options: {
  nodeId: string | undefined;
  answerTo: (requestNumber: number) => StubAnswer;
}): Promise<StubServer> {
  const requests: string[] = [];
  const arrivals: { count: number; resolve: () => void }[] = [];
  let held: (() => void)[] | undefined;

  const respond = async (response: ServerResponse, answer: StubAnswer): Promise<void> => {
    if (answer.delayMs > 0) await delay(answer.delayMs);
    if (options.nodeId !== undefined) response.setHeader('X-Vault-Raft-Node-ID', options.nodeId);
    response.writeHead(answer.status);
    for (const chunk of answer.chunks) response.write(chunk);
    response.end();
  };
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    request.resume();
    const answer = options.answerTo(requests.length);
    requests.push(`${request.method} ${request.url}`);
    for (const { count, resolve } of arrivals) if (count <= requests.length) resolve();
    // Rejects never: a broken connection only makes the writes void.
    if (held === undefined) void respond(response, answer);
    else held.push(() => void respond(response, answer));
  };

  const server = createServer({ keepAliveTimeout: 0 }, onRequest);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    requests,
    hold: () => {
      held ??= [];
    },
    release: () => {
      const answers = held ?? [];
      held = undefined;
      for (const answer of answers) answer();
    },
    arrived: (count) =>
      new Promise((resolve) => {
        if (count <= requests.length) resolve();
        else arrivals.push({ count, resolve });
      }),
    breakConnections: () => server.closeAllConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
