/**
 * The cluster network for a thread that does not hold the port. What it dials it dials itself; what
 * was accepted for forwarding arrives as a stream from the thread that holds the port, which also
 * does the cryptography of it. Peers' connections never come here.
 */

import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { MessagePort } from 'node:worker_threads';
import type { ClusterCredentials } from '../core/ports.ts';
import { Requests } from '../threads/requests.ts';
import { openTurnPort } from '../threads/turn-port.ts';
import type { ForwardingListener } from './forwarding.ts';
import { dialTls, identityOf } from './listener.ts';
import type { ClusterIdentity, ClusterNetwork, ClusterProtocol } from './listener.ts';
import { owned, RELAY_WINDOW_BYTES } from './network-protocol.ts';
import type { FromNetwork, ToNetwork } from './network-protocol.ts';

export type RelayedNetwork = Omit<ClusterNetwork, 'onConnection'> &
  ForwardingListener & {
    /** The thread is gone: whoever waits for it hears so, and connections end. */
    fail(error: Error): void;
  };

export function createRelayedNetwork(port: MessagePort): RelayedNetwork {
  const requests = new Requests<number>();
  const accepted = new Map<number, RelayedSocket>();
  const dialled = new Set<TLSSocket>();
  let identity: ClusterIdentity | undefined;
  let boundPort = 0;
  let handler: ((socket: Duplex) => void) | undefined;

  const turn = openTurnPort<ToNetwork, FromNetwork>(port, queueMicrotask, (message) => {
    if (message.kind === 'answer') requests.settle(message.request, message.answer);
    else if (message.kind === 'connected') accept(message.connection);
    else accepted.get(message.connection)?.receive(message);
  });
  const accept = (connection: number): void => {
    const socket = new RelayedSocket(connection, turn.post);
    accepted.set(connection, socket);
    socket.on('error', ignore);
    socket.once('close', () => accepted.delete(connection));
    if (handler === undefined) socket.destroy();
    else handler(socket);
  };
  const endAll = (): void => {
    identity = undefined;
    for (const socket of [...accepted.values(), ...dialled]) socket.destroy();
  };
  const ask = async (post: (request: number) => void): Promise<void> => {
    boundPort = await requests.ask(post);
  };
  return {
    port: () => boundPort,
    bind: () => ask((request) => turn.post({ kind: 'bind', request })),
    listen: async (credentials: ClusterCredentials) => {
      await ask((request) => turn.post({ kind: 'listen', request, credentials }));
      identity = identityOf(credentials);
    },
    suspend: () => {
      endAll();
      turn.post({ kind: 'suspend' });
    },
    close: async () => {
      endAll();
      await ask((request) => turn.post({ kind: 'close', request }));
    },
    dial: async (address: string, protocol: ClusterProtocol) => {
      if (identity === undefined) throw new Error('the cluster network is suspended');
      const socket = await dialTls(address, protocol, identity);
      dialled.add(socket);
      socket.once('close', () => dialled.delete(socket));
      return socket;
    },
    onConnection: (_protocol, onSocket) => {
      assert(handler === undefined, 'one handler per protocol');
      handler = onSocket;
    },
    fail: (error) => {
      requests.fail(error);
      endAll();
    },
  };
}

type Post = (message: ToNetwork, transfer?: readonly ArrayBuffer[]) => void;

/**
 * One accepted connection. Both directions are bounded by `RELAY_WINDOW_BYTES`: what is read is
 * confirmed when it is taken, and a write ends when what went before it has left.
 */
class RelayedSocket extends Duplex {
  readonly #connection: number;
  readonly #post: Post;
  #unwrittenBytes = 0;
  #onWritten: (() => void) | undefined;
  /** Read, but not confirmed because nobody takes it. */
  #untakenBytes = 0;

  constructor(connection: number, post: Post) {
    super();
    this.#connection = connection;
    this.#post = post;
  }

  receive(message: Exclude<FromNetwork, { kind: 'answer' | 'connected' }>): void {
    switch (message.kind) {
      case 'data':
        this.#untakenBytes += message.bytes.length;
        if (this.push(bufferOf(message.bytes))) this.#confirm();
        return;
      case 'written':
        this.#unwrittenBytes -= message.byteCount;
        if (this.#unwrittenBytes < RELAY_WINDOW_BYTES) this.#continue();
        return;
      case 'closed':
        this.destroy();
    }
  }

  override _read(): void {
    this.#confirm();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#send(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#post({ kind: 'destroy', connection: this.#connection });
    this.#continue();
    done(error);
  }

  #send(chunk: Buffer, done: () => void): void {
    const bytes = owned(chunk);
    this.#unwrittenBytes += bytes.length;
    this.#post({ kind: 'write', connection: this.#connection, bytes }, [bytes.buffer]);
    if (this.#unwrittenBytes < RELAY_WINDOW_BYTES) done();
    else this.#onWritten = done;
  }

  #continue(): void {
    const done = this.#onWritten;
    this.#onWritten = undefined;
    done?.();
  }

  #confirm(): void {
    if (this.#untakenBytes === 0) return;
    const byteCount = this.#untakenBytes;
    this.#untakenBytes = 0;
    this.#post({ kind: 'consumed', connection: this.#connection, byteCount });
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function ignore(): void {}
