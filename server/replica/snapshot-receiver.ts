/**
 * Receives one snapshot at a time into a file, and hands it on when the file is complete, verified,
 * and durable, under a name that says so. That file is also the intent record of the installation:
 * after a crash in the middle of it, a store that stands at the position in the file's name is no
 * accident (`recovery.ts`).
 *
 * Two are never interleaved. The leader of a later term interrupts one that is on its way, but not
 * one that is being installed; the leader of an earlier term is refused. What a lost connection
 * left is kept, and goes on where it ended if what is offered next is that very file.
 */

import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { FrameError } from '../frames.ts';
import type { FrameReader } from '../frames.ts';
import type { InstallSnapshot, Message, NodeId } from '../raft/message.ts';
import { Transfers } from '../storage/durations.ts';
import type { TransferStatistics } from '../storage/durations.ts';
import type { Clock } from './clock.ts';
import { encodeControl } from './control-frames.ts';
import type { ControlFrame, SnapshotManifest } from './control-frames.ts';
import type { FileOperations, OpenFile } from './file-operations.ts';
import type { PeerSocket } from './peer-socket.ts';
import { snapshotFileName } from './snapshot-files.ts';
import { PROGRESS_TIMEOUT_MS } from './snapshot-sender.ts';
import type { ReplicaLogger, SnapshotConnection } from './transport.ts';
import { decodeFrame } from './wire.ts';

export type SnapshotReceiverOptions = {
  readonly clock: Clock;
  readonly files: FileOperations;
  /** Its own; created if missing. */
  readonly directory: string;
  readonly nodeId: NodeId;
  /** A larger one is refused before any of it is taken. */
  readonly snapshotBytesMax: number;
  /** Smaller in simulations only. */
  readonly syncBytes?: number;
  readonly logger: ReplicaLogger;
  /** `file` is complete and durable; resolves when it is installed, or was of no use. */
  onSnapshot(message: InstallSnapshot, file: string): Promise<void>;
};

/** All at once at the end, and whoever shares the disk would wait for hundreds of milliseconds. */
const SYNC_BYTES = 512 * 1024;

type Offer = { readonly message: InstallSnapshot; readonly manifest: SnapshotManifest };

type Active = {
  readonly term: number;
  readonly socket: PeerSocket;
  readonly ended: Promise<void>;
};

export class SnapshotReceiver {
  readonly #options: SnapshotReceiverOptions;
  readonly #sockets = new Set<PeerSocket>();
  readonly #received = new Transfers();
  #active: Active | undefined;
  /** The file of the transfer that is on its way or was interrupted. */
  #part: string | undefined;

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options;
  }

  /** Of those that came whole, until they were installed. */
  statistics(): TransferStatistics {
    return this.#received.statistics();
  }

  /** Takes over a connection. */
  accept(connection: SnapshotConnection): void {
    const { from, socket } = connection;
    this.#sockets.add(socket);
    socket.pause();
    this.#receive(connection)
      .catch((error: unknown) => {
        this.#options.logger.warn({ peer: from, reason: String(error) }, 'snapshot not received');
        socket.destroy();
      })
      .finally(() => this.#sockets.delete(socket));
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async #receive({ from, socket, reader, early }: SnapshotConnection): Promise<void> {
    const { nodeId, clock } = this.#options;
    const frames = framesOf(payloadsOf(socket, reader, early), { from, to: nodeId });
    const offer = await readOffer(frames);
    if (this.#options.snapshotBytesMax < offer.manifest.size) {
      throw new FrameError(`more than ${this.#options.snapshotBytesMax} bytes`);
    }
    const end = await this.#claim(offer.message.term, socket);
    const startMs = clock.nowMs();
    try {
      if (socket.destroyed) throw new Error('the sender closed the connection');
      const file = await this.#spool(offer, frames, socket);
      await frames.return();
      // Nothing more is expected, but the end must be noticed.
      socket.resume();
      await this.#untilInstalled(offer.message, file, socket);
      this.#received.add(clock.nowMs() - startMs, offer.manifest.size);
    } finally {
      end();
    }
  }

  /** Resolves when nobody else receives, and this one may until it calls what it got. */
  async #claim(term: number, socket: PeerSocket): Promise<() => void> {
    for (let active = this.#active; active !== undefined; active = this.#active) {
      if (term < active.term) throw new Error('a later leader sends a snapshot');
      // The same node has dialled anew, or the other one does not lead any more.
      active.socket.destroy();
      await active.ended;
    }
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    this.#active = { term, socket, ended };
    return () => {
      this.#active = undefined;
      end();
    };
  }

  async #spool(offer: Offer, frames: Frames, socket: PeerSocket): Promise<string> {
    const { directory, files, syncBytes } = this.#options;
    const { snapshot } = offer.message;
    await files.makeDirectory(directory);
    const { id } = offer.manifest;
    const part = join(directory, snapshotFileName(snapshot, { id, suffix: 'part' }));
    if (this.#part !== undefined && this.#part !== part) await files.remove(this.#part);
    this.#part = part;
    const spool = await Spool.open(files, part, {
      manifest: offer.manifest,
      syncBytes: syncBytes ?? SYNC_BYTES,
    });
    try {
      acknowledge(socket, spool.size);
      while (!spool.isFull) {
        const { value: frame } = await frames.next();
        if (frame === undefined) throw new Error('the sender closed the connection');
        await spool.take(frame);
        acknowledge(socket, spool.size);
      }
      await spool.finish();
    } catch (error) {
      // Only what can become right is worth keeping.
      if (error instanceof FrameError || !spool.isSound) await files.remove(part);
      throw error;
    } finally {
      await spool.close();
    }
    const file = join(directory, snapshotFileName(snapshot, 'snapshot'));
    await files.rename(part, file);
    await files.syncDirectory(directory);
    return file;
  }

  /**
   * The sender is told only then: it would find that the node still lacks what its log no longer
   * holds, and send a whole state once more.
   */
  async #untilInstalled(message: InstallSnapshot, file: string, socket: PeerSocket): Promise<void> {
    const { clock } = this.#options;
    const periodMs = PROGRESS_TIMEOUT_MS / 3;
    const endPatience = clock.every(periodMs, () => acknowledge(socket, 0));
    socket.once('close', endPatience);
    await this.#options.onSnapshot(message, file);
    endPatience();
    socket.end(Buffer.concat(encodeControl({ kind: 'seen' })));
  }
}

type Frames = AsyncGenerator<Message | ControlFrame, void>;

async function* framesOf(
  payloads: AsyncIterable<Buffer>,
  { from, to }: { readonly from: NodeId; readonly to: NodeId },
): Frames {
  for await (const payload of payloads) yield decodeFrame(payload, from, to);
}

async function* payloadsOf(
  socket: PeerSocket,
  reader: FrameReader,
  early: readonly Buffer[],
): AsyncIterable<Buffer> {
  yield* early;
  // The socket outlives the loop: the answer to the last message is still to be written.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield* reader.push(chunk);
}

async function readOffer(frames: Frames): Promise<Offer> {
  const { value: message } = await frames.next();
  if (message?.kind !== 'installSnapshot') throw new FrameError(`unexpected ${message?.kind}`);
  const { value: manifest } = await frames.next();
  if (manifest?.kind !== 'snapshotManifest') throw new FrameError(`unexpected ${manifest?.kind}`);
  return { message, manifest };
}

function acknowledge(socket: PeerSocket, offset: number): void {
  socket.write(Buffer.concat(encodeControl({ kind: 'snapshotReceived', offset })));
}

type SpoolOptions = { readonly manifest: SnapshotManifest; readonly syncBytes: number };

/** The file that grows, and what must hold when it is finished. */
class Spool {
  readonly #file: OpenFile;
  readonly #manifest: SnapshotManifest;
  readonly #hash: Hash;
  #size: number;
  readonly #syncBytes: number;
  #unsynced = 0;
  #isSound = true;

  private constructor(
    file: OpenFile,
    { manifest, syncBytes }: SpoolOptions,
    held: { readonly hash: Hash; readonly size: number },
  ) {
    this.#file = file;
    this.#manifest = manifest;
    this.#syncBytes = syncBytes;
    this.#hash = held.hash;
    this.#size = held.size;
  }

  /** Goes on with what the file holds. */
  static async open(files: FileOperations, path: string, options: SpoolOptions): Promise<Spool> {
    const file = await files.open(path, 'a');
    try {
      const hash = createHash('sha256');
      let size = 0;
      for await (const piece of files.pieces(path)) {
        hash.update(piece);
        size += piece.length;
      }
      return new Spool(file, options, { hash, size });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get size(): number {
    return this.#size;
  }

  /** After a failed sync the next one would report success for what the kernel has dropped. */
  get isSound(): boolean {
    return this.#isSound;
  }

  get isFull(): boolean {
    return this.#manifest.size <= this.#size;
  }

  async take(frame: Message | ControlFrame): Promise<void> {
    if (frame.kind !== 'snapshotChunk') throw new FrameError(`unexpected ${frame.kind}`);
    if (frame.offset !== this.#size) throw new FrameError('chunks do not follow each other');
    if (frame.bytes.length === 0) throw new FrameError('an empty chunk');
    if (this.#manifest.size < this.#size + frame.bytes.length) {
      throw new FrameError('more bytes than were announced');
    }
    await this.#guarded(() => this.#file.writeFile(frame.bytes));
    this.#hash.update(frame.bytes);
    this.#size += frame.bytes.length;
    this.#unsynced += frame.bytes.length;
    if (this.#unsynced < this.#syncBytes) return;
    await this.#guarded(() => this.#file.datasync());
    this.#unsynced = 0;
  }

  async finish(): Promise<void> {
    const isEqual =
      this.#size === this.#manifest.size && this.#hash.digest().equals(this.#manifest.sha256);
    if (!isEqual) throw new FrameError('size or digest differ');
    await this.#guarded(() => this.#file.sync());
  }

  async #guarded(action: () => Promise<void>): Promise<void> {
    this.#isSound = false;
    await action();
    this.#isSound = true;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
