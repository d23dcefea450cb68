/**
 * One end of a simulated connection, as a process holds it. What arrives while the process is
 * paused waits; to one that is gone nothing happens any more.
 *
 * Like a socket of Node it calls nobody back from within a call: who writes or destroys has
 * finished its turn when it hears of that.
 */

import assert from 'node:assert/strict';

import type { PeerSocket } from '../../replica/peer-socket.ts';

/** The way to the other end. */
export type Outgoing = {
  readonly unsentBytes: number;
  write(bytes: Buffer, written: () => void): void;
  /** Nothing follows. */
  end(): void;
  /** The other end may have bytes on their way, and here some that were not read. */
  abandon(): void;
};

export type SocketEvent = 'data' | 'drain' | 'close';
type Listener = (chunk: Buffer) => void;

/** Who has written more is told when there is room again. */
const HIGH_WATER_BYTES = 16 * 1024;
const NO_BYTES = Buffer.alloc(0);

export class SimulatedSocket implements PeerSocket {
  readonly remoteAddress: string;
  readonly #run: (callback: () => void) => void;
  destroyed = false;
  readonly #listeners = new Map<SocketEvent, Listener[]>();
  #outgoing: Outgoing | undefined;
  /** How many bytes were taken: the other side may send more. */
  #onRead: (bytes: number) => void = () => undefined;
  #unread: Buffer[] = [];
  #isFlowing = false;
  #hasEnded = false;
  #isEnding = false;
  #isGone = false;
  #isDrainDue = false;
  #wakeReader: () => void = () => undefined;

  /** `run`: on the process that holds this end. */
  constructor(remoteAddress: string, run: (callback: () => void) => void) {
    this.remoteAddress = remoteAddress;
    this.#run = run;
  }

  connect(outgoing: Outgoing, onRead: (bytes: number) => void): void {
    this.#outgoing = outgoing;
    this.#onRead = onRead;
  }

  /** Its process has ended. */
  forget(): void {
    this.#isGone = true;
    this.destroyed = true;
    this.#listeners.clear();
    this.#unread = [];
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  get writableLength(): number {
    return this.#way.unsentBytes;
  }

  on(event: SocketEvent, listener: Listener | (() => void)): this {
    const listeners = this.#listeners.get(event);
    if (listeners === undefined) this.#listeners.set(event, [listener]);
    else listeners.push(listener);
    if (event === 'data') this.resume();
    return this;
  }

  once(event: 'close', listener: () => void): this {
    return this.on(event, listener);
  }

  off(event: SocketEvent, listener: Listener | (() => void)): this {
    const listeners = this.#listeners.get(event) ?? [];
    this.#listeners.set(
      event,
      listeners.filter((each) => each !== listener),
    );
    return this;
  }

  write(bytes: Buffer, written: () => void = () => undefined): boolean {
    if (this.destroyed || this.#isEnding) {
      this.later(written);
      return false;
    }
    this.#way.write(bytes, written);
    const hasRoom = this.writableLength < HIGH_WATER_BYTES;
    this.#isDrainDue ||= !hasRoom;
    return hasRoom;
  }

  end(bytes: Buffer): void {
    if (this.destroyed || this.#isEnding) return;
    this.write(bytes);
    this.#isEnding = true;
    this.#way.end();
  }

  destroy(): void {
    if (this.destroyed) return;
    this.#way.abandon();
    this.#close();
  }

  pause(): void {
    this.#isFlowing = false;
  }

  resume(): void {
    this.#isFlowing = true;
    if (this.#unread.length > 0 || this.#hasEnded) this.later(() => this.#flow());
  }

  async *iterator(): AsyncGenerator<Buffer, void> {
    while (true) {
      const chunk = this.#unread.shift();
      if (chunk !== undefined) {
        this.#onRead(chunk.length);
        yield chunk;
        continue;
      }
      if (this.#hasEnded) return this.destroy();
      if (this.destroyed) throw new Error('the connection was reset');
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    }
  }

  /** Bytes that have arrived; none stand for the end. */
  receive(bytes: Buffer): void {
    if (this.destroyed) return;
    if (bytes.length === 0) this.#hasEnded = true;
    else this.#unread.push(bytes);
    this.#wakeReader();
    this.#flow();
  }

  /** The other end, or something in between, has broken the connection off. */
  reset(): void {
    if (this.destroyed) return;
    this.#unread = [];
    this.#way.abandon();
    this.#close();
  }

  /** All that was written has left. */
  drained(): void {
    if (!this.#isDrainDue) return;
    this.#isDrainDue = false;
    this.#emit('drain', NO_BYTES);
  }

  /** After the turn, unless the process has ended. */
  later(run: () => void): void {
    queueMicrotask(() => {
      if (!this.#isGone) this.#run(run);
    });
  }

  get #way(): Outgoing {
    assert(this.#outgoing !== undefined, 'the socket is not connected');
    return this.#outgoing;
  }

  #flow(): void {
    while (this.#isFlowing && !this.destroyed) {
      const chunk = this.#unread.shift();
      if (chunk === undefined) break;
      this.#onRead(chunk.length);
      this.#emit('data', chunk);
    }
    if (this.#isFlowing && this.#hasEnded && this.#unread.length === 0) this.destroy();
  }

  #close(): void {
    this.destroyed = true;
    this.#wakeReader();
    this.later(() => this.#emit('close', NO_BYTES));
  }

  #emit(event: SocketEvent, chunk: Buffer): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(chunk);
  }
}
