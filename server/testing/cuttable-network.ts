/** A node's cluster network that a test can cut off: connections break, and none come about. */

import type { Socket } from 'node:net';
import type { ClusterNetwork } from '../cluster/listener.ts';

type Network = Pick<ClusterNetwork, 'listen' | 'suspend' | 'dial' | 'onConnection'>;
export type CuttableNetwork = Network & { cut(): void; mend(): void };

export function cuttable(network: Network): CuttableNetwork {
  const sockets = new Set<Socket>();
  let isCut = false;
  const keep = (socket: Socket): void => {
    if (isCut) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  };
  return {
    listen: (credentials) => network.listen(credentials),
    suspend: () => network.suspend(),
    dial: async (address, protocol) => {
      if (isCut) throw new Error('the network is cut');
      const socket = await network.dial(address, protocol);
      keep(socket);
      return socket;
    },
    onConnection: (protocol, handler) =>
      network.onConnection(protocol, (socket) => {
        keep(socket);
        if (!isCut) handler(socket);
      }),
    cut: () => {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend: () => {
      isCut = false;
    },
  };
}
