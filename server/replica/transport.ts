/**
 * Messages between peers, over connections that the sender dials when it first has something to
 * say: `control` and `bulk` (`peer-lanes.ts`). Answers travel on those of the other direction.
 *
 * Nothing is guaranteed, as raft asks for nothing: what cannot be sent is dropped and reported as
 * unreachable. The bounds are what matters here: a peer that does not read costs at most what its
 * lanes hold, a peer that is away one dial per back-off, and nodes that nobody configured are few.
 *
 * All nodes hold one certificate, so a hello's word for who dials must be taken, but for one case:
 * a node that is connected is not believed to be somewhere else as well.
 */

import type { Socket } from 'node:net';
import { FrameError, FrameReader } from '../frames.ts';
import type { Message, NodeId } from '../raft/message.ts';
import { RefusalLog } from '../refusal-log.ts';
import { decodeHello, encodeControl, HELLO_BYTES_MAX } from './control-frames.ts';
import type { Hello } from './control-frames.ts';
import { PEER_FRAME_BYTES_MAX } from './frame-fields.ts';
import { SEEN_INTERVAL_MS } from './peer-lane.ts';
import { PeerLanes } from './peer-lanes.ts';
import { decodeFrame } from './wire.ts';

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

/** Of its own per snapshot: its receiver stops reading while its disk is busy. */
export type SnapshotConnection = {
  readonly from: NodeId;
  readonly socket: Socket;
  readonly reader: FrameReader;
  readonly early: readonly Buffer[];
};

type Caller = {
  readonly address: string;
  /** What the configuration said when the caller introduced itself. */
  readonly configured: string | undefined;
  /** Open connections, by purpose. */
  readonly sockets: Map<Hello['purpose'], Socket>;
};

type Opening = { readonly reader: FrameReader; readonly early: readonly Buffer[] };

const HELLO_TIMEOUT_MS = 10_000;
/** A node that joins does not know its leader yet; two more may want to lead meanwhile. */
const STRANGERS_MAX = 8;

export class Transport {
  readonly #options: TransportOptions;
  readonly #refusals: RefusalLog;
  readonly #peers = new Map<NodeId, PeerLanes>();
  /** Peers that have something to flush. */
  readonly #dirty = new Set<PeerLanes>();
  readonly #callers = new Map<NodeId, Caller>();
  #isClosed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#refusals = new RefusalLog((fields, event) => options.logger.warn(fields, event));
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
    const caller = this.#callers.get(to);
    const address = caller?.configured === configured ? caller?.address : configured;
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

  /** Bytes that wait for one peer. */
  backlogBytes(id: NodeId): number {
    return this.#peers.get(id)?.backlogBytes ?? 0;
  }

  /** Takes over an incoming connection of the network. */
  accept(socket: Socket): void {
    const reader = new FrameReader(PEER_FRAME_BYTES_MAX, HELLO_BYTES_MAX);
    const timer = setTimeout(() => {
      this.#refuse(socket, 'no hello in time');
    }, HELLO_TIMEOUT_MS);
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
    for (const { sockets } of this.#callers.values()) {
      for (const socket of sockets.values()) socket.destroy();
    }
  }

  #peer(id: NodeId): PeerLanes {
    const known = this.#peers.get(id);
    if (known !== undefined) return known;
    const peer = new PeerLanes({
      dial: (lane) => this.dial(id, lane),
      onLoss: () => this.#options.onUnreachable(id),
    });
    this.#peers.set(id, peer);
    return peer;
  }

  #welcome(socket: Socket, hello: Hello, opening: Opening): void {
    const { clusterId, nodeId } = this.#options;
    const { from, purpose } = hello;
    if (this.#isClosed || hello.clusterId !== clusterId) throw new FrameError('another cluster');
    if (hello.to !== nodeId) throw new FrameError('meant for another node');
    if (from === nodeId || from === '') throw new FrameError('from no other node');
    const caller = this.#admit(hello);
    this.#callers.set(from, caller);
    // The peer has dialled anew: what it had before is dead, even if no error came.
    caller.sockets.get(purpose)?.destroy();
    caller.sockets.set(purpose, socket);
    socket.on('close', () => {
      if (caller.sockets.get(purpose) === socket) caller.sockets.delete(purpose);
      if (caller.sockets.size === 0) this.#forgetStranger(from);
    });
    if (purpose === 'snapshot') {
      this.#options.onSnapshotConnection({ from, socket, ...opening });
      return;
    }
    this.#peers.get(from)?.forgetBackoff();
    this.#listen(socket, from, opening);
  }

  /** Throws `FrameError` if the caller cannot be who it says, or is one stranger too many. */
  #admit({ from, address }: Hello): Caller {
    const configured = this.#options.addressOf(from);
    const known = this.#callers.get(from);
    if (known === undefined || known.sockets.size === 0) {
      const isFull = STRANGERS_MAX <= this.#strangerCount();
      if (configured === undefined && isFull) throw new FrameError('too many unknown nodes');
      return { address, configured, sockets: new Map() };
    }
    if (known.address !== address) throw new FrameError('the node is connected from elsewhere');
    return { address, configured, sockets: known.sockets };
  }

  #strangerCount(): number {
    const ids = [...this.#callers.keys()];
    return ids.filter((id) => this.#options.addressOf(id) === undefined).length;
  }

  /** What is kept of a node ends with its last connection, unless it is configured. */
  #forgetStranger(id: NodeId): void {
    if (this.#options.addressOf(id) !== undefined) return;
    this.#callers.delete(id);
    this.#peers.get(id)?.close();
    this.#peers.delete(id);
  }

  #listen(socket: Socket, from: NodeId, { reader, early }: Opening): void {
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
      case 'snapshotManifest':
      case 'snapshotChunk':
      case 'snapshotReceived':
      case 'installSnapshot':
        throw new FrameError(`unexpected ${frame.kind}`);
      default:
        if (frame.kind === 'appendEntriesResponse') this.#peers.get(from)?.heard(frame);
        this.#options.onMessage(frame);
    }
  }

  /** A peer that breaks the format loses its connection, and nothing else happens. */
  #guard(socket: Socket, read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#refuse(socket, error.message);
    }
  }

  #refuse(socket: Socket, reason: string): void {
    const { remoteAddress } = socket;
    this.#refusals.say('peer sent garbage', { remoteAddress, reason });
    socket.destroy();
  }
}
