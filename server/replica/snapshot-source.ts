/**
 * What a snapshot is written from. A store on a disk is read by a thread of its own, from a
 * checkpoint: a million values are some seconds of work, and of garbage, for which no write here
 * should wait. A store in memory is read where it is.
 */

import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';

import type { Store, StorePosition, StoreStream } from '../storage/store.ts';
import type { Clock } from './clock.ts';
import type { FileOperations } from './file-operations.ts';
import { Pace } from './pace.ts';

export type WrittenSnapshot = { readonly size: number; readonly sha256: Buffer };

export type SnapshotSource = {
  readonly position: StorePosition;
  /** Once. Rejects if it fails, or soon after `signal`; what is in the file then is of no use. */
  writeTo(file: string, signal: AbortSignal): Promise<WrittenSnapshot>;
  close(): Promise<void>;
};

export type SourceStore = Pick<Store, 'exportSnapshot' | 'checkpoint'>;

export type SnapshotWork = {
  readonly checkpoint: string;
  readonly position: StorePosition;
  readonly file: string;
  /** 0 for no limit. */
  readonly bytesPerSecond: number;
};

type SourceHost = {
  readonly clock: Clock;
  readonly files: FileOperations;
  readonly bytesPerSecond: number;
};

/** `checkpoint` is a directory of its own, which does not exist. */
export async function openSnapshotSource(
  store: SourceStore,
  { clock, files, bytesPerSecond }: SourceHost,
  checkpoint: string,
): Promise<SnapshotSource> {
  if (store.checkpoint === undefined) {
    const { position, chunks, close } = store.exportSnapshot();
    const paced = new Pace(bytesPerSecond, clock).spread(chunks);
    const writeTo = (file: string, signal: AbortSignal): Promise<WrittenSnapshot> =>
      writeChunks(files, file, paced, signal);
    return { position, writeTo, close };
  }
  const close = (): Promise<void> => files.remove(checkpoint);
  try {
    const position = await store.checkpoint(checkpoint);
    const writeTo = (file: string, signal: AbortSignal): Promise<WrittenSnapshot> =>
      inThread({ checkpoint, position, file, bytesPerSecond }, signal);
    return { position, writeTo, close };
  } catch (error) {
    await close();
    throw error;
  }
}

export async function writeChunks(
  files: FileOperations,
  file: string,
  chunks: StoreStream,
  signal: AbortSignal,
): Promise<WrittenSnapshot> {
  const hash = createHash('sha256');
  let size = 0;
  const handle = await files.open(file, 'wx');
  try {
    for await (const chunk of chunks) {
      signal.throwIfAborted();
      hash.update(chunk);
      size += chunk.length;
      await handle.writeFile(chunk);
    }
  } finally {
    await handle.close();
  }
  return { size, sha256: hash.digest() };
}

/** The thread ends by itself, when it has closed what it reads: LevelDB is not to be cut off. */
async function inThread(work: SnapshotWork, signal: AbortSignal): Promise<WrittenSnapshot> {
  // It would not be told of what was before it.
  signal.throwIfAborted();
  const worker = new Worker(new URL('./snapshot-worker.js', import.meta.url), { workerData: work });
  const stop = (): void => worker.postMessage('stop');
  signal.addEventListener('abort', stop);
  try {
    return await new Promise<WrittenSnapshot>((resolve, reject) => {
      let written: WrittenSnapshot | undefined;
      worker.on('message', ({ size, sha256 }: { size: number; sha256: Uint8Array }) => {
        written = { size, sha256: Buffer.from(sha256) };
      });
      worker.on('error', (error) => reject(signal.aborted ? signal.reason : error));
      worker.on('exit', () => {
        if (written !== undefined) resolve(written);
        else reject(new Error('the thread that writes a snapshot has ended'));
      });
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
