/**
 * Reads a durable log back: which batches count, and what they add up to.
 *
 * - The last segment may end in a torn batch: it was never acknowledged, and is cut off.
 * - A last segment without batches was never used, and is removed.
 * - Anything else that does not read back is damage to what this node has promised to others. It
 *   must not continue with less: having voted, or acknowledged an entry, and forgotten it, it
 *   would help to elect or commit something else. `openDurableLog` then refuses.
 */

import { basename, join } from 'node:path';

import type { Entry, HardState } from '../raft/message.ts';
import { entryOf } from './entry-codec.ts';
import type { LogFiles } from './log-files.ts';
import { closeSegmentFile, segmentPath } from './log-writer.ts';
import type { ClosedSegment } from './log-writer.ts';
import type { LogRecord } from './record.ts';
import { RECORD_KINDS, SEGMENT_HEADER_BYTES } from './segment.ts';
import { decodeHardState, decodeSegmentHeader, scanSegment } from './segment.ts';
import type { LogPosition, SegmentHeader } from './segment.ts';

const SEGMENT_NAME = /^segment-(\d+)\.wal(\.new)?$/;

/** The log holds something that was durable and does not read back. */
export class LogDamagedError extends Error {
  readonly file: string;
  readonly offset: number;

  constructor(place: { file: string; offset: number }, reason: string) {
    super(`Cannot open the log: ${place.file}, offset ${place.offset}: ${reason}`);
    this.name = 'LogDamagedError';
    this.file = place.file;
    this.offset = place.offset;
  }
}

export type RecoveredLog = {
  /** Undefined for a log that never held anything. */
  readonly hardState: HardState | undefined;
  /** Where `entries` begin. */
  readonly base: LogPosition;
  readonly entries: Entry[];
  readonly segments: readonly ClosedSegment[];
  readonly nextSequence: number;
  readonly nextBatch: number;
};

/** What the records so far add up to. */
type Replay = {
  hardState: HardState | undefined;
  base: LogPosition;
  entries: Entry[];
};

type Place = { readonly directory: string; readonly identity: string };

/** Reads the log in a directory, and cuts off what a crash left unfinished. */
export function recoverLog(place: Place, files: LogFiles): RecoveredLog {
  const sequences = listSegments(place, files);
  const replay: Replay = { hardState: undefined, base: { index: 0, term: 0 }, entries: [] };
  const segments: ClosedSegment[] = [];
  let nextBatch = 1;
  let nextSequence = 1;

  for (const sequence of sequences) {
    const isLast = sequence === sequences.at(-1);
    const path = segmentPath(place.directory, sequence);
    const bytes = files.read(path);
    nextSequence = sequence;
    const header = readHeader(bytes, { ...place, path, sequence });
    if (segments.length === 0) {
      replay.base = header.previous;
      nextBatch = header.firstBatch;
    } else {
      checkContinuation(path, header, { previous: lastPosition(replay), firstBatch: nextBatch });
    }

    const scan = scanSegment(bytes, header);
    const damage = scan.damage ?? (scan.isClosed || isLast ? undefined : 'it was not closed');
    if (damage !== undefined) throw new LogDamagedError({ file: path, offset: scan.end }, damage);
    if (scan.batchCount === 0 && isLast) {
      removeSegment(path, place, files);
      break;
    }
    const lastBatch = nextBatch + scan.batchCount - 1;
    if (!scan.isClosed) {
      const file = files.openExisting(path);
      closeSegmentFile(files, file, { end: scan.end, batch: lastBatch, salt: header.salt });
    }

    const { lastIndex, hasReset } = replaySegment(replay, scan.records, path);
    if (hasReset) {
      for (const [i, segment] of segments.entries()) segments[i] = { ...segment, lastIndex: 0 };
    }
    segments.push({ sequence, lastIndex });
    nextBatch = lastBatch + 1;
    nextSequence = sequence + 1;
  }

  if (replay.hardState === undefined && segments.length > 0) {
    const file = segmentPath(place.directory, segments[0]?.sequence ?? 0);
    throw new LogDamagedError({ file, offset: SEGMENT_HEADER_BYTES }, 'there is no hard state');
  }
  return { ...replay, segments, nextSequence, nextBatch };
}

function listSegments(place: Place, files: LogFiles): number[] {
  const sequences: number[] = [];
  for (const name of files.list(place.directory)) {
    const match = SEGMENT_NAME.exec(name);
    if (match === null) continue;
    // Its creation did not finish, so nothing was ever written to it.
    if (match[2] !== undefined) removeSegment(join(place.directory, name), place, files);
    else sequences.push(Number(match[1]));
  }
  sequences.sort((a, b) => a - b);
  for (const [i, sequence] of sequences.entries()) {
    const before = sequences[i - 1];
    if (before !== undefined && sequence !== before + 1) {
      const file = segmentPath(place.directory, before + 1);
      throw new LogDamagedError({ file, offset: 0 }, 'the segment is missing');
    }
  }
  return sequences;
}

function readHeader(
  bytes: Buffer,
  expected: Place & { path: string; sequence: number },
): SegmentHeader {
  const header = decodeSegmentHeader(bytes);
  const at = { file: expected.path, offset: 0 };
  if ('fault' in header) throw new LogDamagedError(at, header.fault);
  if (header.sequence !== expected.sequence) {
    throw new LogDamagedError(at, `this is segment ${header.sequence}`);
  }
  if (header.identity !== expected.identity) {
    throw new LogDamagedError(
      at,
      `the log belongs to "${header.identity}", not to "${expected.identity}"`,
    );
  }
  return header;
}

function checkContinuation(
  path: string,
  header: SegmentHeader,
  expected: Pick<SegmentHeader, 'previous' | 'firstBatch'>,
): void {
  const { previous, firstBatch } = expected;
  const isContinuous =
    header.previous.index === previous.index &&
    header.previous.term === previous.term &&
    header.firstBatch === firstBatch;
  if (isContinuous) return;

  throw new LogDamagedError(
    { file: path, offset: 0 },
    `the segment follows entry ${header.previous.index} and batch ${header.firstBatch - 1}, ` +
      `but ${basename(path)} is preceded by entry ${previous.index} and batch ${firstBatch - 1}`,
  );
}

function replaySegment(replay: Replay, records: readonly LogRecord[], path: string) {
  let lastIndex = 0;
  let hasReset = false;
  for (const record of records) {
    const fault = replayRecord(replay, record);
    if (fault !== undefined) {
      // The records of a segment are views of one buffer that begins where the file begins.
      const offset = record.bytes.byteOffset - (records[0]?.bytes.byteOffset ?? 0);
      throw new LogDamagedError({ file: path, offset: SEGMENT_HEADER_BYTES + offset }, fault);
    }
    if (record.kind === RECORD_KINDS.reset) hasReset = true;
    else if (record.kind < RECORD_KINDS.hardState) lastIndex = Math.max(lastIndex, record.index);
  }
  return { lastIndex, hasReset };
}

function replayRecord(replay: Replay, record: LogRecord): string | undefined {
  switch (record.kind) {
    case RECORD_KINDS.hardState:
      replay.hardState = decodeHardState(record);
      return undefined;
    case RECORD_KINDS.reset:
      replay.base = { index: record.index, term: record.term };
      replay.entries = [];
      return undefined;
    case RECORD_KINDS.truncate:
      return replayTruncation(replay, record);
    default:
      return replayEntry(replay, record);
  }
}

/** The truncation may reach below the base: what it kept can have been compacted since. */
function replayTruncation(replay: Replay, record: LogRecord): string | undefined {
  const { index, term } = record;
  if (lastPosition(replay).index < index) return `truncation to ${index}, beyond the last entry`;
  if (index <= replay.base.index) {
    replay.base = { index, term };
    replay.entries = [];
  } else {
    replay.entries.length = index - replay.base.index;
  }
  return lastPosition(replay).term === term ? undefined : `entry ${index} has another term`;
}

function replayEntry(replay: Replay, record: LogRecord): string | undefined {
  const entry = entryOf(record);
  if (entry === undefined) return `record of kind ${record.kind} is unknown`;
  const last = lastPosition(replay);
  if (entry.index !== last.index + 1) return `entry ${entry.index} follows entry ${last.index}`;
  if (entry.term < last.term) return `term ${entry.term} follows term ${last.term}`;
  replay.entries.push(entry);
  return undefined;
}

function lastPosition(replay: Replay): LogPosition {
  const last = replay.entries.at(-1);
  return last === undefined ? replay.base : { index: last.index, term: last.term };
}

function removeSegment(path: string, place: Place, files: LogFiles): void {
  files.unlink(path);
  files.syncDirectory(place.directory);
}
