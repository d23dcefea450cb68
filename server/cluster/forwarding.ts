/**
 * Carries a request that a standby must not answer to the active node, and the answer back.
 *
 * A request takes an idle connection, or a new one up to `CONNECTIONS_PER_TARGET_MAX`, and shares one
 * only beyond that: a large body holds up nobody. What travels is in `forwarding-frames.ts`.
 *
 * The rule that callers build on: what fails before a byte of the request was handed to a
 * connection is `no-leader` (nothing happened); what fails later is `outcome-unknown`.
 */

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ServerError } from '../errors.ts';
import { FrameReader } from '../frames.ts';
import {
  BODY_BYTES_MAX,
  FRAME_BYTES_MAX,
  HEADER_BYTES,
  KIND,
  decodeFrames,
  encodeFailure,
  encodeResponse,
  failureCode,
  isRequestHead,
  isResponseHead,
  writeFrame,
} from './forwarding-frames.ts';
import type { WireRequest, WireResponse } from './forwarding-frames.ts';
import type { ClusterNetwork } from './listener.ts';

export type { WireRequest, WireResponse } from './forwarding-frames.ts';

export type Forwarder = {
  /** Rejects with `no-leader`, `outcome-unknown`, `too-large`, or what the handler there threw. */
  forward(address: string, request: WireRequest, timeoutMs?: number): Promise<WireResponse>;
  /** Ends all connections; what is under way fails as `outcome-unknown`. */
  close(): void;
};

/** OpenBao's `default_max_request_duration`. */
const TIMEOUT_MS = 90_000;
const CONNECTIONS_PER_TARGET_MAX = 8;
/** A target that could not be reached is left alone for so long, however many requests wait. */
const DIAL_PAUSE_MS = 50;
/** An active node serves so many requests of one connection at once, then stops reading it. */
const EXCHANGES_PER_CONNECTION_MAX = 256;

export function createForwarder(network: Pick<ClusterNetwork, 'dial'>): Forwarder {
  const pools = new Map<string, Pool>();
  return {
    forward: (address, request, timeoutMs = TIMEOUT_MS) => {
      let pool = pools.get(address);
      if (pool === undefined) {
        pool = new Pool(() => network.dial(address, 'bao-forward/1'));
        pools.set(address, pool);
      }
      return pool.forward(request, timeoutMs);
    },
    close: () => {
      for (const pool of pools.values()) pool.close();
      pools.clear();
    },
  };
}

/** The connections to one address. */
class Pool {
  readonly #dial: () => Promise<Socket>;
  readonly #connections = new Set<Connection>();
  readonly #dials = new Set<Promise<Connection>>();
  #nextDial = 0;
  #pausedUntilMs = 0;

  constructor(dial: () => Promise<Socket>) {
    this.#dial = dial;
  }

  async forward(request: WireRequest, timeoutMs: number): Promise<WireResponse> {
    const deadline = performance.now() + timeoutMs;
    const { body, ...fields } = request;
    if (body.length > BODY_BYTES_MAX) throw new ServerError('too-large', 'request body too large');
    const head = Buffer.from(JSON.stringify(fields));
    if (head.length + body.length + HEADER_BYTES > FRAME_BYTES_MAX) {
      throw new ServerError('too-large', 'request headers too large');
    }
    const connection = await this.#take(timeoutMs);
    // No await from here to the write: a connection that is open now takes the request.
    return connection.exchange(head, body, deadline - performance.now());
  }

  close(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  async #take(timeoutMs: number): Promise<Connection> {
    let least: Connection | undefined;
    let count = this.#dials.size;
    for (const connection of this.#connections) {
      if (connection.isRetired()) continue;
      count += 1;
      if (connection.load() === 0) return connection.reserve();
      if (least === undefined || connection.load() < least.load()) least = connection;
    }
    const isFull = CONNECTIONS_PER_TARGET_MAX <= count;
    if (isFull && least !== undefined) return least.reserve();
    if (performance.now() < this.#pausedUntilMs) throw unreachableError();
    // With all of them still being dialled, requests queue for them in turn.
    const dials = [...this.#dials];
    const dial = isFull ? dials[this.#nextDial++ % dials.length] : this.#dialAnother();
    assert(dial !== undefined, 'a full pool has a connection, or one to come');
    const opened = await withinMs(dial, timeoutMs);
    return opened.reserve();
  }

  #dialAnother(): Promise<Connection> {
    const dial = this.#open().finally(() => this.#dials.delete(dial));
    this.#dials.add(dial);
    return dial;
  }

  async #open(): Promise<Connection> {
    try {
      const socket = await this.#dial();
      const connection = new Connection(socket, () => this.#connections.delete(connection));
      this.#connections.add(connection);
      return connection;
    } catch (error) {
      this.#pausedUntilMs = performance.now() + DIAL_PAUSE_MS;
      throw unreachableError(error);
    }
  }
}

function unreachableError(cause?: unknown): ServerError {
  return new ServerError('no-leader', 'the active node cannot be reached', { cause });
}

type Waiter = {
  readonly resolve: (response: WireResponse) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
};

/** The dialling end of one connection. */
class Connection {
  readonly #socket: Socket;
  readonly #reader = new FrameReader(FRAME_BYTES_MAX);
  readonly #waiters = new Map<number, Waiter>();
  /** Exchanges that were promised this connection and have not written yet. */
  #reserved = 0;
  #lastExchange = 0;
  /** A peer that let a deadline pass may be gone: what it holds may end, nothing new joins. */
  #hasTimedOut = false;

  constructor(socket: Socket, onClose: () => void) {
    this.#socket = socket;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('close', () => {
      onClose();
      for (const exchange of this.#waiters.keys()) this.#fail(exchange, 'the connection was lost');
    });
  }

  load(): number {
    return this.#waiters.size + this.#reserved;
  }

  reserve(): this {
    this.#reserved += 1;
    return this;
  }

  isRetired(): boolean {
    return this.#hasTimedOut || this.#socket.destroyed;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Uses up one `reserve()`. */
  exchange(head: Buffer, body: Buffer, timeoutMs: number): Promise<WireResponse> {
    this.#reserved -= 1;
    if (this.#socket.destroyed) {
      return Promise.reject(new ServerError('no-leader', 'the active node closed the connection'));
    }
    const exchange = (this.#lastExchange = (this.#lastExchange + 1) >>> 0);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#hasTimedOut = true;
        this.#fail(exchange, `no answer within ${Math.round(timeoutMs)} ms`);
      }, timeoutMs);
      this.#waiters.set(exchange, { resolve, reject, timer });
      writeFrame(this.#socket, KIND.request, exchange, head, body);
    });
  }

  #fail(exchange: number, reason: string): void {
    const message = `the request was forwarded and its outcome is unknown: ${reason}`;
    this.#settle(exchange)?.reject(new ServerError('outcome-unknown', message));
  }

  #settle(exchange: number): Waiter | undefined {
    const waiter = this.#waiters.get(exchange);
    this.#waiters.delete(exchange);
    clearTimeout(waiter?.timer);
    if (this.#hasTimedOut && this.#waiters.size === 0) this.#socket.destroy();
    return waiter;
  }

  #receive(chunk: Buffer): void {
    const frames = decodeFrames(this.#reader, chunk);
    if (frames === undefined) {
      this.#socket.destroy();
      return;
    }
    for (const { kind, exchange, head, body } of frames) {
      // An answer after its deadline has no waiter any more.
      const waiter = this.#settle(exchange);
      if (kind === KIND.response && isResponseHead(head)) {
        waiter?.resolve({ ...head, body: Buffer.from(body) });
      } else if (kind === KIND.failure) {
        waiter?.reject(new ServerError(failureCode(head['code']), String(head['message'])));
      } else {
        waiter?.reject(
          new ServerError('outcome-unknown', 'the active node answered in no known way'),
        );
        this.#socket.destroy();
      }
    }
  }
}

export type ForwardingListener = {
  onConnection(protocol: 'bao-forward/1', handler: (socket: Duplex) => void): void;
};

/** Answers forwarded requests. A handler that throws is answered with its error's code. */
export function serveForwarding(
  network: ForwardingListener,
  handler: (request: WireRequest) => Promise<WireResponse>,
): void {
  network.onConnection('bao-forward/1', (socket) => serveConnection(socket, handler));
}

function serveConnection(
  socket: Duplex,
  handler: (request: WireRequest) => Promise<WireResponse>,
): void {
  const reader = new FrameReader(FRAME_BYTES_MAX);
  let underWay = 0;
  const serve = async (exchange: number, request: WireRequest): Promise<void> => {
    underWay += 1;
    if (underWay === EXCHANGES_PER_CONNECTION_MAX) socket.pause();
    const frame = await handler(request).then(encodeResponse, encodeFailure);
    underWay -= 1;
    if (underWay < EXCHANGES_PER_CONNECTION_MAX) socket.resume();
    if (!socket.destroyed) writeFrame(socket, frame.kind, exchange, frame.head, frame.body);
  };
  socket.on('data', (chunk) => {
    const frames = decodeFrames(reader, chunk);
    if (frames === undefined) socket.destroy();
    for (const { kind, exchange, head, body } of frames ?? []) {
      if (kind !== KIND.request || !isRequestHead(head)) {
        socket.destroy();
        return;
      }
      // Copied: the chunk's memory would be pinned for as long as the request lives.
      void serve(exchange, { ...head, body: Buffer.from(body) });
    }
  });
}

/** A dial has its own, longer limit; a request need not wait for it. Nothing was written yet. */
async function withinMs<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    const error = new ServerError('no-leader', 'the active node could not be reached in time');
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
