/**
 * The network between simulated nodes: directed links that lose, double, delay, reorder, clog,
 * throttle, corrupt, and repeat what was sent terms ago.
 *
 * In `datagram` mode packets overtake each other. In `stream` mode a link is a connection: packets
 * stay in order, and a loss is a reset, which takes what is under way with it and is told to the
 * sender, as TCP does.
 *
 * A corrupted packet never arrives as something else: the record's checksum, or TLS, refuses it.
 * `tryCorrupted` is where a world lets the real codec prove that.
 */

import type { NodeId } from '../../raft/message.ts';
import type { Random } from '../random.ts';
import type { EventQueue } from './event-queue.ts';
import { NO_PARTITION, type Partition } from './partitions.ts';

export type NetworkPlan = {
  readonly mode: 'datagram' | 'stream';
  readonly dropProbability: number;
  readonly duplicateProbability: number;
  readonly corruptProbability: number;
  /** Of a packet, that an old one is sent again with it. */
  readonly replayProbability: number;
  readonly delayUsMin: number;
  readonly delayUsMean: number;
  /** A duplicate arrives up to this much later. */
  readonly duplicateDelayUsMax: number;
  /** Zero is no limit. */
  readonly bytesPerSecond: number;
};

export type NetworkPort<Packet> = {
  deliver(sent: Sent<Packet>): void;
  /** A packet arrives once more. */
  deliverAgain(sent: Sent<Packet>): void;
  /** It will not arrive; `isNoticed` says whether the connection tells the sender so. */
  lose(sent: Sent<Packet>, isNoticed: boolean): void;
  isRunning(id: NodeId): boolean;
  /** Hands a damaged copy to the real decoder, which must refuse it. */
  tryCorrupted(packet: Packet, draw: () => number): void;
};

export type NetworkCounts = {
  sent: number;
  cut: number;
  dropped: number;
  duplicated: number;
  replayed: number;
  corrupted: number;
  resets: number;
};

type Link = {
  clogUntilUs: number;
  busyUntilUs: number;
  lastArrivalUs: number;
  /** Packets of an earlier connection are void. */
  connection: number;
};

export type Sent<Packet> = { readonly packet: Packet; readonly from: NodeId; readonly to: NodeId };

const HEALTHY: NetworkPlan = {
  mode: 'stream',
  dropProbability: 0,
  duplicateProbability: 0,
  corruptProbability: 0,
  replayProbability: 0,
  delayUsMin: 50,
  delayUsMean: 200,
  duplicateDelayUsMax: 0,
  bytesPerSecond: 0,
};
const REMEMBERED_PACKETS_MAX = 256;
/** A connection that is cut is found to be dead only now and then. */
const LOSS_REPORT_PROBABILITY = 0.1;
/** Of lost segments of a connection, those with which it breaks. */
const CONNECTION_LOSS_PROBABILITY = 0.2;
const RETRANSMISSION_US_MAX = 50_000;

export class Network<Packet> {
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #port: NetworkPort<Packet>;
  readonly #links = new Map<string, Link>();
  readonly #remembered: Sent<Packet>[] = [];
  #plan: NetworkPlan;
  #partition: Partition = NO_PARTITION;
  readonly counts: NetworkCounts = {
    sent: 0,
    cut: 0,
    dropped: 0,
    duplicated: 0,
    replayed: 0,
    corrupted: 0,
    resets: 0,
  };

  constructor(
    plan: NetworkPlan,
    world: { readonly queue: EventQueue; readonly random: Random },
    port: NetworkPort<Packet>,
  ) {
    this.#plan = plan;
    this.#queue = world.queue;
    this.#random = world.random;
    this.#port = port;
  }

  partition(partition: Partition): void {
    this.#partition = partition;
  }

  reachesClients(id: NodeId): boolean {
    return !this.#partition.cutOffClients.has(id);
  }

  /** What is sent over the link waits until then, and comes all at once. */
  clog(from: NodeId, to: NodeId, untilUs: number): void {
    this.#link(from, to).clogUntilUs = untilUs;
  }

  heal(): void {
    this.#plan = HEALTHY;
    this.#partition = NO_PARTITION;
    this.#remembered.length = 0;
    for (const link of this.#links.values()) {
      link.clogUntilUs = 0;
      link.busyUntilUs = 0;
      link.lastArrivalUs = 0;
    }
  }

  /** Packets go to the void while `to` is down: its host refuses the connection. */
  send(sent: Sent<Packet>, bytes: number): void {
    const { from, to } = sent;
    const plan = this.#plan;
    const random = this.#random;
    this.counts.sent += 1;
    if (this.#partition.cutLinks.has(`${from}>${to}`) || !this.#port.isRunning(to)) {
      this.counts.cut += 1;
      this.#port.lose(sent, random.chance(LOSS_REPORT_PROBABILITY));
      return;
    }
    const link = this.#link(from, to);
    if (plan.corruptProbability > 0 && random.chance(plan.corruptProbability)) {
      this.counts.corrupted += 1;
      this.#port.tryCorrupted(sent.packet, () => random.next());
      return this.#lose(sent, link);
    }
    if (plan.dropProbability > 0 && random.chance(plan.dropProbability)) {
      this.counts.dropped += 1;
      return this.#lose(sent, link);
    }
    this.#carry(sent, link, bytes);
    if (plan.duplicateProbability > 0 && random.chance(plan.duplicateProbability)) {
      this.counts.duplicated += 1;
      this.#arriveAgain(sent, random.next() * plan.duplicateDelayUsMax);
    }
    if (plan.replayProbability > 0) this.#replay(sent);
  }

  #carry(sent: Sent<Packet>, link: Link, bytes: number): void {
    let arrivalUs = this.#arrivalUs(link, bytes);
    if (this.#plan.mode === 'stream') {
      arrivalUs = Math.max(arrivalUs, link.lastArrivalUs);
      link.lastArrivalUs = arrivalUs;
    }
    const { connection } = link;
    this.#queue.at(arrivalUs, () => {
      if (link.connection === connection) this.#port.deliver(sent);
      else this.#port.lose(sent, false);
    });
  }

  #arrivalUs(link: Link, bytes: number): number {
    const { bytesPerSecond } = this.#plan;
    let startUs = Math.max(this.#queue.nowUs, link.clogUntilUs);
    if (bytesPerSecond > 0) {
      startUs = Math.max(startUs, link.busyUntilUs);
      link.busyUntilUs = startUs + Math.ceil((bytes * 1e6) / bytesPerSecond);
      startUs = link.busyUntilUs;
    }
    return startUs + this.#delayUs();
  }

  #delayUs(): number {
    const { delayUsMin, delayUsMean } = this.#plan;
    return Math.ceil(delayUsMin - delayUsMean * Math.log(1 - this.#random.next()));
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#partition.cutLinks.has(`${from}>${to}`);
  }

  /** When bytes of a connection arrive if the link is not cut by then; undefined if they break it. */
  segmentArrivalUs(from: NodeId, to: NodeId, bytes: number): number | undefined {
    const { dropProbability, corruptProbability } = this.#plan;
    const random = this.#random;
    // A lost segment is sent anew; a damaged one is refused by TLS, and so is all that follows.
    if (corruptProbability > 0 && random.chance(corruptProbability)) return undefined;
    let arrivalUs = this.#arrivalUs(this.#link(from, to), bytes);
    if (dropProbability > 0 && random.chance(dropProbability)) {
      if (random.chance(CONNECTION_LOSS_PROBABILITY)) return undefined;
      arrivalUs += random.between(0, RETRANSMISSION_US_MAX);
    }
    return arrivalUs;
  }

  #lose(sent: Sent<Packet>, link: Link): void {
    const isStream = this.#plan.mode === 'stream';
    if (isStream) {
      this.counts.resets += 1;
      link.connection += 1;
      link.lastArrivalUs = 0;
    }
    this.#port.lose(sent, isStream || this.#random.chance(LOSS_REPORT_PROBABILITY));
  }

  #replay(sent: Sent<Packet>): void {
    const random = this.#random;
    if (random.chance(0.2)) {
      if (this.#remembered.length < REMEMBERED_PACKETS_MAX) this.#remembered.push(sent);
      else this.#remembered[random.between(0, REMEMBERED_PACKETS_MAX - 1)] = sent;
    }
    if (this.#remembered.length > 0 && random.chance(this.#plan.replayProbability)) {
      this.counts.replayed += 1;
      this.#arriveAgain(random.pick(this.#remembered), random.next() * 1000);
    }
  }

  #arriveAgain(sent: Sent<Packet>, delayUs: number): void {
    this.#queue.after(delayUs, () => this.#port.deliverAgain(sent));
  }

  #link(from: NodeId, to: NodeId): Link {
    const key = `${from}>${to}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = { clogUntilUs: 0, busyUntilUs: 0, lastArrivalUs: 0, connection: 0 };
      this.#links.set(key, link);
    }
    return link;
  }
}
