/**
 * Snapshots between nodes, over a connection of their own: chunks under a window of
 * acknowledgements, then size and digest, then the `installSnapshot` message with the metadata of
 * what was really sent. The receiver spools to a file and hands the message on when the file is
 * complete, verified, and durable, under a name that says so.
 *
 * That file is also the intent record of the installation: after a crash in the middle of it, a
 * store that stands at the position in the file's name is no accident (`recovery.ts`).
 */

import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { FrameError, FrameReader } from '../frames.ts';
import type { InstallSnapshot, NodeId } from '../raft/message.ts';
import type { Store } from '../storage/store.ts';
import type { ReplicaLogger, SnapshotConnection } from './transport.ts';
import { encodeControl, SNAPSHOT_ID_BYTES } from './control-frames.ts';
import { decodeFrame, encodeMessage } from './wire.ts';

/** Sent and not acknowledged: some chunks, so that disk and network overlap. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Without an acknowledgement for so long the receiver counts as lost. */
const PROGRESS_TIMEOUT_MS = 30_000;
const ANSWER_BYTES_MAX = 64;

export type SnapshotSenderOptions = {
  readonly store: Store;
  readonly logger: ReplicaLogger;
  dial(to: NodeId): Promise<Socket>;
  onDone(to: NodeId, isComplete: boolean): void;
};

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  readonly #underWay = new Map<NodeId, { socket: Socket | undefined }>();
  #isClosed = false;

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
  }

  /** Starts a transfer, unless one to that node is under way. */
  send(message: InstallSnapshot): void {
    const { to } = message;
    if (this.#underWay.has(to) || this.#isClosed) return;
    const transfer = { socket: undefined };
    this.#underWay.set(to, transfer);
    const finish = (isComplete: boolean): void => {
      this.#underWay.delete(to);
      if (!this.#isClosed) this.#options.onDone(to, isComplete);
    };
    this.#send(message, transfer).then(
      () => finish(true),
      (error: unknown) => {
        this.#options.logger.warn({ peer: to, reason: String(error) }, 'snapshot not delivered');
        finish(false);
      },
    );
  }

  close(): void {
    this.#isClosed = true;
    for (const { socket } of this.#underWay.values()) socket?.destroy();
  }

  async #send(message: InstallSnapshot, transfer: { socket: Socket | undefined }): Promise<void> {
    const { store, dial, logger } = this.#options;
    const socket = await dial(message.to);
    transfer.socket = socket;
    if (this.#isClosed) socket.destroy();
    const exported = store.exportSnapshot();
    try {
      const { lastIncludedIndex } = exported.position;
      if (lastIncludedIndex < message.snapshot.lastIncludedIndex) {
        throw new Error('the store is behind what raft announced');
      }
      logger.info({ peer: message.to, index: lastIncludedIndex }, 'snapshot send started');
      const outgoing = new Outgoing(socket, message);
      for await (const chunk of exported.chunks) await outgoing.chunk(chunk);
      await outgoing.end({ ...message, snapshot: exported.position });
      logger.info({ peer: message.to, index: lastIncludedIndex }, 'snapshot sent');
    } finally {
      socket.destroy();
      await exported.close();
    }
  }
}

/** One transfer's socket, with the window and what the receiver answered. */
class Outgoing {
  readonly #socket: Socket;
  readonly #hash = createHash('sha256');
  #offset = 0;
  #receivedOffset = 0;
  #isComplete = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket, { from, to }: InstallSnapshot) {
    this.#socket = socket;
    const reader = new FrameReader(ANSWER_BYTES_MAX);
    const receive = (chunk: Buffer): void => {
      for (const payload of reader.push(chunk)) {
        const frame = decodeFrame(payload, to, from);
        if (frame.kind === 'snapshotReceived') {
          this.#receivedOffset = Math.max(this.#receivedOffset, frame.offset);
        } else if (frame.kind === 'seen') this.#isComplete = true;
        else throw new FrameError(`unexpected ${frame.kind}`);
      }
    };
    socket.on('data', (chunk) => {
      try {
        receive(chunk);
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        socket.destroy();
      }
      this.#wake();
    });
    socket.on('close', () => this.#wake());
  }

  async chunk(chunk: Uint8Array): Promise<void> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    await this.#until(() => this.#offset - this.#receivedOffset < WINDOW_BYTES);
    this.#hash.update(bytes);
    this.#write(encodeControl({ kind: 'snapshotChunk', offset: this.#offset, bytes }));
    this.#offset += bytes.length;
  }

  async end(message: InstallSnapshot): Promise<void> {
    const sha256 = this.#hash.digest();
    const id = Buffer.alloc(SNAPSHOT_ID_BYTES);
    this.#write(encodeControl({ kind: 'snapshotManifest', id, size: this.#offset, sha256 }));
    this.#write(encodeMessage(message));
    await this.#until(() => this.#isComplete);
  }

  #write(parts: readonly Buffer[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** Waits for what only an answer can bring about; rejects if none comes. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#socket.destroyed) throw new Error('the receiver closed the connection');
      const answered = new Promise<void>((resolve) => (this.#wake = resolve));
      const timer = setTimeout(() => this.#socket.destroy(), PROGRESS_TIMEOUT_MS);
      await answered;
      clearTimeout(timer);
    }
  }
}

export type SnapshotReceiverOptions = {
  /** Its own; created if missing. */
  readonly directory: string;
  readonly nodeId: NodeId;
  /** A transfer that exceeds it is refused. */
  readonly snapshotBytesMax: number;
  readonly logger: ReplicaLogger;
  /** `file` is complete and durable; resolves when it is installed, or was of no use. */
  onSnapshot(message: InstallSnapshot, file: string): Promise<void>;
};

export class SnapshotReceiver {
  readonly #options: SnapshotReceiverOptions;
  readonly #sockets = new Map<NodeId, Socket>();
  #fileCount = 0;

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options;
  }

  /** Takes over a connection. A second one from the same node ends the first. */
  accept(connection: SnapshotConnection): void {
    const { from, socket } = connection;
    this.#sockets.get(from)?.destroy();
    this.#sockets.set(from, socket);
    socket.pause();
    void this.#receive(connection)
      .catch((error: unknown) => {
        this.#options.logger.warn({ peer: from, reason: String(error) }, 'snapshot not received');
        socket.destroy();
      })
      .finally(() => {
        if (this.#sockets.get(from) === socket) this.#sockets.delete(from);
      });
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  async #receive(connection: SnapshotConnection): Promise<void> {
    const { message, file } = await this.#spool(connection);
    await this.#untilInstalled(message, file, connection.socket);
  }

  async #spool({
    from,
    socket,
    reader,
    early,
  }: SnapshotConnection): Promise<{ message: InstallSnapshot; file: string }> {
    const { directory, nodeId, snapshotBytesMax } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    this.#fileCount += 1;
    const part = join(directory, `${this.#fileCount}.part`);
    const spool = new Spool(await open(part, 'wx', 0o600), snapshotBytesMax);
    try {
      const message = await (async (): Promise<InstallSnapshot> => {
        for await (const payload of payloadsOf(socket, reader, early)) {
          const frame = decodeFrame(payload, from, nodeId);
          if (frame.kind === 'installSnapshot') return frame;
          const offset = await spool.take(frame);
          if (offset !== undefined) {
            socket.write(Buffer.concat(encodeControl({ kind: 'snapshotReceived', offset })));
          }
        }
        throw new Error('the sender closed the connection');
      })();
      await spool.finish();
      const { lastIncludedIndex, lastIncludedTerm } = message.snapshot;
      const file = join(directory, snapshotFileName(lastIncludedIndex, lastIncludedTerm));
      await rename(part, file);
      await syncDirectory(directory);
      return { message, file };
    } finally {
      await spool.close();
      await rm(part, { force: true });
    }
  }

  /**
   * The sender is told only then: it would find that the node still lacks what its log no longer
   * holds, and send a whole state once more.
   */
  async #untilInstalled(message: InstallSnapshot, file: string, socket: Socket): Promise<void> {
    const offset = 0;
    const patience = setInterval(() => {
      socket.write(Buffer.concat(encodeControl({ kind: 'snapshotReceived', offset })));
    }, PROGRESS_TIMEOUT_MS / 3);
    socket.once('close', () => clearInterval(patience));
    await this.#options.onSnapshot(message, file);
    clearInterval(patience);
    socket.end(Buffer.concat(encodeControl({ kind: 'seen' })));
  }
}

/** The file that grows, and what must hold when it is finished. */
class Spool {
  readonly #file: FileHandle;
  readonly #bytesMax: number;
  readonly #hash: Hash = createHash('sha256');
  #size = 0;
  #isVerified = false;

  constructor(file: FileHandle, bytesMax: number) {
    this.#file = file;
    this.#bytesMax = bytesMax;
  }

  /** Returns what to acknowledge, if anything. */
  async take(frame: ReturnType<typeof decodeFrame>): Promise<number | undefined> {
    if (frame.kind === 'snapshotManifest') {
      const isEqual = frame.size === this.#size && frame.sha256.equals(this.#hash.digest());
      if (!isEqual) throw new FrameError('size or digest differ');
      this.#isVerified = true;
      return undefined;
    }
    if (frame.kind !== 'snapshotChunk' || this.#isVerified) {
      throw new FrameError(`unexpected ${frame.kind}`);
    }
    if (frame.offset !== this.#size) throw new FrameError('chunks do not follow each other');
    if (this.#size + frame.bytes.length > this.#bytesMax) {
      throw new FrameError(`more than ${this.#bytesMax} bytes`);
    }
    await this.#file.writeFile(frame.bytes);
    this.#hash.update(frame.bytes);
    this.#size += frame.bytes.length;
    return this.#size;
  }

  async finish(): Promise<void> {
    if (!this.#isVerified) throw new FrameError('unexpected installSnapshot');
    await this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function* payloadsOf(
  socket: Socket,
  reader: FrameReader,
  early: readonly Buffer[],
): AsyncIterable<Buffer> {
  yield* early;
  // The socket outlives the loop: the answer to the last message is still to be written.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield* reader.push(chunk);
}

function snapshotFileName(index: number, term: number): string {
  return `${index}-${term}.snapshot`;
}

export type SnapshotFile = {
  readonly file: string;
  readonly index: number;
  readonly term: number;
};

/** The complete snapshots in the directory; leftovers of interrupted transfers are removed. */
export async function findSnapshotFiles(directory: string): Promise<SnapshotFile[]> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const found: SnapshotFile[] = [];
  for (const name of await readdir(directory)) {
    const match = /^(\d+)-(\d+)\.snapshot$/.exec(name);
    const file = join(directory, name);
    if (match !== null) found.push({ file, index: Number(match[1]), term: Number(match[2]) });
    else if (name.endsWith('.part')) await rm(file, { force: true });
  }
  return found;
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
