/**
 * The methods LIST and SCAN on `node:http`, whose parser (llhttp) knows a fixed set of verbs and
 * refuses these two before any JavaScript runs.
 *
 * The parser stays as strict as it is. Where it has refused a method at the very first bytes of a
 * message, and those bytes are `LIST ` or `SCAN `, the verb is overwritten in place by one of equal
 * length that it knows (LINK, BIND), the same parser starts afresh at that byte, and the socket is
 * marked: the next request on it had its verb replaced. A client that really sends LINK or BIND
 * carries no mark and is told so (`methodOf` names what was sent).
 *
 * Only whole requests lie before that byte (the parser said so), and nothing after it is looked at
 * here, so that neither a body nor a header can make a request out of itself. A verb split over two
 * packets inside its four letters cannot be recognised and is refused.
 *
 * This leans on internals of Node (`socket.parser`, the connection list): `verbs.test.ts` guards
 * them on every version that the suite runs on.
 */

import assert from 'node:assert/strict';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';

const replacedVerb = Symbol('replacedVerb');
const waitingPackets = Symbol('waitingPackets');

/** What of Node's HTTP parser is used here (lib/_http_server.js, src/node_http_parser.cc). */
type Parser = {
  initialize(
    type: number,
    resource: object,
    maxHeaderSize: number,
    lenientFlags: number,
    connectionsList: unknown,
  ): void;
  remove(): void;
  readonly constructor: { readonly REQUEST: number };
};

type HttpSocket = Duplex & {
  parser?: Parser | null;
  _handle?: { readStop(): void; readStart(): void } | null;
  _paused?: boolean;
  [replacedVerb]?: string | undefined;
  [waitingPackets]?: Buffer[] | undefined;
};

type ParseError = Error & { code?: string; bytesParsed?: number; rawPacket?: Buffer };

const SUBSTITUTES = [
  // `refusedAt`: how many letters the parser takes before no verb that it knows is left.
  { verb: Buffer.from('LIST '), substitute: Buffer.from('LINK'), refusedAt: 2 },
  { verb: Buffer.from('SCAN '), substitute: Buffer.from('BIND'), refusedAt: 1 },
] as const;

/**
 * Handles the server's `clientError` events that come from the two verbs. `onClientError` gets all
 * others, and must answer or destroy the socket. `maxHeaderSize` is the server's own.
 */
export function allowListAndScan(
  server: Server,
  maxHeaderSize: number,
  onClientError: (error: Error, socket: Duplex) => void,
): void {
  server.on('clientError', (error: ParseError, socket: HttpSocket) => {
    const waiting = socket[waitingPackets];
    if (waiting !== undefined && error.rawPacket !== undefined) {
      // TLS hands out what it has decrypted already: the stopped parser refused it unread.
      waiting.push(error.rawPacket);
      return;
    }
    const packet = error.code === 'HPE_INVALID_METHOD' ? substituteVerb(error, socket) : undefined;
    if (packet === undefined) {
      onClientError(error, socket);
      return;
    }
    socket[waitingPackets] = [packet];
    resumeParsing(socket, { maxHeaderSize, connections: connectionsListOf(server) });
  });
}

/** The method as the client wrote it. */
export function methodOf(request: IncomingMessage): string {
  const method = request.method ?? '';
  if (method !== 'LINK' && method !== 'BIND') return method;
  const socket: HttpSocket = request.socket;
  if (socket[replacedVerb] !== method) return method;
  socket[replacedVerb] = undefined;
  return method === 'LINK' ? 'LIST' : 'SCAN';
}

/** The rest of the packet from the refused verb on, with that verb replaced. */
function substituteVerb(error: ParseError, socket: HttpSocket): Buffer | undefined {
  const { rawPacket, bytesParsed } = error;
  if (rawPacket === undefined || bytesParsed === undefined) return undefined;
  for (const { verb, substitute, refusedAt } of SUBSTITUTES) {
    const start = bytesParsed - refusedAt;
    if (start < 0) continue;
    const rest = rawPacket.subarray(start);
    if (!rest.subarray(0, verb.length).equals(verb)) continue;
    substitute.copy(rest);
    socket[replacedVerb] = substitute.toString('latin1');
    return rest;
  }
  return undefined;
}

/**
 * Not in this turn: the parser may still be inside the read that it refused. Reading stops
 * until then, so that no later bytes overtake these.
 */
function resumeParsing(
  socket: HttpSocket,
  options: { maxHeaderSize: number; connections: unknown },
): void {
  const { parser, _handle: handle } = socket;
  assert(parser, 'a socket that reports a parse error has a parser');
  handle?.readStop();
  setImmediate(() => {
    const packets = socket[waitingPackets] ?? [];
    socket[waitingPackets] = undefined;
    if (socket.destroyed || socket.parser !== parser) return;
    parser.remove();
    const resource = { type: 'HTTPINCOMINGMESSAGE', socket };
    const { maxHeaderSize, connections } = options;
    parser.initialize(parser.constructor.REQUEST, resource, maxHeaderSize, 0, connections);
    for (const packet of packets) socket.emit('data', packet);
    // Among the packets may have been the next such verb, and its turn has not come yet.
    const { [waitingPackets]: waiting, _paused: isPaused, destroyed: isDestroyed } = socket;
    if (waiting === undefined && isPaused !== true && !isDestroyed) handle?.readStart();
  });
}

/** Node's list of connections, by which it enforces the header and request timeouts; made on listen. */
function connectionsListOf(server: Server): unknown {
  const symbol = Object.getOwnPropertySymbols(server).find(
    ({ description }) => description === 'http.server.connections',
  );
  assert(symbol, 'this version of Node keeps its HTTP connections elsewhere');
  const connections: unknown = Reflect.get(server, symbol);
  assert(connections !== undefined, 'this version of Node keeps its HTTP connections elsewhere');
  return connections;
}
