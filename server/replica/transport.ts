/**
 * Messages between peers: one connection per ordered pair of nodes, dialled by the sender when it
 * first has something to say. Answers travel on the connection of the other direction.
 *
 * Nothing is guaranteed, as raft asks for nothing: what cannot be sent is dropped and reported as
 * unreachable. The bounds are what matters here: a peer that does not read costs at most
 * `QUEUE_BYTES_MAX`, a peer that is away one dial per back-off.
 *
 * A network that swallows everything shows no error for minutes. So the receiver says `seen` within a
 * second of a frame, and the sender gives up a connection that stays silent.
 */

import type { Socket } from 'node:net';
import { FrameError, FrameReader } from '../frames.ts';
import type { Message, NodeId } from '../raft/message.ts';
import type { Hello } from './wire.ts';
import {
  decodeFrame,
  decodeHello,
  encodeControl,
  encodeMessage,
  PEER_FRAME_BYTES_MAX,
} from './wire.ts';

/** What the replica needs of the cluster network (`cluster/listener.ts`). */
export type PeerNetwork = {
  dial(address: string, protocol: 'bao-raft/1'): Promise<Socket>;
};

export type ReplicaLogger = {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
};

export type TransportOptions = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Where peers reach this node. */
  readonly address: string;
  readonly network: PeerNetwork;
  readonly logger: ReplicaLogger;
  /** From the applied configuration. */
  addressOf(id: NodeId): string | undefined;
  onMessage(message: Message): void;
  onUnreachable(id: NodeId): void;
  /** A peer wants to send a snapshot. `early` are frames that arrived with the hello. */
  onSnapshotConnection(connection: SnapshotConnection): void;
};

type Introduction = { readonly address: string; readonly configured: string | undefined };

/** A connection of its own per snapshot, so that bulk never delays a heartbeat. */
export type SnapshotConnection = {
  readonly from: NodeId;
  readonly socket: Socket;
  readonly reader: FrameReader;
  readonly early: readonly Buffer[];
};

/** As in etcd's per-peer stream buffers, in bytes: a second of traffic at full speed. */
const QUEUE_BYTES_MAX = 8 * 1024 * 1024;
/** Beyond the queue there is room for what is small and urgent: votes and heartbeats. */
const QUEUE_BYTES_RESERVE = 64 * 1024;
const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 1_000;
const HELLO_TIMEOUT_MS = 10_000;
const SEEN_INTERVAL_MS = 1_000;
const SEEN_TIMEOUT_MS = 5_000;

export class Transport {
  readonly #options: TransportOptions;
  readonly #peers = new Map<NodeId, Peer>();
  /** Peers that have something to flush. */
  readonly #dirty = new Set<Peer>();
  /** Addresses from hellos, with what the configuration said then. */
  readonly #introduced = new Map<NodeId, Introduction>();
  readonly #incoming = new Map<NodeId, Socket>();
  #isClosed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /**
   * Connects without having anything to say: a leader that has given up on this node for a while
   * then sees that it is back.
   */
  greet(id: NodeId): void {
    this.#peer(id).flush();
  }

  send(message: Message): void {
    const peer = this.#peer(message.to);
    peer.enqueue(message);
    this.#dirty.add(peer);
  }

  /** Writes what was sent since the last flush, as one write per peer. */
  flush(): void {
    for (const peer of this.#dirty) peer.flush();
    this.#dirty.clear();
  }

  /** Opens a connection to a peer and says hello on it. */
  async dial(to: NodeId, purpose: Hello['purpose']): Promise<Socket> {
    const { network, clusterId, nodeId: from, address: own, addressOf } = this.#options;
    // A peer's own word is younger than the configuration, unless that has changed since.
    const configured = addressOf(to);
    const introduced = this.#introduced.get(to);
    const address = introduced?.configured === configured ? introduced?.address : configured;
    if (address === undefined) throw new Error(`the address of node ${to} is not known`);
    const socket = await network.dial(address, 'bao-raft/1');
    if (this.#isClosed) {
      socket.destroy();
      throw new Error('the transport is closed');
    }
    const hello: Hello = { kind: 'hello', purpose, clusterId, from, to, address: own };
    socket.write(Buffer.concat(encodeControl(hello)));
    return socket;
  }

  /** Takes over an incoming connection of the network. */
  accept(socket: Socket): void {
    const reader = new FrameReader(PEER_FRAME_BYTES_MAX);
    const timer = setTimeout(() => socket.destroy(), HELLO_TIMEOUT_MS);
    const onClose = (): void => clearTimeout(timer);
    const onData = (chunk: Buffer): void => {
      this.#guard(socket, () => {
        const [first, ...early] = reader.push(chunk);
        if (first === undefined) return;
        clearTimeout(timer);
        socket.off('data', onData);
        socket.off('close', onClose);
        this.#welcome(socket, decodeHello(first), { reader, early });
      });
    };
    socket.on('data', onData);
    socket.on('close', onClose);
  }

  close(): void {
    this.#isClosed = true;
    for (const peer of this.#peers.values()) peer.close();
    for (const socket of this.#incoming.values()) socket.destroy();
  }

  #peer(id: NodeId): Peer {
    const known = this.#peers.get(id);
    if (known !== undefined) return known;
    const peer = new Peer(
      () => this.dial(id, 'messages'),
      () => this.#options.onUnreachable(id),
    );
    this.#peers.set(id, peer);
    return peer;
  }

  #welcome(
    socket: Socket,
    hello: Hello,
    { reader, early }: { reader: FrameReader; early: readonly Buffer[] },
  ): void {
    const { clusterId, nodeId } = this.#options;
    const { from } = hello;
    if (this.#isClosed || hello.clusterId !== clusterId) throw new FrameError('another cluster');
    if (hello.to !== nodeId) throw new FrameError(`meant for node ${hello.to}`);
    if (from === nodeId || from === '') throw new FrameError(`from node "${from}"`);
    const configured = this.#options.addressOf(from);
    this.#introduced.set(from, { address: hello.address, configured });
    if (hello.purpose === 'snapshot') {
      this.#options.onSnapshotConnection({ from, socket, reader, early });
      return;
    }
    this.#peers.get(from)?.forgetBackoff();
    // The peer has dialled anew: what it had before is dead, even if no error came.
    this.#incoming.get(from)?.destroy();
    this.#incoming.set(from, socket);
    socket.on('close', () => {
      if (this.#incoming.get(from) === socket) this.#incoming.delete(from);
    });
    let seenTimer: NodeJS.Timeout | undefined;
    socket.on('close', () => clearTimeout(seenTimer));
    const receive = (payloads: readonly Buffer[]): void => {
      for (const payload of payloads) this.#receive(payload, from);
      seenTimer ??= setTimeout(() => {
        seenTimer = undefined;
        socket.write(Buffer.concat(encodeControl({ kind: 'seen' })));
      }, SEEN_INTERVAL_MS).unref();
    };
    socket.on('data', (chunk) => this.#guard(socket, () => receive(reader.push(chunk))));
    receive(early);
  }

  #receive(payload: Buffer, from: NodeId): void {
    const frame = decodeFrame(payload, from, this.#options.nodeId);
    switch (frame.kind) {
      case 'hello':
      case 'seen':
      case 'snapshotChunk':
      case 'snapshotEnd':
      case 'snapshotReceived':
      case 'installSnapshot':
        throw new FrameError(`unexpected ${frame.kind}`);
      default:
        this.#options.onMessage(frame);
    }
  }

  /** A peer that breaks the format loses its connection, and nothing else happens. */
  #guard(socket: Socket, read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      const { remoteAddress } = socket;
      this.#options.logger.warn({ remoteAddress, reason: error.message }, 'peer sent garbage');
      socket.destroy();
    }
  }
}

/** The sending side towards one peer. */
class Peer {
  readonly #dial: () => Promise<Socket>;
  readonly #onUnreachable: () => void;
  #socket: Socket | undefined;
  #isDialing = false;
  #isClosed = false;
  #nextDialMs = 0;
  #backoffMs = BACKOFF_MS_MIN;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** When the oldest write happened that no `seen` has followed. */
  #unseenSinceMs: number | undefined;

  constructor(dial: () => Promise<Socket>, onUnreachable: () => void) {
    this.#dial = dial;
    this.#onUnreachable = onUnreachable;
  }

  enqueue(message: Message): void {
    const queuedBytes = this.#pendingBytes + (this.#socket?.writableLength ?? 0);
    const limit = QUEUE_BYTES_MAX + (message.kind === 'appendEntries' ? 0 : QUEUE_BYTES_RESERVE);
    const parts = encodeMessage(message);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    // A single message always fits into an empty queue, however large.
    if (queuedBytes > 0 && queuedBytes + bytes > limit) {
      this.#onUnreachable();
      return;
    }
    this.#pending.push(...parts);
    this.#pendingBytes += bytes;
  }

  flush(): void {
    const nowMs = performance.now();
    if (this.#socket === undefined) {
      if (!this.#isDialing) this.#connect(nowMs);
      return;
    }
    if (this.#unseenSinceMs !== undefined && nowMs - this.#unseenSinceMs > SEEN_TIMEOUT_MS) {
      this.#socket.destroy();
      return;
    }
    if (this.#pending.length === 0) return;
    this.#unseenSinceMs ??= nowMs;
    this.#socket.write(Buffer.concat(this.#pending));
    this.#clear();
  }

  /** The other side has shown to be alive. */
  forgetBackoff(): void {
    this.#backoffMs = BACKOFF_MS_MIN;
    this.#nextDialMs = 0;
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.destroy();
    this.#clear();
  }

  #clear(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  #connect(nowMs: number): void {
    if (this.#isClosed || nowMs < this.#nextDialMs) {
      this.#clear();
      this.#onUnreachable();
      return;
    }
    this.#isDialing = true;
    this.#dial().then(
      (socket) => this.#opened(socket),
      () => this.#lost(),
    );
  }

  #opened(socket: Socket): void {
    this.#isDialing = false;
    if (this.#isClosed || socket.destroyed) {
      socket.destroy();
      this.#lost();
      return;
    }
    this.#socket = socket;
    this.#unseenSinceMs = undefined;
    socket.on('data', () => {
      // Only `seen` comes this way.
      this.#unseenSinceMs = undefined;
      this.#backoffMs = BACKOFF_MS_MIN;
    });
    socket.on('close', () => this.#lost());
    this.flush();
  }

  #lost(): void {
    this.#socket = undefined;
    this.#isDialing = false;
    this.#clear();
    this.#nextDialMs = performance.now() + this.#backoffMs;
    this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MS_MAX);
    if (!this.#isClosed) this.#onUnreachable();
  }
}
