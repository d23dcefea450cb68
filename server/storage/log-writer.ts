/**
 * Writes the durable log: batches into the last segment, a new segment when it is full, and the
 * removal of segments that nobody needs. Synchronous; it runs in the thread that `durable-log.ts`
 * chose.
 *
 * Invariants:
 * - A batch is written only when the one before it is durable; so is the mark of that one.
 * - A segment has a durable header and all its first length before it has its name.
 * - A segment ends with the mark of its last batch, durably, before the next one exists.
 * - The first batch of a segment repeats the hard state, so that older segments can go; they go
 *   only when such a batch is durable, oldest first.
 * - After an error nothing is written any more: what a failed fsync left behind is unknown, and
 *   the next one would report success for pages that the kernel has dropped.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import type { LogFiles } from './log-files.ts';
import {
  BATCH_END_BYTES,
  MARK_BYTES,
  SALT_BYTES,
  SEGMENT_HEADER_BYTES,
  encodeBatchEnd,
  encodeMark,
  encodeSegmentHeader,
} from './segment.ts';
import type { LogPosition } from './segment.ts';

// Overwriting zeros changes no file size, which spares fdatasync a journal commit: measured 190-230
// instead of 230-310 us (p50, ext4). A segment is all zeros before it is used, and the next one is
// filled step by step while this one is: a step costs 1.4 ms, once in some 3000 small appends.
const FILL_STEP_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(FILL_STEP_BYTES);

/** What one or several appends add, as records. */
export type LogWrite = {
  readonly bytes: Uint8Array;
  /** The last entry of the log before these records. */
  readonly previous: LogPosition;
  /** The highest index among these records and of what they replace. */
  readonly lastIndex: number;
  /** The hard state in force after these records, as a record. */
  readonly hardState: Uint8Array;
  /** Whether a reset among these records makes all older segments useless. */
  readonly hasReset: boolean;
};

/** A segment before the last, and the highest index it holds. */
export type ClosedSegment = { readonly sequence: number; readonly lastIndex: number };

export type LogWriterOptions = {
  readonly directory: string;
  readonly segmentBytes: number;
  readonly identity: string;
  /** The sequence of the next segment and of the next batch. */
  readonly nextSequence: number;
  readonly nextBatch: number;
  readonly segments: readonly ClosedSegment[];
  /** Instead of chance, in simulations: salts tell segments that reuse one name apart. */
  readonly createSalt?: () => Buffer;
};

type OpenSegment = {
  readonly file: number;
  readonly sequence: number;
  readonly salt: Buffer;
  readonly fileBytes: number;
  end: number;
  lastIndex: number;
  hasBatch: boolean;
};

/** The next segment: zeros so far, under a name that recovery removes. */
type Spare = { readonly file: number; readonly path: string; filled: number };

export function segmentPath(directory: string, sequence: number): string {
  return join(directory, `segment-${String(sequence).padStart(10, '0')}.wal`);
}

/** Gives a segment its final length: after the mark that says its last batch was durable. */
export function closeSegmentFile(
  files: LogFiles,
  file: number,
  last: { end: number; batch: number; salt: Buffer },
): void {
  writeFully(files, file, { buffers: [encodeMark(last.batch, last.salt)], position: last.end });
  // In this order: a shorter file without the mark would be taken for one that has lost something.
  files.datasync(file);
  files.truncate(file, last.end + MARK_BYTES);
  files.datasync(file);
  files.close(file);
}

export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #files: LogFiles;
  readonly #closed: ClosedSegment[];
  #open: OpenSegment | undefined;
  #spare: Spare | undefined;
  #nextSequence: number;
  #nextBatch: number;
  #compactIndex = 0;
  #isDead = false;

  constructor(options: LogWriterOptions, files: LogFiles) {
    this.#options = options;
    this.#files = files;
    this.#closed = [...options.segments];
    this.#nextSequence = options.nextSequence;
    this.#nextBatch = options.nextBatch;
  }

  /** Appends all writes as one batch; it is durable on return. */
  write(writes: readonly LogWrite[]): void {
    this.#guarded(() => this.#writeBatch(writes));
  }

  /**
   * Marks the last batch as durable, for whoever reads the log after its bytes were damaged. Not
   * synced, and so not worth to be waited for: to be called when the batch has been reported.
   */
  mark(): void {
    this.#guarded(() => {
      const open = this.#open;
      if (open?.hasBatch !== true) return;
      const buffers = [encodeMark(this.#nextBatch - 1, open.salt)];
      writeFully(this.#files, open.file, { buffers, position: open.end });
    });
  }

  /** Lets the next segment keep pace with this one, a step at a time; false if it does. */
  prepareNext(): boolean {
    const open = this.#open;
    const { segmentBytes } = this.#options;
    const filled = this.#spare?.filled ?? 0;
    if (open === undefined || segmentBytes <= filled || open.end <= filled) return false;
    this.#guarded(() => {
      this.#spare ??= this.#createSpare();
      this.#fill(this.#spare, segmentBytes);
      this.#files.datasync(this.#spare.file);
    });
    return true;
  }

  /** Segments that hold nothing above `index` may go. */
  compact(index: number): void {
    this.#compactIndex = Math.max(this.#compactIndex, index);
  }

  /** Removes the oldest segment if nobody needs it; false if there is nothing to remove. */
  removeOldest(): boolean {
    const oldest = this.#closed[0];
    if (oldest === undefined || this.#compactIndex < oldest.lastIndex) return false;
    if (this.#closed.length === 1 && this.#open?.hasBatch !== true) return false;
    this.#guarded(() => {
      this.#files.unlink(segmentPath(this.#options.directory, oldest.sequence));
      this.#files.syncDirectory(this.#options.directory);
      this.#closed.shift();
    });
    return true;
  }

  close(): void {
    this.#dropSpare();
    if (this.#open === undefined) return;
    if (this.#isDead) this.#files.close(this.#open.file);
    else this.#guarded(() => this.#closeSegment());
    this.#open = undefined;
  }

  #guarded(action: () => void): void {
    assert(!this.#isDead, 'a log is used after an error');
    this.#isDead = true;
    action();
    this.#isDead = false;
  }

  #writeBatch(writes: readonly LogWrite[]): void {
    const first = writes[0];
    const last = writes.at(-1);
    assert(first !== undefined && last !== undefined, 'a batch is empty');

    const buffers = writes.map((write) => write.bytes);
    const size = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    const segment = this.#segmentFor(size, { ...last, previous: first.previous });
    if (!segment.hasBatch) buffers.unshift(last.hardState);

    let crc = 0;
    let bytes = 0;
    for (const buffer of buffers) {
      crc = crc32(buffer, crc);
      bytes += buffer.length;
    }
    buffers.push(encodeBatchEnd({ sequence: this.#nextBatch, bytes, crc }, segment.salt));
    writeFully(this.#files, segment.file, { buffers, position: segment.end });
    this.#files.datasync(segment.file);
    segment.end += bytes + BATCH_END_BYTES;

    this.#nextBatch += 1;
    segment.hasBatch = true;
    segment.lastIndex = Math.max(segment.lastIndex, ...writes.map((write) => write.lastIndex));
    if (writes.some((write) => write.hasReset)) {
      for (const [i, closed] of this.#closed.entries()) {
        this.#closed[i] = { ...closed, lastIndex: 0 };
      }
    }
  }

  /** `size` is that of the records, without what is added to them. */
  #segmentFor(size: number, write: LogWrite): OpenSegment {
    const open = this.#open;
    if (open !== undefined) {
      if (open.end + size + BATCH_END_BYTES <= open.fileBytes) return open;
      this.#closeSegment();
    }
    const least = SEGMENT_HEADER_BYTES + write.hardState.length + size + BATCH_END_BYTES;
    return this.#createSegment(write.previous, Math.max(this.#options.segmentBytes, least));
  }

  #closeSegment(): void {
    const open = this.#open;
    assert(open !== undefined);
    const { file, end, salt } = open;
    closeSegmentFile(this.#files, file, { end, salt, batch: this.#nextBatch - 1 });
    this.#closed.push({ sequence: open.sequence, lastIndex: open.lastIndex });
    this.#open = undefined;
  }

  #createSegment(previous: LogPosition, fileBytes: number): OpenSegment {
    const { directory, identity } = this.#options;
    const spare = this.#takeSpare(fileBytes);
    const { file } = spare;
    const salt = this.#options.createSalt?.() ?? randomBytes(SALT_BYTES);
    const sequence = this.#nextSequence;
    const place = { sequence, previous, firstBatch: this.#nextBatch };
    const header = encodeSegmentHeader({ ...place, salt, fileBytes, identity });
    writeFully(this.#files, file, { buffers: [header], position: 0 });
    // Under its name it is whole: recovery takes anything less for damage.
    this.#files.datasync(file);
    this.#files.rename(spare.path, segmentPath(directory, sequence));
    this.#files.syncDirectory(directory);

    this.#nextSequence += 1;
    this.#open = {
      file,
      sequence,
      salt,
      fileBytes,
      end: SEGMENT_HEADER_BYTES,
      lastIndex: 0,
      hasBatch: false,
    };
    return this.#open;
  }

  /** A file of exactly so many zeros, not all of which need be durable. */
  #takeSpare(fileBytes: number): Spare {
    const spare = this.#spare ?? this.#createSpare();
    this.#spare = undefined;
    while (spare.filled < fileBytes) this.#fill(spare, fileBytes);
    return spare;
  }

  #dropSpare(): void {
    const spare = this.#spare;
    if (spare === undefined) return;
    this.#spare = undefined;
    this.#files.close(spare.file);
    if (!this.#isDead) this.#guarded(() => this.#files.unlink(spare.path));
  }

  #createSpare(): Spare {
    const path = `${segmentPath(this.#options.directory, this.#nextSequence)}.new`;
    return { path, file: this.#files.create(path), filled: 0 };
  }

  #fill(spare: Spare, fileBytes: number): void {
    const zeros = ZEROS.subarray(0, fileBytes - spare.filled);
    writeFully(this.#files, spare.file, { buffers: [zeros], position: spare.filled });
    spare.filled += zeros.length;
  }
}

function writeFully(
  files: LogFiles,
  file: number,
  write: { buffers: readonly Uint8Array[]; position: number },
): void {
  let buffers = write.buffers;
  let position = write.position;
  while (buffers.length > 0) {
    let written = files.writev(file, buffers, position);
    assert(written > 0, 'a write to the log made no progress');
    position += written;
    const rest: Uint8Array[] = [];
    for (const buffer of buffers) {
      if (written < buffer.length) rest.push(buffer.subarray(written));
      written = Math.max(0, written - buffer.length);
    }
    buffers = rest;
  }
}
