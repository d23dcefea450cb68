/**
 * A TCP proxy that breaks connections the way networks do. It stands before one node; whoever dials
 * it is named by the caller, so faults are per directed link.
 *
 * - `isCut`: nothing passes, and nothing is said: what was sent waits, as with lost packets that are
 *   sent again, and goes on when the link is mended. New connections hang as well.
 * - `delayMs`: every chunk arrives so much later; order is kept.
 * - `bytesPerSecond`: a chunk takes its time.
 * - `flipShare`: of the chunks so many have one bit changed.
 * - `resetAll`: ends what is open, in both directions, at once.
 */

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import type { Random } from '../../server/testing/random.ts';

export type LinkFaults = {
  readonly isCut: boolean;
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  readonly flipShare: number;
};

export const SOUND: LinkFaults = {
  isCut: false,
  delayMs: 0,
  bytesPerSecond: Infinity,
  flipShare: 0,
};

export type TcpProxyOptions = {
  readonly random: Random;
  /** What happens to bytes from one node to another; asked for every chunk. */
  faults(from: string, to: string): LinkFaults;
  /** Who dials, by the port that it dials from. */
  nameOf(port: number): string;
};

type Link = { readonly from: string; readonly to: string };

/** A link that is cut is looked at so often; also how late its mending is noticed. */
const CUT_POLL_MS = 20;
/** As much as a network might hold; then the sender is made to wait. */
const QUEUE_BYTES_MAX = 1024 * 1024;

export type ProxyTarget = { readonly name: string; readonly host: string; readonly port: number };

export class TcpProxy {
  readonly #options: TcpProxyOptions;
  readonly #target: ProxyTarget;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: ProxyTarget, options: TcpProxyOptions) {
    this.#target = target;
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
  }

  /** Resolves with the port it listens on. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(0, '127.0.0.1', () => {
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  resetAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(near: Socket): void {
    const { name: to, host, port } = this.#target;
    const from = this.#options.nameOf(near.remotePort ?? 0);
    const far = connect({ host, port });
    far.pause();
    this.#carry(near, far, { from, to });
    this.#carry(far, near, { from: to, to: from });
  }

  /** What arrives, the end of the connection included, goes on in order. */
  #carry(source: Socket, sink: Socket, link: Link): void {
    let line = Promise.resolve();
    let queuedBytes = 0;
    this.#sockets.add(source);
    source.setNoDelay(true);
    // Its close says as much.
    source.on('error', () => undefined);
    source.once('close', () => {
      this.#sockets.delete(source);
      void line.then(() => this.#whenWhole(link, sink)).then(() => sink.destroy());
    });
    source.on('data', (chunk: Buffer) => {
      const dueMs = performance.now() + this.#faults(link).delayMs;
      queuedBytes += chunk.length;
      if (QUEUE_BYTES_MAX < queuedBytes) source.pause();
      const pass = async (): Promise<void> => {
        await this.#pass(chunk, dueMs, { link, sink });
        queuedBytes -= chunk.length;
        if (source.isPaused() && queuedBytes <= QUEUE_BYTES_MAX) source.resume();
      };
      line = line.then(pass);
    });
    source.resume();
  }

  /** Never rejects: a sink that is gone takes anything. */
  async #pass(
    chunk: Buffer,
    dueMs: number,
    { link, sink }: { readonly link: Link; readonly sink: Socket },
  ): Promise<void> {
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await delay(waitMs);
    const { bytesPerSecond, flipShare } = this.#faults(link);
    if (bytesPerSecond !== Infinity) await delay((1000 * chunk.length) / bytesPerSecond);
    await this.#whenWhole(link, sink);
    if (sink.destroyed) return;
    sink.write(this.#options.random.chance(flipShare) ? this.#flipped(chunk) : chunk);
  }

  #faults({ from, to }: Link): LinkFaults {
    return this.#options.faults(from, to);
  }

  async #whenWhole(link: Link, sink: Socket): Promise<void> {
    while (!sink.destroyed && this.#faults(link).isCut) await delay(CUT_POLL_MS);
  }

  #flipped(chunk: Buffer): Buffer {
    const { random } = this.#options;
    const copy = Buffer.from(chunk);
    const at = random.between(0, copy.length - 1);
    copy[at] = (copy[at] ?? 0) ^ (1 << random.between(0, 7));
    return copy;
  }
}
