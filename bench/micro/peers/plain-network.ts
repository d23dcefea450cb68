/**
 * The cluster port without TLS, on loopback, for a comparison of like with like: peers that are
 * measured without it. No server offers this.
 */

import { createServer, connect, type Socket } from 'node:net';

import type { RaftNetwork } from '../../../server/replica/inline-raft.ts';
import type { ReplicaNetwork } from '../../../server/replica/replica.ts';

export type PlainNetwork = ReplicaNetwork &
  RaftNetwork & {
    bind(): Promise<void>;
    port(): number;
  };

export function createPlainNetwork(): PlainNetwork {
  let handler: ((socket: Socket) => void) | undefined;
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', ignore);
    if (handler === undefined) socket.destroy();
    else handler(socket);
  });
  return {
    bind: () => new Promise((resolve) => server.listen(0, '127.0.0.1', resolve)),
    port: () => {
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    },
    onConnection: (_protocol, onSocket) => {
      handler = onSocket;
    },
    listen: async () => undefined,
    suspend: () => undefined,
    dial: (address) =>
      new Promise((resolve, reject) => {
        const [host, port] = address.split(':');
        const socket = connect({ host: host ?? '', port: Number(port), noDelay: true });
        socket.once('error', reject);
        socket.once('connect', () => {
          socket.off('error', reject);
          socket.on('error', ignore);
          resolve(socket);
        });
      }),
  };
}

/** Of a socket's end its users hear by `close`. */
function ignore(): void {}
