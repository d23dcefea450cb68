/**
 * The sending side of one connection to one peer, dialled when there is first something to say.
 *
 * What waits is bounded in bytes, those in the socket included: Node buffers without end for a
 * peer that does not read. So the socket is given little at a time, and when the bound is reached
 * all appends that wait are dropped, for each is of use only behind the one before it. Whoever
 * owns the lane is told, and raft sends anew when the peer shows a sign of life.
 *
 * A network that swallows everything shows no error for minutes. So the receiver says `seen` within
 * a second of any byte, and a connection that stays silent is given up.
 */

import type { Clock } from './clock.ts';
import type { PeerSocket } from './peer-socket.ts';

export type LaneOptions = {
  /** Waiting and in the socket. A single frame always fits into an empty lane. */
  readonly bytesMax: number;
  readonly clock: Clock;
  dial(): Promise<PeerSocket>;
  /** Frames were lost, or may have been. */
  onLoss(): void;
};

type Frame = {
  readonly parts: readonly Buffer[];
  readonly bytes: number;
  readonly isAppend: boolean;
};

/** More than a socket sends at once; what is beyond can still be dropped. */
const SOCKET_BYTES_MAX = 1024 * 1024;
const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 1_000;
export const SEEN_INTERVAL_MS = 1_000;
const SEEN_TIMEOUT_MS = 5 * SEEN_INTERVAL_MS;

export class PeerLane {
  readonly #options: LaneOptions;
  #socket: PeerSocket | undefined;
  #isDialing = false;
  #isClosed = false;
  #nextDialMs = 0;
  #backoffMs = BACKOFF_MS_MIN;
  #queue: Frame[] = [];
  #queueBytes = 0;
  /** When the oldest write happened that no `seen` has followed. */
  #unseenSinceMs: number | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Bytes that the network has not taken yet. */
  get backlogBytes(): number {
    return this.#queueBytes + (this.#socket?.writableLength ?? 0);
  }

  enqueue(frame: Frame): void {
    const { bytesMax, onLoss } = this.#options;
    const fits = (): boolean =>
      this.backlogBytes === 0 || this.backlogBytes + frame.bytes <= bytesMax;
    if (!fits()) {
      const kept = this.#queue.filter(({ isAppend }) => !isAppend);
      this.#queue = kept;
      this.#queueBytes = kept.reduce((sum, { bytes }) => sum + bytes, 0);
      onLoss();
      // An append behind those that were dropped is as useless as they are.
      if (frame.isAppend || !fits()) return;
    }
    this.#queue.push(frame);
    this.#queueBytes += frame.bytes;
  }

  /** Hands on what waits, in as few writes as there is room for, or sees to a connection. */
  flush(): void {
    const nowMs = this.#options.clock.nowMs();
    const socket = this.#socket;
    if (socket === undefined) {
      if (!this.#isDialing) this.#connect(nowMs);
      return;
    }
    if (this.#unseenSinceMs !== undefined && nowMs - this.#unseenSinceMs > SEEN_TIMEOUT_MS) {
      socket.destroy();
      return;
    }
    while (this.#queue.length > 0 && socket.writableLength < SOCKET_BYTES_MAX) {
      this.#unseenSinceMs ??= nowMs;
      socket.write(Buffer.concat(this.#take(SOCKET_BYTES_MAX - socket.writableLength)));
    }
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

  /** At least one frame, and otherwise as many as fit into `bytesMax`. */
  #take(bytesMax: number): Buffer[] {
    const parts: Buffer[] = [];
    let bytes = 0;
    let count = 0;
    for (const frame of this.#queue) {
      if (count > 0 && bytesMax < bytes + frame.bytes) break;
      parts.push(...frame.parts);
      bytes += frame.bytes;
      count += 1;
    }
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count);
    this.#queueBytes -= bytes;
    return parts;
  }

  #clear(): void {
    this.#queue = [];
    this.#queueBytes = 0;
  }

  #connect(nowMs: number): void {
    if (this.#isClosed || nowMs < this.#nextDialMs) {
      this.#clear();
      this.#options.onLoss();
      return;
    }
    this.#isDialing = true;
    this.#options.dial().then(
      (socket) => this.#opened(socket),
      () => this.#lost(),
    );
  }

  #opened(socket: PeerSocket): void {
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
    socket.on('drain', () => this.flush());
    socket.on('close', () => this.#lost());
    this.flush();
  }

  #lost(): void {
    this.#socket = undefined;
    this.#isDialing = false;
    this.#clear();
    this.#nextDialMs = this.#options.clock.nowMs() + this.#backoffMs;
    this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MS_MAX);
    if (!this.#isClosed) this.#options.onLoss();
  }
}
