/**
 * Messages between peers, over connections that the sender dials when it first has something to
 * say: `control` and `bulk` (`peer-lanes.ts`). Answers travel on those of the other direction.
 *
 * Nothing is guaranteed, as raft asks for nothing: what cannot be sent is dropped and reported as
 * unreachable. The bounds are what matters here: a peer that does not read costs at most what its
 * lanes hold, a peer that is away one dial per back-off, and nodes that nobody configured are few.
 *
 * A hello says which instance of a node dials and which one it means to reach, so that both sides
 * know whom they talk to: `callers.ts` judges who dialled, and nobody answers to another's name.
 */

import { FrameError, FrameReader } from '../frames.ts';
import type { Message, NodeId } from '../raft/message.ts';
import { RefusalLog } from '../refusal-log.ts';
import { Callers, disconnect, ReplacedError } from './callers.ts';
import type { AppliedMembership, Caller } from './callers.ts';
import type { Clock } from './clock.ts';
import { decodeHello, encodeControl, HELLO_BYTES_MAX } from './control-frames.ts';
import type { Hello } from './control-frames.ts';
import { PEER_FRAME_BYTES_MAX } from './frame-fields.ts';
import { SEEN_INTERVAL_MS } from './peer-lane.ts';
import { LANE_LIMITS, PeerLanes } from './peer-lanes.ts';
import type { LaneLimits } from './peer-lanes.ts';
import type { PeerSocket } from './peer-socket.ts';
import { decodeFrame } from './wire.ts';

/** What the replica needs of the cluster network (`cluster/listener.ts`). */
export type PeerNetwork = {
  dial(address: string, protocol: 'bao-raft/1'): Promise<PeerSocket>;
};

export type ReplicaLogger = {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
};

export type TransportOptions = {
  readonly clock: Clock;
  /** Smaller ones in simulations only. */
  readonly laneLimits?: LaneLimits;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Of this node's disk. */
  readonly instance: string;
  /** Where peers reach this node. */
  readonly address: string;
  readonly network: PeerNetwork;
  readonly logger: ReplicaLogger;
  readonly membership: AppliedMembership;
  onMessage(message: Message): void;
  onUnreachable(id: NodeId): void;
  /** This node's id belongs to another instance by now. May be called again. */
  onReplaced(): void;
  /** A peer wants to send a snapshot. `early` are frames that arrived with the hello. */
  onSnapshotConnection(connection: SnapshotConnection): void;
};

/** Of its own per snapshot: its receiver stops reading while its disk is busy. */
export type SnapshotConnection = {
  readonly from: NodeId;
  readonly socket: PeerSocket;
  readonly reader: FrameReader;
  readonly early: readonly Buffer[];
};

/** The way to one instance of a peer. */
type Peer = {
  readonly lanes: PeerLanes;
  /** Empty for any. */
  readonly instance: string;
  /** The configuration knows another one, of which alone something may be asked. */
  readonly isSuccessor: boolean;
};

type Opening = { readonly reader: FrameReader; readonly early: readonly Buffer[] };

const HELLO_TIMEOUT_MS = 10_000;
/** For who is refused to read why. */
const FAREWELL_MS = 1_000;
/** The first frame that comes back to who dialled. */
const REPLY_BYTES_MAX = 64;

/** What is asked of those whose answers make a majority. */
const QUESTIONS: ReadonlySet<Message['kind']> = new Set([
  'requestVote',
  'appendEntries',
  'heartbeat',
]);
const COUNTED_ANSWERS: ReadonlySet<Message['kind']> = new Set([
  'requestVoteResponse',
  'appendEntriesResponse',
  'heartbeatResponse',
]);

export class Transport {
  readonly #options: TransportOptions;
  readonly #refusals: RefusalLog;
  readonly #peers = new Map<NodeId, Peer>();
  /** Peers that have something to flush. */
  readonly #dirty = new Set<PeerLanes>();
  readonly #callers: Callers;
  #isClosed = false;
  /** By a configuration that was applied here, with this very disk. */
  #wasMember = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#callers = new Callers(options.membership);
    this.#refusals = new RefusalLog((fields, event) => options.logger.warn(fields, event));
    this.#reconsiderOwn();
  }

  /**
   * Connects without having anything to say: a leader that has given up on this node for a while
   * then sees that it is back.
   */
  greet(id: NodeId): void {
    this.#peer(id).lanes.flush();
  }

  send(message: Message): void {
    const { lanes, isSuccessor } = this.#peer(message.to);
    if (isSuccessor && QUESTIONS.has(message.kind)) return;
    lanes.enqueue(message);
    this.#dirty.add(lanes);
  }

  /** To be called after each turn in which another configuration took effect. */
  reconfigured(): void {
    this.#reconsiderOwn();
    for (const caller of this.#callers.reconsider()) disconnect(caller);
    for (const id of this.#peers.keys()) this.#realign(id);
  }

  /**
   * Another disk under this node's id came later only if this one was a member before: a new one
   * catches up through the configurations of those before it.
   */
  #reconsiderOwn(): void {
    const { membership, nodeId, instance, onReplaced } = this.#options;
    const own = membership.serverOf(nodeId)?.instance;
    if (own === instance) this.#wasMember = true;
    else if (own !== undefined && this.#wasMember) onReplaced();
  }

  /** Writes what was sent since the last flush, as one write per peer. */
  flush(): void {
    for (const peer of this.#dirty) peer.flush();
    this.#dirty.clear();
  }

  /** Opens a connection to a peer and says hello on it. */
  async dial(to: NodeId, purpose: Hello['purpose']): Promise<PeerSocket> {
    const { isSuccessor, instance } = this.#peer(to);
    if (isSuccessor && purpose === 'snapshot') throw new Error(`node ${to} has a successor`);
    const { network, clusterId, nodeId: from, instance: fromInstance } = this.#options;
    const socket = await network.dial(this.#addressOf(to, instance), 'bao-raft/1');
    if (this.#isClosed) {
      socket.destroy();
      throw new Error('the transport is closed');
    }
    const parties = { from, fromInstance, to, toInstance: instance };
    const { address } = this.#options;
    const memberIndex = this.#memberIndex();
    const hello: Hello = { kind: 'hello', purpose, clusterId, ...parties, memberIndex, address };
    socket.write(Buffer.concat(encodeControl(hello)));
    if (purpose !== 'snapshot') this.#hearRefusal(socket);
    return socket;
  }

  /** Bytes that wait for one peer. */
  backlogBytes(id: NodeId): number {
    return this.#peers.get(id)?.lanes.backlogBytes ?? 0;
  }

  /** Takes over an incoming connection of the network. */
  accept(socket: PeerSocket): void {
    const reader = new FrameReader(PEER_FRAME_BYTES_MAX, HELLO_BYTES_MAX);
    const { clock } = this.#options;
    const callOff = clock.after(HELLO_TIMEOUT_MS, () => this.#refuse(socket, 'no hello in time'));
    const onData = (chunk: Buffer): void => {
      this.#guard(socket, () => {
        const [first, ...early] = reader.push(chunk);
        if (first === undefined) return;
        callOff();
        socket.off('data', onData);
        socket.off('close', callOff);
        this.#welcome(socket, decodeHello(first), { reader, early });
      });
    };
    socket.on('data', onData);
    socket.on('close', callOff);
  }

  close(): void {
    this.#isClosed = true;
    for (const { lanes } of this.#peers.values()) lanes.close();
    this.#callers.closeAll();
  }

  #peer(id: NodeId): Peer {
    const known = this.#peers.get(id);
    if (known !== undefined) return known;
    const lanes = new PeerLanes({
      clock: this.#options.clock,
      limits: this.#options.laneLimits ?? LANE_LIMITS,
      dial: (lane) => this.dial(id, lane),
      onLoss: () => this.#options.onUnreachable(id),
    });
    const instance = this.#callers.meant(id);
    const peer = { lanes, instance, isSuccessor: this.#callers.isSuccessorMeant(id) };
    this.#peers.set(id, peer);
    return peer;
  }

  /** What was on its way to one instance is not for another. */
  #realign(id: NodeId): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    const isRight =
      peer.instance === this.#callers.meant(id) &&
      peer.isSuccessor === this.#callers.isSuccessorMeant(id);
    if (isRight) return;
    this.#dropPeer(id);
    this.#options.onUnreachable(id);
  }

  #dropPeer(id: NodeId): void {
    const lanes = this.#peers.get(id)?.lanes;
    if (lanes === undefined) return;
    this.#peers.delete(id);
    this.#dirty.delete(lanes);
    lanes.close();
  }

  /** A peer's own word is younger than the configuration, unless that has changed since. */
  #addressOf(id: NodeId, instance: string): string {
    const configured = this.#options.membership.serverOf(id)?.address;
    const caller = this.#callers.get(id);
    const isMeant = instance === '' || caller?.instance === instance;
    const said = isMeant && caller?.configured === configured ? caller?.address : undefined;
    const address = said ?? configured;
    if (address === undefined) throw new Error(`the address of node ${id} is not known`);
    return address;
  }

  /** What this node has applied, if it is a member by that. */
  #memberIndex(): number {
    const { membership, nodeId, instance } = this.#options;
    const own = membership.serverOf(nodeId);
    if (own === undefined || (own.instance ?? instance) !== instance) return 0;
    return membership.appliedIndex();
  }

  /** Somebody says, of what it has applied, that this node's id belongs to another instance. */
  #heardOfSuccessor(asOfIndex: number): void {
    const memberIndex = this.#memberIndex();
    // Who has not applied what made it a member may know less than who takes it for the old one.
    if (0 < memberIndex && memberIndex < asOfIndex) this.#options.onReplaced();
  }

  /** The first frame that comes back may say that this node is not wanted, and why. */
  #hearRefusal(socket: PeerSocket): void {
    const reader = new FrameReader(REPLY_BYTES_MAX);
    const { nodeId } = this.#options;
    const onData = (chunk: Buffer): void => {
      this.#guard(socket, () => {
        const [first] = reader.push(chunk);
        if (first === undefined) return;
        socket.off('data', onData);
        const frame = decodeFrame(first, '', nodeId);
        if (frame.kind === 'replaced') this.#heardOfSuccessor(frame.asOfIndex);
      });
    };
    socket.on('data', onData);
  }

  #welcome(socket: PeerSocket, hello: Hello, opening: Opening): void {
    const { clusterId, nodeId, instance } = this.#options;
    const { from, purpose, toInstance } = hello;
    if (this.#isClosed || hello.clusterId !== clusterId) throw new FrameError('another cluster');
    if (hello.to !== nodeId) throw new FrameError('meant for another node');
    if (from === nodeId || from === '') throw new FrameError('from no other node');
    if (toInstance !== '' && toInstance !== instance) {
      this.#heardOfSuccessor(hello.memberIndex);
      throw new FrameError(`meant for another instance of node ${nodeId}`);
    }
    const caller = this.#callers.admit(hello);
    // The peer has dialled anew: what it had before is dead, even if no error came.
    caller.sockets.get(purpose)?.destroy();
    caller.sockets.set(purpose, socket);
    this.#realign(from);
    socket.on('close', () => {
      if (caller.sockets.get(purpose) === socket) caller.sockets.delete(purpose);
      if (this.#callers.forgetStranger(caller)) this.#dropPeer(from);
      else if (caller.sockets.size === 0) this.#realign(from);
    });
    if (purpose === 'snapshot') {
      this.#options.onSnapshotConnection({ from, socket, ...opening });
      return;
    }
    this.#peers.get(from)?.lanes.forgetBackoff();
    this.#listen(socket, caller, opening);
  }

  #listen(socket: PeerSocket, caller: Caller, { reader, early }: Opening): void {
    const { clock } = this.#options;
    let callOff: (() => void) | undefined;
    socket.on('close', () => callOff?.());
    const receive = (payloads: readonly Buffer[]): void => {
      for (const payload of payloads) this.#receive(payload, caller);
      callOff ??= clock.after(SEEN_INTERVAL_MS, () => {
        callOff = undefined;
        socket.write(Buffer.concat(encodeControl({ kind: 'seen' })));
      });
    };
    socket.on('data', (chunk) => this.#guard(socket, () => receive(reader.push(chunk))));
    receive(early);
  }

  #receive(payload: Buffer, { id, isMember }: Caller): void {
    const frame = decodeFrame(payload, id, this.#options.nodeId);
    switch (frame.kind) {
      case 'hello':
      case 'seen':
      case 'replaced':
      case 'snapshotManifest':
      case 'snapshotChunk':
      case 'snapshotReceived':
      case 'installSnapshot':
        throw new FrameError(`unexpected ${frame.kind}`);
      default:
        // Nobody asked, or asked another instance.
        if (!isMember && COUNTED_ANSWERS.has(frame.kind)) return;
        if (frame.kind === 'appendEntriesResponse') this.#peers.get(id)?.lanes.heard(frame);
        this.#options.onMessage(frame);
    }
  }

  /** A peer that breaks the format loses its connection, and nothing else happens. */
  #guard(socket: PeerSocket, read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      if (error instanceof ReplacedError) this.#dismiss(socket, error.message);
      else this.#refuse(socket, error.message);
    }
  }

  /** Refuses an instance that has a successor, and lets it know. */
  #dismiss(socket: PeerSocket, reason: string): void {
    this.#refusals.say('replaced node refused', { remoteAddress: socket.remoteAddress, reason });
    const asOfIndex = this.#options.membership.appliedIndex();
    socket.end(Buffer.concat(encodeControl({ kind: 'replaced', asOfIndex })));
    // What comes before it has read that is of no interest, and must not reset the connection.
    socket.resume();
    const callOff = this.#options.clock.after(FAREWELL_MS, () => socket.destroy());
    socket.once('close', callOff);
  }

  #refuse(socket: PeerSocket, reason: string): void {
    const { remoteAddress } = socket;
    this.#refusals.say('peer sent garbage', { remoteAddress, reason });
    socket.destroy();
  }
}
