/**
 * The cluster port: one TLS 1.3 listener, and the dialling side of the same rules. Both sides must
 * present exactly the cluster's certificate; ALPN says what a connection is for.
 *
 * The port can be bound long before there are credentials, because a joining node has to say under
 * which address it will be reached before it is given any. Until `listen`, and after `suspend`,
 * every handshake fails.
 */

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { isIPv6 } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { connect, createServer } from 'node:tls';
import type { ClusterCredentials } from '../core/ports.ts';
import { RefusalLog } from '../refusal-log.ts';
import { certificateDer } from './credentials.ts';

export type ClusterProtocol = 'bao-raft/1' | 'bao-forward/1';

export type ClusterLogger = {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
};

export type ClusterNetworkOptions = {
  readonly host: string;
  /** 0 lets the system choose; `port()` then tells. */
  readonly port: number;
  readonly logger: ClusterLogger;
  /** Beyond it new connections are dropped. */
  readonly connectionsMax?: number;
  /** Beyond it the oldest of those that have not proved who they are is dropped. */
  readonly handshakesMax?: number;
  readonly handshakeTimeoutMs?: number;
};

export type ClusterNetwork = {
  /** Binds the port without accepting anyone. Repeating it is harmless. */
  bind(): Promise<void>;
  /** Binds if need be, and accepts holders of `credentials`. */
  listen(credentials: ClusterCredentials): Promise<void>;
  /** Forgets the credentials and ends all connections; the port stays bound. */
  suspend(): void;
  close(): Promise<void>;
  /** The bound port; 0 before `bind`. */
  port(): number;
  /** Connects to `host:port` and proves both identities, or rejects. */
  dial(address: string, protocol: ClusterProtocol): Promise<TLSSocket>;
  /** One handler per protocol. The socket has no error listener but one that ignores. */
  onConnection(protocol: ClusterProtocol, handler: (socket: TLSSocket) => void): void;
};

const PROTOCOLS: ClusterProtocol[] = ['bao-raft/1', 'bao-forward/1'];
/** Two per peer and a pool per standby in use; far more only if something is wrong. */
const CONNECTIONS_MAX = 1024;
/** Far more than a cluster needs at once; strangers who prove nothing push only each other out. */
const HANDSHAKES_MAX = 64;
/** A handshake is two local round trips; OpenBao waits 30 s. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** A node that takes longer to answer is as good as gone: requests wait for it. */
const DIAL_TIMEOUT_MS = 5_000;
/** When the other host vanishes, nothing else ends an idle connection. */
const KEEP_ALIVE_MS = 5_000;
/** TLS wants a name; what is checked is the certificate itself. */
const SERVER_NAME = 'baobench-cluster';

export function createClusterNetwork(options: ClusterNetworkOptions): ClusterNetwork {
  const { host, logger } = options;
  const handshakeTimeout = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
  const handlers = new Map<string, (socket: TLSSocket) => void>();
  const sockets = new Set<Socket>();
  let identity: ClusterIdentity | undefined;
  let bound: Promise<void> | undefined;

  const server = createServer({
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout,
    ALPNProtocols: PROTOCOLS,
    minVersion: 'TLSv1.3',
  });
  server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
  const refusals = new RefusalLog((fields, event) => logger.warn(fields, event));
  const handshakes = new Handshakes(options.handshakesMax ?? HANDSHAKES_MAX);
  server.on('connection', (socket) => {
    track(sockets, socket);
    handshakes.begin(socket);
  });
  server.on('tlsClientError', (error, socket) => {
    const { remoteAddress } = socket;
    refusals.say('peer refused', { remoteAddress, reason: error.message });
    socket.destroy();
  });
  server.on('error', (error) => logger.warn({ reason: error.message }, 'cluster listener failed'));
  server.on('drop', () => {
    refusals.say('peer refused', { reason: `more than ${server.maxConnections} connections` });
  });
  server.on('secureConnection', (socket) => {
    socket.on('error', ignore);
    handshakes.end(socket);
    const handler = handlers.get(String(socket.alpnProtocol));
    if (identity === undefined || handler === undefined || !presents(socket, identity.der)) {
      const { remoteAddress } = socket;
      refusals.say('peer refused', { remoteAddress, reason: 'identity' });
      socket.destroy();
      return;
    }
    prepare(socket);
    handler(socket);
  });

  const suspend = (): void => {
    identity = undefined;
    server.setSecureContext({ minVersion: 'TLSv1.3' });
    for (const socket of sockets) socket.destroy();
  };
  const bind = (): Promise<void> => {
    bound ??= new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port: options.port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    return bound;
  };
  return {
    bind,
    suspend,
    listen: async (credentials) => {
      await bind();
      const { certificatePem: cert, privateKeyPem: key } = credentials;
      server.setSecureContext({ cert, key, ca: [cert], minVersion: 'TLSv1.3' });
      identity = identityOf(credentials);
    },
    close: async () => {
      suspend();
      if (!server.listening) return;
      await new Promise((resolve) => server.close(resolve));
    },
    port: () => {
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    },
    dial: async (address, protocol) => {
      if (identity === undefined) throw new Error('the cluster network is suspended');
      const socket = await dialTls(address, protocol, identity);
      track(sockets, socket);
      return socket;
    },
    onConnection: (protocol, handler) => {
      assert(!handlers.has(protocol), 'one handler per protocol');
      handlers.set(protocol, handler);
    },
  };
}

/**
 * Connections that have not proved who they are. They are bounded apart, and the oldest goes first:
 * a peer is done within milliseconds, whoever holds places does not get far.
 */
class Handshakes {
  readonly #max: number;
  /** By the address of the other side, which the TLS socket shares with the one below it. */
  readonly #pending = new Map<string, Socket>();

  constructor(max: number) {
    this.#max = max;
  }

  begin(socket: Socket): void {
    const key = endOf(socket);
    this.#pending.set(key, socket);
    socket.once('close', () => {
      if (this.#pending.get(key) === socket) this.#pending.delete(key);
    });
    if (this.#pending.size <= this.#max) return;
    const [oldest] = this.#pending.values();
    oldest?.destroy();
  }

  end(socket: Socket): void {
    this.#pending.delete(endOf(socket));
  }
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

export type ClusterIdentity = { readonly credentials: ClusterCredentials; readonly der: Buffer };

export function identityOf(credentials: ClusterCredentials): ClusterIdentity {
  return { credentials, der: certificateDer(credentials) };
}

/** Connects to `host:port` and proves both identities, or rejects. */
export function dialTls(
  address: string,
  protocol: ClusterProtocol,
  identity: ClusterIdentity,
): Promise<TLSSocket> {
  const { certificatePem: cert, privateKeyPem: key } = identity.credentials;
  const { host, port } = splitAddress(address);
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      cert,
      key,
      ca: [cert],
      minVersion: 'TLSv1.3',
      ALPNProtocols: [protocol],
      servername: SERVER_NAME,
      checkServerIdentity: () => undefined,
    });
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const onClose = (): void => fail(new Error(`${address} closed during the handshake`));
    const timer = setTimeout(
      () => fail(new Error(`${address} did not answer within ${DIAL_TIMEOUT_MS} ms`)),
      DIAL_TIMEOUT_MS,
    );
    socket.on('error', fail);
    socket.on('close', onClose);
    socket.once('secureConnect', () => {
      if (!presents(socket, identity.der) || socket.alpnProtocol !== protocol) {
        fail(new Error(`${address} is not a node of this cluster`));
        return;
      }
      clearTimeout(timer);
      socket.off('error', fail);
      socket.off('close', onClose);
      socket.on('error', ignore);
      prepare(socket);
      resolve(socket);
    });
  });
}

function presents(socket: TLSSocket, der: Buffer): boolean {
  // Node's declaration omits that there may be none: the object is then empty.
  const raw: Buffer | undefined = socket.getPeerCertificate(false).raw;
  return socket.authorized && raw !== undefined && raw.equals(der);
}

/** Splits `host:port` and `[v6]:port`; throws on anything else. */
export function splitAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535 || (match?.[1] !== undefined && !isIPv6(host))) {
    throw new Error(`not a host:port address: ${address}`);
  }
  return { host, port };
}

function prepare(socket: TLSSocket): void {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
}

/** Of a socket's end its users hear by `close`; the error itself says nothing they could act on. */
function ignore(): void {}
