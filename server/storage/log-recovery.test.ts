import { crc32 } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import type { Entry, HardState } from '../raft/message.ts';
import { openDurableLogOn } from './durable-log.ts';
import type { DurableLogOptions } from './durable-log.ts';
import { LogDamagedError, recoverLog } from './log-recovery.ts';
import { segmentPath } from './log-writer.ts';
import { MemoryLogFiles } from './memory-log-files.ts';
import { RECORD_BYTES_MIN } from './record.ts';
import { MARK_BYTES, SALT_BYTES, SEGMENT_HEADER_BYTES } from './segment.ts';

const HARD_STATE: HardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };
const PLACE = { directory: '/log', identity: 'cluster/n1' };
const FIRST = segmentPath('/log', 1);
const SECOND = segmentPath('/log', 2);

function entry(index: number): Entry {
  return { index, term: 1, kind: 'command', command: Buffer.from(`command ${index}`) };
}

const LARGE = 4096;

/**
 * Writes one entry per batch. What is returned is what the disk holds when the node has ended, or
 * what it holds when it was killed: then the last segment is not closed.
 */
async function writeLog(
  entryCount: number,
  segmentBytes: number,
  end: 'closed' | 'killed' = 'closed',
): Promise<Map<string, Buffer>> {
  const files = new MemoryLogFiles();
  const options: DurableLogOptions = { thread: 'inline', segmentBytes, identity: PLACE.identity };
  const { log } = await openDurableLogOn(files, '/log', options);
  for (let index = 1; index <= entryCount; index += 1) {
    await log.append({ hardState: HARD_STATE, entries: [entry(index)] });
  }
  if (end === 'closed') await log.close();
  return files.contents();
}

/** The indexes that a log recovers, or the error that it refuses with. */
function recovered(contents: ReadonlyMap<string, Buffer>): string | LogDamagedError {
  try {
    const { entries } = recoverLog(PLACE, new MemoryLogFiles(contents));
    for (const { index, command } of entries) expect(String(command)).toBe(`command ${index}`);
    return entries.map(({ index }) => index).join(' ');
  } catch (error) {
    if (error instanceof LogDamagedError) return error;
    throw error;
  }
}

function changed(
  contents: ReadonlyMap<string, Buffer>,
  path: string,
  change: (bytes: Buffer) => Buffer,
): Map<string, Buffer> {
  const bytes = contents.get(path);
  if (bytes === undefined) throw new Error(`Cannot change ${path}: it does not exist`);
  return new Map(contents).set(path, change(Buffer.from(bytes)));
}

function flip(bytes: Buffer, offset: number, mask: number): Buffer {
  bytes.writeUInt8(bytes.readUInt8(offset) ^ mask, offset);
  return bytes;
}

/** Where the batches of a log with three entries begin, and where the last one ends. */
async function batchStarts(): Promise<number[]> {
  const starts = [SEGMENT_HEADER_BYTES];
  for (let count = 1; count <= 3; count += 1) {
    starts.push(((await writeLog(count, LARGE)).get(FIRST)?.length ?? 0) - MARK_BYTES);
  }
  return starts;
}

const ALL = '1 2 3';
const lengthOf = (contents: ReadonlyMap<string, Buffer>) => contents.get(FIRST)?.length ?? 0;

/** `all` if what was acknowledged is there, `refused` if the log is; never is there less. */
function judged(contents: ReadonlyMap<string, Buffer>): string {
  const result = recovered(contents);
  if (typeof result === 'string') return result === ALL ? 'all' : `only ${result}`;
  return result.file === FIRST ? 'refused' : `refused for ${result.file}`;
}

describe.each(['closed', 'killed'] as const)('a log of three acknowledged batches, %s,', (end) => {
  test('cut at any offset keeps all of them, or is refused', async () => {
    const contents = await writeLog(3, LARGE, end);
    const [, , , lastEnd = 0] = await batchStarts();
    for (let length = 0; length < lengthOf(contents); length += 1) {
      const cut = changed(contents, FIRST, (bytes) => bytes.subarray(0, length));
      // Cut right after its mark it is a log that was closed.
      const outcome = length === lastEnd + MARK_BYTES ? 'all' : 'refused';
      expect(judged(cut)).toBe(outcome);
    }
    expect(recovered(contents)).toBe(ALL);
  });

  test('with any bit flipped keeps all of them, or is refused', async () => {
    const contents = await writeLog(3, LARGE, end);
    const [, , , lastEnd = 0] = await batchStarts();
    for (let offset = 0; offset < lengthOf(contents); offset += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = changed(contents, FIRST, (bytes) => flip(bytes, offset, 1 << bit));
        // Who was killed may also have been killed before it wrote the mark.
        const outcome = offset < lastEnd || end === 'closed' ? 'refused' : 'all';
        expect(judged(flipped)).toBe(outcome);
      }
    }
  });
});

describe('a batch that power loss has torn', () => {
  /** The third batch, written in part over the mark of the second and the zeros after it. */
  async function torn(tear: (before: Buffer, after: Buffer) => void) {
    const before = await writeLog(2, LARGE, 'killed');
    const [, , start = 0, end = 0] = await batchStarts();
    const after = await writeLog(3, LARGE, 'killed');
    return changed(before, FIRST, (bytes) => {
      const salted = resalted(after.get(FIRST)?.subarray(start, end) ?? Buffer.alloc(0), bytes);
      tear(bytes.subarray(start, end), salted);
      return bytes;
    });
  }

  /** A batch as it would be in another file: its end has that file's salt. */
  function resalted(batch: Buffer, file: Buffer): Buffer {
    const copy = Buffer.from(batch);
    const end = copy.subarray(copy.length - MARK_BYTES - 4);
    file.copy(end, RECORD_BYTES_MIN, 36, 36 + SALT_BYTES);
    end.writeUInt32LE(crc32(end.subarray(8)), 4);
    return copy;
  }

  test('was never acknowledged, and is cut off; the log goes on', async () => {
    const [, , start = 0, end = 0] = await batchStarts();
    for (let kept = 0; kept <= end - start; kept += 1) {
      for (const part of ['head', 'tail']) {
        const contents = await torn((before, after) => {
          if (part === 'head') after.copy(before, 0, 0, kept);
          else after.copy(before, before.length - kept, after.length - kept);
        });
        const left = kept === end - start ? ALL : '1 2';
        expect(recovered(contents)).toBe(left);

        const files = new MemoryLogFiles(contents);
        const options: DurableLogOptions = { ...PLACE, thread: 'inline', segmentBytes: LARGE };
        const { log } = await openDurableLogOn(files, '/log', options);
        await log.append({ entries: [entry(3)] });
        await log.close();
        expect(recovered(files.contents())).toBe(ALL);
      }
    }
  });

  test('is cut off if it is a copy of the one before', async () => {
    const contents = await writeLog(2, LARGE, 'killed');
    const [, first = 0, second = 0] = await batchStarts();
    const repeated = changed(contents, FIRST, (bytes) => {
      bytes.copy(bytes, second, first, second);
      return bytes;
    });
    expect(recovered(repeated)).toBe('1 2');
  });

  test('is refused if the one before it is missing, and if its mark is there', async () => {
    const contents = await writeLog(3, LARGE, 'killed');
    const [, first = 0, second = 0, end = 0] = await batchStarts();
    const withoutSecond = changed(contents, FIRST, (bytes) => bytes.fill(0, first, second));
    expect(recovered(withoutSecond)).toMatchObject({ file: FIRST, offset: first });
    const withoutThird = changed(contents, FIRST, (bytes) => bytes.fill(0, second, end));
    expect(recovered(withoutThird)).toMatchObject({ file: FIRST, offset: second });
  });
});

test('a flipped bit in an earlier segment is refused', async () => {
  const contents = await writeLog(12, 1000);
  expect(contents.size).toBeGreaterThan(2);
  for (let offset = 0; offset < lengthOf(contents); offset += 1) {
    const result = recovered(changed(contents, FIRST, (bytes) => flip(bytes, offset, 0x04)));
    expect(result).toBeInstanceOf(LogDamagedError);
  }
});

describe('with several segments', () => {
  test('a missing one is refused', async () => {
    const contents = await writeLog(12, 1000);
    contents.delete(SECOND);
    expect(recovered(contents)).toMatchObject({ file: SECOND, offset: 0 });
  });

  test('one that ends too early is refused', async () => {
    const contents = await writeLog(12, 1000);
    const shorter = changed(contents, FIRST, (bytes) => bytes.subarray(0, -1));
    expect(recovered(shorter)).toBeInstanceOf(LogDamagedError);
  });

  test('one in the place of another is refused', async () => {
    const contents = await writeLog(12, 1000);
    const first = contents.get(FIRST);
    expect(recovered(changed(contents, SECOND, () => first ?? Buffer.alloc(0)))).toMatchObject({
      file: SECOND,
    });
  });

  test('one that was being created was never used', async () => {
    const contents = await writeLog(12, 1000);
    const unfinished = `${segmentPath('/log', contents.size + 1)}.new`;
    const header = contents.get(FIRST)?.subarray(0, SEGMENT_HEADER_BYTES) ?? Buffer.alloc(0);
    const files = new MemoryLogFiles(new Map(contents).set(unfinished, header));
    expect(recoverLog(PLACE, files).entries.length).toBe(12);
    expect(files.list().length).toBe(contents.size);
  });

  test('a short last one is refused, whatever it lacks', async () => {
    const contents = await writeLog(12, 1000, 'killed');
    const last = [...contents.keys()].filter((path) => path.endsWith('.wal')).at(-1) ?? '';
    for (const length of [0, 1, SEGMENT_HEADER_BYTES - 1, SEGMENT_HEADER_BYTES, 999]) {
      const short = changed(contents, last, (bytes) => bytes.subarray(0, length));
      expect(recovered(short)).toMatchObject({ file: last });
    }
  });
});

test('segments before a reset may go, also if a crash came before they went', async () => {
  const contents = await writeLog(12, 1000);
  const options: DurableLogOptions = { ...PLACE, thread: 'inline', segmentBytes: 1000 };
  const reset = { index: 50, term: 1 };
  let hasReset = false;
  // The first moment at which the reset is durable: nothing is removed yet.
  for (let changeCount = 0; changeCount < 30 && !hasReset; changeCount += 1) {
    const files = new MemoryLogFiles(contents);
    const { log } = await openDurableLogOn(files, '/log', options);
    files.failAfter(changeCount, new Error('power loss'));
    await log.append({ reset, entries: [] }).catch(() => {});

    const disk = files.contentsAfterPowerLoss(() => false);
    const { base, segments } = recoverLog(PLACE, new MemoryLogFiles(disk));
    hasReset = base.index === reset.index;
    const indexes = segments.slice(0, contents.size).map(({ lastIndex }) => lastIndex);
    expect(indexes.every((lastIndex) => lastIndex === 0)).toBe(hasReset);
    expect(disk.size).toBeGreaterThanOrEqual(contents.size);
  }
  expect(hasReset).toBe(true);
});

test('a log of somebody else is refused', async () => {
  const contents = await writeLog(1, 1e6);
  const files = new MemoryLogFiles(contents);
  expect(() => recoverLog({ ...PLACE, identity: 'cluster/n2' }, files)).toThrow(
    'belongs to "cluster/n1", not to "cluster/n2"',
  );
});
