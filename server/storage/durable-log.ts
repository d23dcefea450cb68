/**
 * The durable Raft log: entries and hard state in a segmented write-ahead log with group commit.
 *
 * This file is its front: it turns appends into records and promises. `LogWriter` does the writing,
 * either in a thread of its own, fed by messages, or in place, for tests and simulation. Whatever
 * is appended while one fdatasync runs is the next batch, with one fdatasync for all of it.
 *
 * Conflicting entries are not overwritten on disk. An append that begins at or below the last index
 * records a truncation first, and recovery repeats it; a crash can then never leave a hole.
 *
 * Formats are described in `segment.ts`, recovery in `log-recovery.ts`.
 */

import assert from 'node:assert/strict';

import type { Entry, HardState } from '../raft/message.ts';
import { encodeEntry } from './entry-codec.ts';
import { systemFiles } from './log-files.ts';
import type { LogFiles } from './log-files.ts';
import { recoverLog } from './log-recovery.ts';
import { startInlineSink, startThreadSink } from './log-sink.ts';
import type { LogSink, SinkEvents, StartSink } from './log-sink.ts';
import type { LogWrite } from './log-writer.ts';
import { encodeHardState, encodePosition } from './segment.ts';
import type { LogPosition } from './segment.ts';
import { TermRuns } from './term-runs.ts';

export type LogAppend = {
  readonly hardState?: HardState | undefined;
  /** The log now begins after this snapshot; everything before is discarded. */
  readonly reset?: LogPosition | undefined;
  /** Contiguous; everything from the first index on is replaced. */
  readonly entries: readonly Entry[];
};

/**
 * - An append resolves when all of it is durable; appends resolve in order.
 * - After an error every append rejects, and its `cause` is that error: what the disk holds is
 *   then known only to a new `openDurableLog`.
 */
export type DurableLog = {
  append(write: LogAppend): Promise<void>;
  /** Allows segments that hold nothing above `index` to be removed; `index` must be applied. */
  compact(index: number): void;
  /** Waits for what was appended. */
  close(): Promise<void>;
};

export type DurableLogOptions = {
  /** Where blocking disk calls are made. */
  readonly thread: 'worker' | 'inline';
  readonly segmentBytes: number;
  /** Whose log this is, at most 256 bytes; a log of another identity is refused. */
  readonly identity: string;
};

export type OpenedLog = {
  readonly log: DurableLog;
  readonly recovered: {
    readonly hardState: HardState;
    /** Where the log begins. */
    readonly snapshot: LogPosition;
    readonly entries: Entry[];
  };
};

export const SEGMENT_BYTES_DEFAULT = 4 * 1024 * 1024;

/**
 * Opens or creates the log in a directory of its own. Throws `LogDamagedError` if something that was durable
 * does not read back, and `DirectoryLockedError` if another process uses the directory.
 */
export async function openDurableLog(
  directory: string,
  options: DurableLogOptions,
): Promise<OpenedLog> {
  return openDurableLogOn(systemFiles, directory, options);
}

/** `openDurableLog` on other files; the thread has only those of the system. */
export async function openDurableLogOn(
  files: LogFiles,
  directory: string,
  options: DurableLogOptions,
  startInline: StartSink = startInlineSink,
): Promise<OpenedLog> {
  assert(options.thread === 'inline' || files === systemFiles, 'functions cannot enter a thread');
  const unlock = files.enter(directory);
  try {
    const { identity, segmentBytes } = options;
    const { hardState, base, entries, ...rest } = recoverLog({ directory, identity }, files);
    const writerOptions = { directory, identity, segmentBytes, ...rest };
    const log = new Log({ hardState, base, entries, unlock }, (events) =>
      options.thread === 'worker'
        ? startThreadSink(writerOptions, events)
        : startInline(writerOptions, files, events),
    );
    const initial: HardState = { currentTerm: 0, votedFor: null, commitIndex: 0 };
    return { log, recovered: { hardState: hardState ?? initial, snapshot: base, entries } };
  } catch (error) {
    unlock();
    throw error;
  }
}

type LogOrigin = {
  readonly hardState: HardState | undefined;
  readonly base: LogPosition;
  readonly entries: readonly Entry[];
  readonly unlock: () => void;
};

type Waiter = { readonly resolve: () => void; readonly reject: (error: Error) => void };

/**
 * Invariants:
 * - `#pending` holds the records of appends of this turn, `#waiting` their waiters; a microtask
 *   hands both on as one write.
 * - `#inFlight` holds the waiters of each write that the sink has, oldest first.
 */
class Log implements DurableLog, SinkEvents {
  readonly #sink: LogSink;
  readonly #unlock: () => void;
  #terms: TermRuns;
  #hardState: Uint8Array | undefined;
  #pending: { records: Buffer[]; previous: LogPosition; lastIndex: number; hasReset: boolean };
  #waiting: Waiter[] = [];
  #inFlight: Waiter[][] = [];
  #failure: unknown = undefined;
  #isClosed = false;

  constructor(origin: LogOrigin, start: (events: SinkEvents) => LogSink) {
    this.#unlock = origin.unlock;
    this.#terms = new TermRuns(origin.base);
    for (const entry of origin.entries) this.#terms.push(entry);
    if (origin.hardState !== undefined) this.#hardState = encodeHardState(origin.hardState);
    this.#pending = this.#emptyPending();
    this.#sink = start(this);
  }

  append(write: LogAppend): Promise<void> {
    if (this.#isClosed) return Promise.reject(new Error('Cannot append to the log: it is closed'));
    if (this.#failure !== undefined) return Promise.reject(this.#error());

    this.#record(write);
    if (this.#waiting.length === 0) queueMicrotask(() => this.#flush());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  compact(index: number): void {
    assert(index <= this.#terms.last.index, 'compaction beyond the last entry');
    this.#terms.compact(index);
    if (this.#failure === undefined && !this.#isClosed) this.#sink.compact(index);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#flush();
    try {
      await this.#sink.close();
    } finally {
      this.#unlock();
    }
  }

  onDurable(writeCount: number): void {
    for (const waiters of this.#inFlight.splice(0, writeCount)) {
      for (const waiter of waiters) waiter.resolve();
    }
  }

  onFailure(failure: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    const waiters = [...this.#inFlight.flat(), ...this.#waiting];
    this.#inFlight = [];
    this.#waiting = [];
    this.#pending = this.#emptyPending();
    for (const waiter of waiters) waiter.reject(this.#error());
  }

  #record({ hardState, reset, entries }: LogAppend): void {
    const pending = this.#pending;
    if (hardState !== undefined) {
      const record = encodeHardState(hardState);
      this.#hardState = record;
      pending.records.push(record);
    }
    assert(this.#hardState !== undefined, 'the first append has no hard state');

    if (reset !== undefined) {
      this.#terms = new TermRuns(reset);
      pending.records.push(encodePosition('reset', reset));
      pending.hasReset = true;
    }

    const first = entries[0];
    if (first !== undefined && first.index <= this.#terms.last.index) {
      const kept = this.#terms.truncate(first.index - 1);
      pending.records.push(encodePosition('truncate', kept));
    }
    for (const entry of entries) {
      this.#terms.push(entry);
      pending.records.push(encodeEntry(entry));
    }
    pending.lastIndex = Math.max(pending.lastIndex, entries.at(-1)?.index ?? 0);
  }

  #flush(): void {
    if (this.#waiting.length === 0) return;
    assert(this.#hardState !== undefined);
    const { records, ...pending } = this.#pending;
    const write: LogWrite = { ...pending, bytes: concatenate(records), hardState: this.#hardState };
    this.#inFlight.push(this.#waiting);
    this.#waiting = [];
    this.#pending = this.#emptyPending();
    this.#sink.write(write);
  }

  #emptyPending() {
    return { records: [], previous: this.#terms.last, lastIndex: 0, hasReset: false };
  }

  #error(): Error {
    return new Error('Cannot append to the log: an earlier write failed', { cause: this.#failure });
  }
}

/** The result owns its memory, so that it can be transferred to the thread. */
function concatenate(records: readonly Buffer[]): Uint8Array {
  const bytes = new Uint8Array(records.reduce((sum, record) => sum + record.length, 0));
  let offset = 0;
  for (const record of records) {
    bytes.set(record, offset);
    offset += record.length;
  }
  return bytes;
}
