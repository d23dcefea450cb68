/**
 * The thread that holds the cluster port: serves a `RelayedNetwork` in another thread, which knows
 * forwarding but not the port. Peers' connections stay here.
 */

import type { TLSSocket } from 'node:tls';
import type { MessagePort } from 'node:worker_threads';
import { answerOf } from '../threads/requests.ts';
import { openTurnPort } from '../threads/turn-port.ts';
import type { ClusterNetwork } from './listener.ts';
import { owned, RELAY_WINDOW_BYTES } from './network-protocol.ts';
import type { FromNetwork, ToNetwork } from './network-protocol.ts';

/** Serves for as long as the port is open. */
export function serveNetwork(port: MessagePort, network: ClusterNetwork): void {
  const connections = new Map<number, RelayedConnection>();
  let last = 0;
  const answer = (request: number, act: () => Promise<void>): void => {
    const outcome = answerOf(async () => {
      await act();
      return network.port();
    });
    // `answerOf` never rejects.
    void outcome.then((each) => turn.post({ kind: 'answer', request, answer: each }));
  };
  const turn = openTurnPort<FromNetwork, ToNetwork>(port, queueMicrotask, (message) => {
    switch (message.kind) {
      case 'bind':
        return answer(message.request, () => network.bind());
      case 'listen':
        return answer(message.request, () => network.listen(message.credentials));
      case 'close':
        return answer(message.request, () => network.close());
      case 'suspend':
        return network.suspend();
      default:
        return connections.get(message.connection)?.receive(message);
    }
  });
  network.onConnection('bao-forward/1', (socket) => {
    last += 1;
    const connection = last;
    connections.set(connection, new RelayedConnection(socket, connection, turn.post));
    socket.on('close', () => connections.delete(connection));
  });
}

type Post = (message: FromNetwork, transfer?: readonly ArrayBuffer[]) => void;

class RelayedConnection {
  readonly #socket: TLSSocket;
  readonly #connection: number;
  readonly #post: Post;
  #unconsumedBytes = 0;

  constructor(socket: TLSSocket, connection: number, post: Post) {
    this.#socket = socket;
    this.#connection = connection;
    this.#post = post;
    post({ kind: 'connected', connection });
    socket.on('data', (chunk: Buffer) => this.#relay(chunk));
    socket.on('close', () => post({ kind: 'closed', connection }));
  }

  receive(message: ToNetwork & { readonly connection: number }): void {
    switch (message.kind) {
      case 'write':
        return this.#write(message.bytes);
      case 'consumed':
        this.#unconsumedBytes -= message.byteCount;
        if (this.#unconsumedBytes < RELAY_WINDOW_BYTES) this.#socket.resume();
        return undefined;
      case 'destroy':
        this.#socket.destroy();
    }
  }

  #relay(chunk: Buffer): void {
    const bytes = owned(chunk);
    this.#unconsumedBytes += bytes.length;
    if (RELAY_WINDOW_BYTES <= this.#unconsumedBytes) this.#socket.pause();
    this.#post({ kind: 'data', connection: this.#connection, bytes }, [bytes.buffer]);
  }

  #write(bytes: Uint8Array): void {
    const connection = this.#connection;
    this.#socket.write(bytes, () => {
      this.#post({ kind: 'written', connection, byteCount: bytes.length });
    });
  }
}
