/**
 * The HTTP client of the generator: a fixed number of keep-alive sockets pinned to each node.
 *
 * Nothing here hides the server: no load balancing, no redirects, no retries. One request at a time
 * on a socket; when all sockets of a node are busy, requests wait in order, and that wait shows
 * between dispatch and `writtenNs`. So does a reconnect: a request counts as written when undici
 * begins to write it to a connected socket.
 *
 * undici's callback handlers are used in their raw form (`onHeaders` with header buffers): parsing
 * all headers into objects would cost the generator more than anything else it does.
 */

import assert from 'node:assert/strict';
import { Client, type Dispatcher } from 'undici';
import type { Answer, Failure, Request, Sender, Target } from './exchange.ts';

const NODE_ID_HEADER = 'x-vault-raft-node-id';
const NO_BYTES = Buffer.alloc(0);

/** Longer than any phase, so that the client never closes an idle socket by itself. */
const KEEP_ALIVE_MS = 600_000;

/** Requests that may wait for a socket of one node; drivers cap what is in flight far below it. */
const WAITING_MAX = 1_000_000;

/** The answer to a request sent outside a load phase, with all that can be known of it. */
export type Reply = Extract<Answer, { kind: 'answered' }> & {
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
};

export type HttpClient = Sender & {
  /**
   * Sends one request and waits for its answer, whatever its status. Rejects when there is none
   * within `timeoutMs`.
   */
  ask(target: number, request: Request, timeoutMs: number): Promise<Reply>;
  /** Requests that wait for a socket of `target`. */
  waiting(target: number): number;
  /** Destroys all sockets; requests under way fail as `aborted`. */
  close(): Promise<void>;
};

export function connectTargets(options: {
  targets: readonly Target[];
  socketsPerTarget: number;
  nowNs: () => number;
  /** PEM of the authority that signed the nodes' certificates, for https origins. */
  caPem: string | undefined;
}): HttpClient {
  const { targets, socketsPerTarget, nowNs, caPem } = options;
  assert(0 < socketsPerTarget, `a node needs a socket: ${socketsPerTarget}`);
  const pools = targets.map((target) => new Pool(target.origin, socketsPerTarget, caPem));

  const pool = (target: number): Pool => {
    const found = pools[target];
    assert(found !== undefined, 'unknown target');
    return found;
  };
  return {
    send: (target, request, settle) => pool(target).send(new Exchange(request, nowNs, settle)),
    ask: (target, request, timeoutMs) => ask(pool(target), request, nowNs, timeoutMs),
    waiting: (target) => pool(target).waitingCount,
    close: async () => {
      await Promise.all(pools.map((each) => each.close()));
    },
  };
}

function ask(pool: Pool, request: Request, nowNs: () => number, timeoutMs: number): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const name = `${request.method} ${request.path}`;
    const exchange: Exchange = new Exchange(request, nowNs, (answer) => {
      clearTimeout(timer);
      if (answer.kind === 'answered') {
        resolve({ ...answer, headers: headerMap(exchange.rawHeaders) });
      } else {
        reject(new Error(`Cannot get an answer to ${name}: ${exchange.reason}`));
      }
    });
    const timer = setTimeout(() => exchange.abort(`none within ${timeoutMs} ms`), timeoutMs);
    pool.send(exchange);
  });
}

/** The sockets of one node and the requests that wait for them, first come, first served. */
class Pool {
  readonly #clients: readonly Client[];
  /** Idle sockets in order of release: all take their turn, none idles into a server's timeout. */
  readonly #idle: Client[];
  #waiting: Exchange[] = [];
  #waitingStart = 0;
  #isClosed = false;

  constructor(origin: string, socketCount: number, caPem: string | undefined) {
    this.#clients = Array.from(
      { length: socketCount },
      () =>
        new Client(origin, {
          pipelining: 1,
          keepAliveTimeout: KEEP_ALIVE_MS,
          keepAliveMaxTimeout: KEEP_ALIVE_MS,
          // Deadlines belong to whoever sends; undici's own timers tick in half seconds.
          headersTimeout: 0,
          bodyTimeout: 0,
          ...(caPem === undefined ? {} : { connect: { ca: caPem } }),
        }),
    );
    this.#idle = [...this.#clients];
  }

  get waitingCount(): number {
    return this.#waiting.length - this.#waitingStart;
  }

  send(exchange: Exchange): Exchange {
    const client = this.#isClosed ? undefined : this.#idle.shift();
    if (client !== undefined) {
      this.#dispatch(client, exchange);
    } else if (this.#isClosed) {
      exchange.fail('aborted', 'client is closed');
    } else {
      assert(this.waitingCount < WAITING_MAX);
      this.#waiting.push(exchange);
    }
    return exchange;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const exchange of this.#waiting.splice(this.#waitingStart)) {
      exchange.fail('aborted', 'client closed');
    }
    await Promise.all(this.#clients.map((client) => client.destroy()));
  }

  #dispatch(client: Client, exchange: Exchange): void {
    exchange.release = () => this.#release(client);
    client.dispatch(exchange.options, exchange);
  }

  #release(client: Client): void {
    let next = this.#nextWaiting();
    while (next !== undefined && next.isSettled) next = this.#nextWaiting();
    if (next === undefined || this.#isClosed) this.#idle.push(client);
    else this.#dispatch(client, next);
  }

  #nextWaiting(): Exchange | undefined {
    const next = this.#waiting[this.#waitingStart];
    if (next === undefined) return undefined;
    this.#waitingStart += 1;
    // Shifting one by one would be quadratic behind a stalled server.
    if (this.#waitingStart * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#waitingStart);
      this.#waitingStart = 0;
    }
    return next;
  }
}

/** One request on its way; also undici's handler for it, so that a request costs one object. */
class Exchange {
  readonly options: Dispatcher.DispatchOptions;
  readonly #nowNs: () => number;
  readonly #settle: (answer: Answer) => void;
  isSettled = false;
  release: (() => void) | undefined;
  rawHeaders: readonly Buffer[] = [];
  reason = '';
  #status = 0;
  #writtenNs: number | undefined;
  #chunks: Buffer[] | undefined;
  #body: Buffer = NO_BYTES;
  #abortRequest: ((error: Error) => void) | undefined;

  constructor(request: Request, nowNs: () => number, settle: (answer: Answer) => void) {
    this.options = {
      method: request.method,
      path: request.path,
      // undici only reads the array; its type does not say so.
      headers: request.headers as string[],
      body: request.body ?? null,
    };
    this.#nowNs = nowNs;
    this.#settle = settle;
  }

  abort(reason = 'aborted by the sender'): void {
    if (this.isSettled) return;
    this.reason = reason;
    if (this.#abortRequest === undefined) this.fail('aborted', reason);
    else this.#abortRequest(new AbortedError(reason));
  }

  fail(failure: Failure, reason: string): void {
    this.reason ||= reason;
    this.#finish({
      kind: 'failed',
      failure,
      writtenNs: this.#writtenNs,
      completionNs: this.#nowNs(),
    });
  }

  onConnect(abort: (error?: Error) => void): void {
    // Aborted while undici was connecting: the answer is given already, keep the request unwritten.
    if (this.isSettled) {
      abort(new AbortedError(this.reason));
      return;
    }
    this.#abortRequest = abort;
    this.#writtenNs = this.#nowNs();
  }

  onHeaders(status: number, rawHeaders: Buffer[]): boolean {
    this.#status = status;
    this.rawHeaders = rawHeaders;
    return true;
  }

  onData(chunk: Buffer): boolean {
    if (this.#chunks !== undefined) this.#chunks.push(chunk);
    else if (this.#body === NO_BYTES) this.#body = chunk;
    else this.#chunks = [this.#body, chunk];
    return true;
  }

  onComplete(): void {
    const completionNs = this.#nowNs();
    const writtenNs = this.#writtenNs;
    assert(writtenNs !== undefined, 'answered before it was written');
    this.#finish({
      kind: 'answered',
      status: this.#status,
      servedBy: headerValue(this.rawHeaders, NODE_ID_HEADER),
      body: this.#chunks === undefined ? this.#body : Buffer.concat(this.#chunks),
      writtenNs,
      completionNs,
    });
  }

  onError(error: Error): void {
    const { release } = this;
    if (!this.isSettled) {
      this.fail(failureOf(error), error.message);
    } else if (release !== undefined) {
      // Aborted while undici was connecting: the socket comes free only now.
      this.release = undefined;
      release();
    } else {
      // undici reports what `settle` throws as an error of the request, but it is a bug of ours.
      process.nextTick(() => assert.fail(error));
    }
  }

  #finish(answer: Answer): void {
    assert(!this.isSettled, 'a request was answered twice');
    this.isSettled = true;
    const { release } = this;
    // While undici connects, an aborted request stays in its queue and keeps the socket.
    const isConnecting =
      this.#writtenNs === undefined && answer.kind === 'failed' && answer.failure === 'aborted';
    if (release !== undefined && !isConnecting) {
      this.release = undefined;
      release();
    }
    this.#settle(answer);
  }
}

class AbortedError extends Error {
  override readonly name = 'AbortedError';
}

function failureOf(error: Error): Failure {
  if (error instanceof AbortedError) return 'aborted';
  const code = 'code' in error ? error.code : undefined;
  switch (code) {
    case 'ECONNREFUSED':
    case 'UND_ERR_CONNECT_TIMEOUT':
      return 'refused';
    case 'ECONNRESET':
    case 'EPIPE':
    case 'UND_ERR_SOCKET':
      return 'reset';
    case 'UND_ERR_DESTROYED':
    case 'UND_ERR_CLOSED':
    case 'UND_ERR_ABORTED':
      return 'aborted';
    default:
      return 'protocol';
  }
}

/** Looks for `name` (lower case) in name, value, name, value, ...; compares lengths first. */
function headerValue(rawHeaders: readonly Buffer[], name: string): string | undefined {
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const header = rawHeaders[index];
    if (header?.length === name.length && header.toString('latin1').toLowerCase() === name) {
      return rawHeaders[index + 1]?.toString('latin1');
    }
  }
  return undefined;
}

function headerMap(rawHeaders: readonly Buffer[]): Map<string, string> {
  const headers = new Map<string, string>();
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]?.toString('latin1').toLowerCase() ?? '';
    headers.set(name, rawHeaders[index + 1]?.toString('latin1') ?? '');
  }
  return headers;
}
