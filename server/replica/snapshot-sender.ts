/**
 * Sends built snapshots to followers, each over a connection of its own:
 *
 *     sender                                    receiver
 *       hello, installSnapshot, manifest  ──▶
 *                                         ◀──   received(offset): what an earlier connection left
 *       chunk, chunk, ...                 ──▶
 *                                         ◀──   received(offset) for each
 *                                         ◀──   seen: verified, durable, and installed
 *
 * Few are sent at a time, the others wait; all share one limit of bytes per second, so that a
 * whole state on its way leaves room for writes.
 */

import assert from 'node:assert/strict';
import { FrameError, FrameReader } from '../frames.ts';
import type { InstallSnapshot, NodeId } from '../raft/message.ts';
import { Transfers } from '../storage/durations.ts';
import type { TransferStatistics } from '../storage/durations.ts';
import type { Clock } from './clock.ts';
import { encodeControl } from './control-frames.ts';
import type { FileOperations, OpenFile } from './file-operations.ts';
import { Pace } from './pace.ts';
import type { PeerSocket } from './peer-socket.ts';
import type { SnapshotBuilder, SnapshotLease } from './snapshot-builder.ts';
import type { ReplicaLogger } from './transport.ts';
import { decodeFrame, encodeMessage } from './wire.ts';

export type SnapshotSenderOptions = {
  readonly clock: Clock;
  readonly files: Pick<FileOperations, 'open'>;
  readonly builder: Pick<SnapshotBuilder, 'lease'>;
  readonly logger: ReplicaLogger;
  /** Of all transfers together; 0 for no limit. */
  readonly bytesPerSecond: number;
  /** Smaller ones in simulations only. */
  readonly sizes?: TransferSizes;
  /** Where this node's log begins. */
  firstIndex(): number;
  dial(to: NodeId): Promise<PeerSocket>;
  /** The follower will need what comes after `index`; for one follower the last call counts. */
  hold(to: NodeId, index: number): void;
  onDone(to: NodeId, isComplete: boolean): void;
};

export type TransferSizes = {
  readonly chunkBytes: number;
  /** Sent and not acknowledged: some chunks, so that disk and network overlap. */
  readonly windowBytes: number;
};

type Transfer = {
  readonly message: InstallSnapshot;
  socket: PeerSocket | undefined;
  isAborted: boolean;
};

/** Each costs disk and network what the writes want, too. */
export const SENDS_MAX = 2;
export const CHUNK_BYTES = 256 * 1024;
const SIZES: TransferSizes = { chunkBytes: CHUNK_BYTES, windowBytes: 4 * 1024 * 1024 };
/** Without an answer for so long the receiver counts as lost. */
export const PROGRESS_TIMEOUT_MS = 30_000;
const ANSWER_BYTES_MAX = 64;
/** Before the bytes of a chunk: what its frame begins with. */
const CHUNK_HEAD_BYTES_MAX = 64;

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  readonly #sizes: TransferSizes;
  readonly #pace: Pace;
  readonly #waiting = new Map<NodeId, Transfer>();
  readonly #underWay = new Map<NodeId, Transfer>();
  readonly #sent = new Transfers();
  #isClosed = false;

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
    this.#sizes = options.sizes ?? SIZES;
    this.#pace = new Pace(options.bytesPerSecond, options.clock);
  }

  /** Of those that were installed; bytes without what an earlier connection had brought. */
  statistics(): TransferStatistics {
    return this.#sent.statistics();
  }

  /** Starts a transfer when its turn comes, unless there is one to that node. */
  send(message: InstallSnapshot): void {
    const { to } = message;
    if (this.#isClosed || this.#waiting.has(to) || this.#underWay.has(to)) return;
    this.#waiting.set(to, { message, socket: undefined, isAborted: false });
    this.#startNext();
  }

  /** Ends all transfers: this node does not lead any more. Each still ends with `onDone`. */
  abort(): void {
    const waiting = [...this.#waiting.keys()];
    this.#waiting.clear();
    for (const transfer of this.#underWay.values()) {
      transfer.isAborted = true;
      transfer.socket?.destroy();
    }
    if (!this.#isClosed) for (const to of waiting) this.#options.onDone(to, false);
  }

  close(): void {
    this.#isClosed = true;
    this.abort();
  }

  #startNext(): void {
    for (const [to, transfer] of this.#waiting) {
      if (this.#underWay.size === SENDS_MAX) return;
      this.#waiting.delete(to);
      this.#underWay.set(to, transfer);
      void this.#run(to, transfer);
    }
  }

  /** Never rejects. */
  async #run(to: NodeId, transfer: Transfer): Promise<void> {
    const { logger, onDone } = this.#options;
    let isComplete = false;
    try {
      await this.#transfer(transfer);
      isComplete = true;
    } catch (error) {
      logger.warn({ peer: to, reason: String(error) }, 'snapshot not delivered');
    }
    this.#underWay.delete(to);
    if (this.#isClosed) return;
    onDone(to, isComplete);
    this.#startNext();
  }

  async #transfer(transfer: Transfer): Promise<void> {
    const { clock, builder, firstIndex, hold, dial, logger } = this.#options;
    const { to } = transfer.message;
    // While the file is built, too: else a log that moves fast begins behind it when it is whole.
    hold(to, firstIndex() - 1);
    const lease = await builder.lease(firstIndex);
    try {
      const index = lease.snapshot.lastIncludedIndex;
      if (transfer.isAborted) throw new Error('the transfer was called off');
      hold(to, index);
      const socket = await dial(to);
      transfer.socket = socket;
      if (transfer.isAborted) socket.destroy();
      const startMs = clock.nowMs();
      try {
        const outgoing = new Outgoing(socket, clock, {
          ...transfer.message,
          snapshot: lease.snapshot,
        });
        const offset = await outgoing.offer(lease.manifest);
        const bytes = lease.manifest.size - offset;
        logger.info({ peer: to, index, offset, bytes }, 'snapshot send started');
        await this.#stream(lease, outgoing, offset);
        await outgoing.untilInstalled();
        const ms = Math.round(clock.nowMs() - startMs);
        this.#sent.add(ms, bytes);
        logger.info({ peer: to, index, bytes, ms }, 'snapshot sent');
      } finally {
        socket.destroy();
      }
    } finally {
      lease.release();
    }
  }

  async #stream(lease: SnapshotLease, outgoing: Outgoing, start: number): Promise<void> {
    const file = await this.#options.files.open(lease.file, 'r');
    try {
      // One is read while the other is written.
      const { chunkBytes, windowBytes } = this.#sizes;
      let [chunk, other] = [new Chunk(chunkBytes), new Chunk(chunkBytes)];
      for (let offset = start; offset < lease.manifest.size; offset += chunk.size) {
        [chunk, other] = [other, chunk];
        await outgoing.untilFree(chunk);
        await chunk.read(file, offset);
        await this.#pace.spend(chunk.size);
        await outgoing.send(chunk, windowBytes);
      }
    } finally {
      await file.close();
    }
  }
}

/**
 * A part of the file as a frame, in memory that is used again: a fresh buffer for each has the
 * collector mark the whole heap ten times a second, and writes wait for that.
 */
class Chunk {
  readonly #memory: Buffer;
  /** Whether a socket still needs the memory. */
  isInUse = false;
  offset = 0;
  size = 0;

  constructor(bytesMax: number) {
    this.#memory = Buffer.allocUnsafeSlow(CHUNK_HEAD_BYTES_MAX + bytesMax);
  }

  async read(file: OpenFile, offset: number): Promise<void> {
    assert(!this.isInUse, 'a chunk is read into memory that is being sent');
    const bytesMax = this.#memory.length - CHUNK_HEAD_BYTES_MAX;
    const { bytesRead } = await file.read(this.#memory, CHUNK_HEAD_BYTES_MAX, bytesMax, offset);
    if (bytesRead === 0) throw new Error('the snapshot file is too short');
    this.offset = offset;
    this.size = bytesRead;
  }

  /** `onFree`: the socket has no more need of the memory, whatever has become of it. */
  writeTo(socket: PeerSocket, onFree: () => void): void {
    const bytes = this.#memory.subarray(CHUNK_HEAD_BYTES_MAX, CHUNK_HEAD_BYTES_MAX + this.size);
    const parts = encodeControl({ kind: 'snapshotChunk', offset: this.offset, bytes });
    // The bytes are the last part, and where they belong already.
    const head = Buffer.concat(parts.slice(0, -1));
    assert(head.length <= CHUNK_HEAD_BYTES_MAX, 'the head of a chunk has grown');
    const start = CHUNK_HEAD_BYTES_MAX - head.length;
    head.copy(this.#memory, start);
    const frame = this.#memory.subarray(start, CHUNK_HEAD_BYTES_MAX + this.size);
    this.isInUse = true;
    socket.write(frame, () => {
      this.isInUse = false;
      onFree();
    });
  }
}

/** One transfer's socket, with the window and what the receiver answered. */
class Outgoing {
  readonly #socket: PeerSocket;
  readonly #clock: Clock;
  readonly #message: InstallSnapshot;
  #sentOffset = 0;
  #receivedOffset: number | undefined;
  #isInstalled = false;
  #wake: () => void = () => undefined;

  constructor(socket: PeerSocket, clock: Clock, message: InstallSnapshot) {
    this.#socket = socket;
    this.#clock = clock;
    this.#message = message;
    const reader = new FrameReader(ANSWER_BYTES_MAX);
    socket.on('data', (chunk) => {
      try {
        for (const payload of reader.push(chunk)) this.#take(payload);
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        socket.destroy();
      }
      this.#wake();
    });
    socket.on('close', () => this.#wake());
  }

  #take(payload: Buffer): void {
    const { from, to } = this.#message;
    const frame = decodeFrame(payload, to, from);
    if (frame.kind === 'snapshotReceived') this.#receivedOffset = frame.offset;
    else if (frame.kind === 'seen') this.#isInstalled = true;
    else throw new FrameError(`unexpected ${frame.kind}`);
  }

  /** Resolves with the offset from which the receiver wants to have it. */
  async offer(manifest: SnapshotLease['manifest']): Promise<number> {
    this.#write(encodeMessage(this.#message));
    this.#write(encodeControl({ kind: 'snapshotManifest', ...manifest }));
    await this.#until(() => this.#receivedOffset !== undefined);
    const offset = this.#receivedOffset ?? 0;
    if (manifest.size < offset) throw new FrameError('the receiver holds more than there is');
    this.#sentOffset = offset;
    return offset;
  }

  /** A receiver that reads nothing keeps the memory in use: it is given up like one that is silent. */
  async untilFree(chunk: Chunk): Promise<void> {
    await this.#until(() => !chunk.isInUse);
  }

  async send(chunk: Chunk, windowBytes: number): Promise<void> {
    await this.#until(() => this.#sentOffset - (this.#receivedOffset ?? 0) < windowBytes);
    chunk.writeTo(this.#socket, () => this.#wake());
    this.#sentOffset = chunk.offset + chunk.size;
  }

  async untilInstalled(): Promise<void> {
    await this.#until(() => this.#isInstalled);
  }

  #write(parts: readonly Buffer[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** Waits for what only the receiver can bring about; rejects if nothing comes of it. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#socket.destroyed) throw new Error('the receiver closed the connection');
      const answered = new Promise<void>((resolve) => (this.#wake = resolve));
      const callOff = this.#clock.after(PROGRESS_TIMEOUT_MS, () => this.#socket.destroy());
      await answered;
      callOff();
    }
  }
}
