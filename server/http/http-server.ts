/**
 * The listener: sockets, limits, bodies, and shutdown. What a request means is decided in
 * `request-handler.ts`; here one comes in as bytes, and its answer goes out as one write.
 *
 * A read must cost little more than a bare `node:http` handler: no request headers object, no
 * waiting for the end of a body that is not there, headers as one raw array, the body as one
 * string of known length.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { BodyIntake, type HeldBody } from './body-intake.ts';
import { EMPTY_BODY, type Answer, type Incoming } from './exchange.ts';
import { newRequestId } from './request-handler.ts';
import { readHead, type RequestHead } from './request-head.ts';
import { allowListAndScan, methodOf } from './verbs.ts';
import { errorBody } from './wire-errors.ts';

export type HttpServerOptions = {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** PEM. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly maxRequestSize: number;
  /** Of the bodies of all requests that have not ended: one given up with 504 may go on. */
  readonly heldBodyBytesMax: number;
  readonly maxConnections: number;
  readonly handler: {
    handle(incoming: Incoming): Promise<Answer>;
    errorAnswer(error: unknown, requestId: string): Answer;
  };
};

export type HttpServer = {
  /** Rejects if the address cannot be bound. */
  listen(): Promise<void>;
  port(): number;
  /** Requests that have not been answered yet. */
  inFlight(): number;
  /** Accepts nothing more, lets what is under way finish for `SHUTDOWN_MS`, then cuts it off. */
  close(): Promise<void>;
};

/** OpenBao: `http_read_header_timeout`, `http_read_timeout`, `http_idle_timeout`. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Long, because load generators and proxies keep their sockets. */
const KEEP_ALIVE_TIMEOUT_MS = 300_000;
const HEADER_BYTES_MAX = 32 * 1024;
const HEADERS_MAX = 100;
const SHUTDOWN_MS = 10_000;
/** Bodies of writes that are no JSON and have a limit of their own (internal/http/util.go). */
const STREAMED = /^\/v1\/sys\/storage\/raft\/snapshot(?:-force)?(?:\?|$)/;
/** After an early refusal: how long, and how much, a client may go on sending before it is cut off. */
const LINGER_MS = 500;
const LINGER_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Of one connection, under way at once. Node reads on however many are not answered, so a client
 * that asks for ever and waits for nothing would fill the memory; it is cut off.
 */
const PIPELINED_MAX = 256;

type Connection = Socket & { underWay?: number };

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { handler } = options;
  const bodies = new BodyIntake({
    bodyBytesMax: options.maxRequestSize,
    heldBytesMax: options.heldBodyBytesMax,
  });
  let inFlight = 0;
  let isClosing = false;

  const enter = (connection: Connection): boolean => {
    // What was read together with one request too many.
    if (connection.destroyed) return false;
    const underWay = (connection.underWay ?? 0) + 1;
    if (PIPELINED_MAX < underWay) {
      connection.destroy();
      return false;
    }
    connection.underWay = underWay;
    inFlight += 1;
    return true;
  };

  const leave = ({ socket }: { readonly socket: Connection }): void => {
    socket.underWay = (socket.underWay ?? 0) - 1;
    inFlight -= 1;
  };

  const answer = async (
    request: IncomingMessage,
    response: ServerResponse,
    received: {
      readonly method: string;
      readonly head: RequestHead;
      readonly body: Buffer;
      readonly stream?: AsyncIterable<Uint8Array>;
      readonly outlivedBy?: (begun: Promise<unknown>) => void;
    },
  ): Promise<void> => {
    const { method, head, body, stream, outlivedBy } = received;
    const incoming: Incoming = {
      id: newRequestId(),
      method,
      url: request.url ?? '',
      rawHeaders: request.rawHeaders,
      head,
      body,
      stream,
      outlivedBy,
      remoteAddress: request.socket.remoteAddress ?? '',
      isForwarded: false,
    };
    const result = await handler.handle(incoming);
    if (isClosing) result.headers.push('Connection', 'close');
    if (stream !== undefined && !request.complete) sendAndLinger(request, response, result);
    else await send(response, result);
    leave(request);
  };

  const answerHeld = async (
    request: IncomingMessage,
    response: ServerResponse,
    received: { readonly method: string; readonly head: RequestHead; readonly held: HeldBody },
  ): Promise<void> => {
    const { method, head, held } = received;
    let begun: Promise<unknown> | undefined;
    const outlivedBy = (it: Promise<unknown>): void => {
      begun = it;
    };
    try {
      await answer(request, response, { method, head, body: held.body, outlivedBy });
      await begun?.catch(() => undefined);
    } finally {
      held.release();
    }
  };

  const refuse = (request: IncomingMessage, response: ServerResponse, error: unknown): void => {
    const result = handler.errorAnswer(error, newRequestId());
    sendAndLinger(request, response, result);
    leave(request);
  };

  const server = listener(options, (request, response) => {
    if (!enter(request.socket)) return;
    const method = methodOf(request);
    let head: RequestHead;
    try {
      head = readHead(request.rawHeaders);
    } catch (error) {
      refuse(request, response, error);
      return;
    }
    if (head.contentLength <= 0 && !head.isChunked) {
      void answer(request, response, { method, head, body: EMPTY_BODY });
      return;
    }
    const isWrite = method === 'POST' || method === 'PUT';
    if (isWrite && STREAMED.test(request.url ?? '')) {
      const stream = request.iterator({ destroyOnReturn: false });
      void answer(request, response, { method, head, body: EMPTY_BODY, stream });
      return;
    }
    bodies.receive(request, head.contentLength).then(
      (held) => answerHeld(request, response, { method, head, held }),
      (error: unknown) => refuse(request, response, error),
    );
  });

  return {
    listen: () =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(options.port, options.host, () => {
          server.off('error', reject);
          resolve();
        });
      }),
    port: () => (server.address() as AddressInfo | null)?.port ?? 0,
    inFlight: () => inFlight,
    close: async () => {
      isClosing = true;
      if (!server.listening) return;
      const timer = setTimeout(() => server.closeAllConnections(), SHUTDOWN_MS);
      await new Promise((resolve) => server.close(resolve));
      clearTimeout(timer);
    },
  };
}

function listener(
  { tls, maxConnections }: HttpServerOptions,
  onRequest: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const settings = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
    noDelay: true,
  };
  const server =
    tls === undefined
      ? createServer(settings, onRequest)
      : createTlsServer({ ...settings, ...tls, minVersion: 'TLSv1.2' }, onRequest);
  server.maxConnections = maxConnections;
  server.maxHeadersCount = HEADERS_MAX;
  allowListAndScan(server, HEADER_BYTES_MAX, refuseBytes);
  // Without a listener the connection would end without a word.
  server.on('connect', (_request, socket) => {
    // Node takes its own listener away here; a reset by the client must not end the process.
    socket.on('error', () => socket.destroy());
    refuseBytes(UNSUPPORTED_METHOD, socket);
  });
  return server;
}

/** Waits only for what is streamed, and never rejects. */
function send(response: ServerResponse, answer: Answer): Promise<void> | undefined {
  const { status, headers, body, stream } = answer;
  if (status === 204) {
    response.writeHead(status, headers);
    response.end();
    return undefined;
  }
  if (stream !== undefined) {
    response.writeHead(status, headers);
    // What fails now can only be told by ending the connection before the body is whole.
    const sent = pipeline(stream, response).catch(() => void response.destroy());
    // Where the client was gone before it began, nobody has told the source.
    return sent.finally(() => stream[Symbol.asyncIterator]().return?.());
  }
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  headers.push('Content-Length', String(length));
  response.writeHead(status, headers);
  // ASCII needs no encoding, and goes out with the head as one string.
  if (typeof body === 'string' && length === body.length) response.end(body, 'latin1');
  else response.end(body);
  return undefined;
}

/**
 * For an answer that comes before the request's body has been read: closing at once would reset
 * the connection under a client that is still sending, and lose the answer.
 */
function sendAndLinger(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  const { status, headers, body } = answer;
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  headers.push('Content-Length', String(length), 'Connection', 'close');
  response.writeHead(status, headers);
  if (length > 0) response.write(body);
  let discarded = 0;
  const end = (): void => {
    clearTimeout(timer);
    response.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  request.once('end', end);
  request.once('close', end);
  request.on('data', (chunk: Buffer) => {
    discarded += chunk.length;
    if (discarded > LINGER_BYTES_MAX) end();
  });
  request.resume();
}

const UNSUPPORTED_METHOD = Object.assign(new Error('CONNECT'), { code: 'HPE_INVALID_METHOD' });

type UnreadSocket = Duplex & { _httpMessage?: ServerResponse | null };

/** What the parser refuses never becomes a request; the connection is of no further use. */
function refuseBytes(error: Error & { code?: string }, socket: UnreadSocket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { _httpMessage: underWay } = socket;
  if (underWay && underWay.req.complete) {
    // An answer out of turn would be taken for that of the request before.
    underWay.once('close', () => socket.destroy());
    return;
  }
  // The body of a request ends early, or never: whoever waits for it hears so by the end.
  if (underWay) setTimeout(() => socket.destroy(), LINGER_MS);
  if (underWay?.headersSent === true) return;
  const [status, message] = refusal(error.code);
  const body = errorBody([message]);
  const head = [
    `HTTP/1.1 ${status}`,
    'Content-Type: application/json',
    'Cache-Control: no-store',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function refusal(code: string | undefined): readonly [status: string, message: string] {
  switch (code) {
    case 'HPE_INVALID_METHOD':
      return ['405 Method Not Allowed', 'unsupported method'];
    case 'HPE_HEADER_OVERFLOW':
      return ['431 Request Header Fields Too Large', 'request headers too large'];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['408 Request Timeout', 'request timed out'];
    default:
      return ['400 Bad Request', 'malformed request'];
  }
}
