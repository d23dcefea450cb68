/**
 * Connections between simulated nodes: ordered bytes over the links of the network, cut into pieces
 * wherever the seed says. A piece waits while its link is cut, as TCP repeats it; a connection that
 * breaks takes with it what is under way, also the half of a frame.
 *
 * A writer's memory is read when the piece leaves, not when it is handed over: who uses it again
 * too early sends something else.
 */

import type { NodeId } from '../../raft/message.ts';
import type { PeerSocket } from '../../replica/peer-socket.ts';
import type { Random } from '../random.ts';
import type { EventQueue } from './event-queue.ts';
import type { Network } from './network.ts';
import { SimulatedSocket, type Outgoing } from './simulated-socket.ts';

/** A process, as its connections see it. */
export type StreamHost = {
  readonly id: NodeId;
  /** Later if it is paused, and never if it has ended. */
  run(callback: () => void): void;
  accept(socket: SimulatedSocket): void;
};

export type StreamPlan = {
  /** What a connection holds of bytes that nobody has read. */
  readonly windowBytes: number;
  /** Of a piece, that it is cut once more. */
  readonly cutProbability: number;
};

type World = {
  readonly plan: StreamPlan;
  readonly queue: EventQueue;
  readonly network: Pick<Network<never>, 'isCut' | 'segmentArrivalUs'>;
  readonly random: Random;
  /** The process that runs there now. */
  hostOf(id: NodeId): StreamHost | undefined;
};

type Connection = {
  readonly ends: readonly [End, End];
  isBroken: boolean;
};

type End = { readonly host: StreamHost; readonly socket: SimulatedSocket };

/** Before TCP repeats what was not confirmed, and how often it does. */
const RETRANSMISSION_US = 40_000;
const RETRANSMISSIONS_MAX = 100;
/** As the cluster's listener has it. */
const DIAL_TIMEOUT_US = 5_000_000;
const HANDSHAKE_BYTES = 100;
const NO_BYTES = Buffer.alloc(0);

export class Streams {
  readonly #world: World;
  readonly #connections = new Set<Connection>();
  readonly counts = { opened: 0, refused: 0, broken: 0, pieces: 0, 'pieces held back': 0 };

  constructor(world: World) {
    this.#world = world;
  }

  dial(from: StreamHost, to: NodeId): Promise<PeerSocket> {
    return new Promise((resolve, reject) => {
      let isSettled = false;
      const refuse = (reason: string): void => {
        if (isSettled) return;
        isSettled = true;
        this.counts.refused += 1;
        from.run(() => reject(new Error(`Cannot connect to ${to}: ${reason}`)));
      };
      // A host that is paused accepts in the end, or is started anew meanwhile.
      this.#world.queue.after(DIAL_TIMEOUT_US, () => refuse('timed out'));
      this.#carry({ from: from.id, to, bytes: HANDSHAKE_BYTES }, (hasArrived) => {
        if (!hasArrived) return refuse('timed out');
        const host = this.#world.hostOf(to);
        if (host === undefined) return refuse('refused');
        host.run(() => {
          if (this.#world.hostOf(from.id) !== from) return;
          if (isSettled) return;
          const [here, there] = this.#connect(from, host);
          host.accept(there);
          this.#carry({ from: to, to: from.id, bytes: HANDSHAKE_BYTES }, () => {
            if (isSettled) here.destroy();
            isSettled = true;
            from.run(() => resolve(here));
          });
        });
      });
    });
  }

  /** The process has ended; who is connected to it may find out much later. */
  end(host: StreamHost): void {
    for (const connection of this.#connections) {
      const end = connection.ends.find((each) => each.host === host);
      if (end === undefined) continue;
      end.socket.forget();
      this.#break(connection, end);
    }
  }

  /** Breaks all connections of a process, in the midst of whatever they carry. */
  reset(host: StreamHost): void {
    for (const connection of this.#connections) {
      if (connection.ends.some((each) => each.host === host)) this.#break(connection, undefined);
    }
  }

  /** `then` learns whether it arrived; not called if the network broke what would carry it. */
  #carry(
    sent: { readonly from: NodeId; readonly to: NodeId; readonly bytes: number },
    then: (hasArrived: boolean) => void,
  ): void {
    const { queue, network } = this.#world;
    const { from, to, bytes } = sent;
    const arrivalUs = network.segmentArrivalUs(from, to, bytes);
    if (arrivalUs === undefined) {
      queue.after(RETRANSMISSION_US, () => then(false));
      return;
    }
    let attempts = 0;
    const arrive = (): void => {
      if (!network.isCut(from, to)) return then(true);
      attempts += 1;
      if (RETRANSMISSIONS_MAX < attempts) then(false);
      else queue.after(RETRANSMISSION_US, arrive);
    };
    queue.at(arrivalUs, arrive);
  }

  #connect(from: StreamHost, to: StreamHost): readonly [SimulatedSocket, SimulatedSocket] {
    this.counts.opened += 1;
    const here = new SimulatedSocket(to.id, from.run);
    const there = new SimulatedSocket(from.id, to.run);
    const connection: Connection = {
      ends: [
        { host: from, socket: here },
        { host: to, socket: there },
      ],
      isBroken: false,
    };
    this.#connections.add(connection);
    const [one, other] = connection.ends;
    const out = new Way(this.#world, one, other, this.#port(connection, one));
    const back = new Way(this.#world, other, one, this.#port(connection, other));
    here.connect(out, (bytes) => back.confirm(bytes));
    there.connect(back, (bytes) => out.confirm(bytes));
    return [here, there];
  }

  #port(connection: Connection, source: End): WayPort {
    return {
      isBroken: () => connection.isBroken,
      break: () => this.#break(connection, undefined),
      close: () => this.#break(connection, source),
      count: (name) => (this.counts[name] += 1),
    };
  }

  /** Who did it knows already; the others hear of it as soon as the links allow. */
  #break(connection: Connection, by: End | undefined): void {
    if (connection.isBroken) return;
    connection.isBroken = true;
    this.counts.broken += 1;
    this.#connections.delete(connection);
    const [one, other] = connection.ends;
    for (const [end, remote] of [
      [one, other],
      [other, one],
    ] as const) {
      if (end === by || end.socket.isGone) continue;
      const sent = { from: remote.host.id, to: end.host.id, bytes: 1 };
      this.#carry(sent, () => end.host.run(() => end.socket.reset()));
    }
  }
}

type WayPort = {
  isBroken(): boolean;
  /** The network breaks the connection. */
  break(): void;
  /** The source does. */
  close(): void;
  count(name: 'pieces' | 'pieces held back'): void;
};

type Unsent = { readonly bytes: Buffer; offset: number; readonly written: () => void };

/** One direction of a connection. Invariant: at most a window of bytes has left and is unread. */
class Way implements Outgoing {
  readonly #world: World;
  readonly #source: End;
  readonly #sink: End;
  readonly #port: WayPort;
  #unsent: Unsent[] = [];
  unsentBytes = 0;
  #unreadBytes = 0;
  #isEnding = false;
  #lastArrivalUs = 0;
  /** What has come while the link was cut, or behind that, in order. */
  #held: Buffer[] = [];

  constructor(world: World, source: End, sink: End, port: WayPort) {
    this.#world = world;
    this.#source = source;
    this.#sink = sink;
    this.#port = port;
  }

  write(bytes: Buffer, written: () => void): void {
    this.#unsent.push({ bytes, offset: 0, written });
    this.unsentBytes += bytes.length;
    // Whatever is written in one turn leaves after it.
    this.#source.socket.later(() => this.#pump());
  }

  end(): void {
    this.#isEnding = true;
    this.#source.socket.later(() => this.#pump());
  }

  /** What has left may still arrive, or not. */
  abandon(): void {
    for (const { written } of this.#unsent) this.#source.socket.later(written);
    this.#unsent = [];
    this.unsentBytes = 0;
    const { queue, random } = this.#world;
    if (this.#port.isBroken()) return;
    const isGraceful = random.chance(0.5) && queue.nowUs < this.#lastArrivalUs;
    if (isGraceful) queue.at(this.#lastArrivalUs + 1, () => this.#port.close());
    else this.#port.close();
  }

  /** So many bytes were read on the other side. */
  confirm(bytes: number): void {
    this.#unreadBytes -= bytes;
    if (this.#unsent.length > 0) this.#source.host.run(() => this.#pump());
  }

  #pump(): void {
    if (this.#port.isBroken()) return;
    const { windowBytes } = this.#world.plan;
    const pieces: Buffer[] = [];
    let head = this.#unsent[0];
    while (head !== undefined && this.#unreadBytes < windowBytes) {
      const room = windowBytes - this.#unreadBytes;
      const piece = Buffer.from(head.bytes.subarray(head.offset, head.offset + room));
      head.offset += piece.length;
      this.unsentBytes -= piece.length;
      this.#unreadBytes += piece.length;
      pieces.push(piece);
      if (head.offset < head.bytes.length) break;
      this.#unsent.shift();
      this.#source.socket.later(head.written);
      head = this.#unsent[0];
    }
    // What is written in one turn may well be read in one.
    if (pieces.length > 0) this.#launch(Buffer.concat(pieces));
    if (head !== undefined) return;
    this.#source.socket.drained();
    if (this.#isEnding) this.#depart(NO_BYTES);
    this.#isEnding = false;
  }

  #launch(bytes: Buffer): void {
    const { plan, random } = this.#world;
    let rest = bytes;
    while (rest.length > 1 && random.chance(plan.cutProbability)) {
      const at = random.between(1, rest.length - 1);
      this.#depart(rest.subarray(0, at));
      rest = rest.subarray(at);
    }
    this.#depart(rest);
  }

  #depart(piece: Buffer): void {
    const { queue, network } = this.#world;
    const [from, to] = [this.#source.host.id, this.#sink.host.id];
    this.#port.count('pieces');
    const arrivalUs = network.segmentArrivalUs(from, to, piece.length);
    if (arrivalUs === undefined) return this.#port.break();
    this.#lastArrivalUs = Math.max(this.#lastArrivalUs, arrivalUs);
    queue.at(this.#lastArrivalUs, () => this.#arrive(piece));
  }

  #arrive(piece: Buffer): void {
    if (this.#port.isBroken()) return;
    const isFirst = this.#held.length === 0;
    if (isFirst && !this.#isCut()) return this.#deliver([piece]);
    this.#held.push(piece);
    this.#port.count('pieces held back');
    if (isFirst) this.#repeat(1);
  }

  #repeat(attempt: number): void {
    this.#world.queue.after(RETRANSMISSION_US, () => {
      if (this.#port.isBroken()) return;
      if (!this.#isCut()) this.#deliver(this.#held.splice(0));
      else if (attempt < RETRANSMISSIONS_MAX) this.#repeat(attempt + 1);
      else this.#port.break();
    });
  }

  #isCut(): boolean {
    return this.#world.network.isCut(this.#source.host.id, this.#sink.host.id);
  }

  /** Pieces that come together are read as one. */
  #deliver(pieces: readonly Buffer[]): void {
    const { host, socket } = this.#sink;
    const filled = pieces.filter(({ length }) => length > 0);
    const [first, ...more] = filled;
    host.run(() => {
      if (first !== undefined) socket.receive(more.length === 0 ? first : Buffer.concat(filled));
      if (filled.length < pieces.length) socket.receive(NO_BYTES);
    });
  }
}
