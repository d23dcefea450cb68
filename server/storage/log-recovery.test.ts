import { describe, expect, test } from 'vitest';

import type { Entry, HardState } from '../raft/message.ts';
import { openDurableLogOn } from './durable-log.ts';
import type { DurableLogOptions } from './durable-log.ts';
import { LogDamagedError, recoverLog } from './log-recovery.ts';
import { segmentPath } from './log-writer.ts';
import { MemoryLogFiles } from './memory-log-files.ts';
import { SEGMENT_HEADER_BYTES } from './segment.ts';

const HARD_STATE: HardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };
const PLACE = { directory: '/log', identity: 'cluster/n1' };
const FIRST = segmentPath('/log', 1);
const SECOND = segmentPath('/log', 2);

function entry(index: number): Entry {
  return { index, term: 1, kind: 'command', command: Buffer.from(`command ${index}`) };
}

/**
 * Writes one entry per batch, and returns the files together with where each batch of the last
 * segment ends. All segments have their final length.
 */
async function writeLog(entryCount: number, segmentBytes: number) {
  const files = new MemoryLogFiles();
  const options: DurableLogOptions = { thread: 'inline', segmentBytes, identity: PLACE.identity };
  const { log } = await openDurableLogOn(files, '/log', options);
  for (let index = 1; index <= entryCount; index += 1) {
    await log.append({ hardState: HARD_STATE, entries: [entry(index)] });
  }
  await log.close();
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

/** Where the last batch of a log with three entries begins: where one with two ends. */
async function lastBatchStart(): Promise<number> {
  return (await writeLog(2, 1e6)).get(FIRST)?.length ?? 0;
}

test('a log cut anywhere in its last batch loses exactly that batch, and goes on', async () => {
  const contents = await writeLog(3, 1e6);
  const start = await lastBatchStart();
  const length = contents.get(FIRST)?.length ?? 0;
  expect(start).toBeGreaterThan(SEGMENT_HEADER_BYTES);
  for (let end = start; end <= length; end += 1) {
    const cut = changed(contents, FIRST, (bytes) => bytes.subarray(0, end));
    expect(recovered(cut)).toBe(end === length ? '1 2 3' : '1 2');

    const files = new MemoryLogFiles(cut);
    const options: DurableLogOptions = { ...PLACE, thread: 'inline', segmentBytes: 1e6 };
    const { log } = await openDurableLogOn(files, '/log', options);
    await log.append({ entries: [entry(3)] });
    await log.close();
    expect(recovered(files.contents())).toBe('1 2 3');
  }
});

test('zeros after the last batch are no damage', async () => {
  const contents = await writeLog(3, 1e6);
  const filled = changed(contents, FIRST, (bytes) => Buffer.concat([bytes, Buffer.alloc(5000)]));
  expect(recovered(filled)).toBe('1 2 3');
});

test('a flipped bit in the last segment is refused, or takes the last batch with it', async () => {
  const contents = await writeLog(3, 1e6);
  const start = await lastBatchStart();
  const length = contents.get(FIRST)?.length ?? 0;
  for (let offset = 0; offset < length; offset += 1) {
    for (const mask of [0x01, 0x10, 0x80]) {
      const result = recovered(changed(contents, FIRST, (bytes) => flip(bytes, offset, mask)));
      const outcome = typeof result === 'string' ? result : `refused: ${result.file}`;
      expect(outcome).toBe(start <= offset ? '1 2' : `refused: ${FIRST}`);
    }
  }
});

test('a flipped bit in an earlier segment is refused', async () => {
  const contents = await writeLog(12, 1000);
  expect(contents.size).toBeGreaterThan(2);
  const length = contents.get(FIRST)?.length ?? 0;
  for (let offset = 0; offset < length; offset += 1) {
    const result = recovered(changed(contents, FIRST, (bytes) => flip(bytes, offset, 0x04)));
    expect(result).toBeInstanceOf(LogDamagedError);
  }
});

test('the error names the file and where its first invalid batch begins', async () => {
  const contents = await writeLog(3, 1e6);
  const start = (await writeLog(1, 1e6)).get(FIRST)?.length ?? 0;
  const result = recovered(changed(contents, FIRST, (bytes) => flip(bytes, start + 9, 1)));
  expect(result).toMatchObject({ file: FIRST, offset: start });
});

describe('a last batch of valid records is cut off', () => {
  test('if their order is not the one that was written', async () => {
    const contents = await writeLog(3, 1e6);
    const start = await lastBatchStart();
    const swapped = changed(contents, FIRST, (bytes) => {
      const middle = start + 8 + bytes.readUInt32LE(start);
      const end = middle + 8 + bytes.readUInt32LE(middle);
      const parts = [[0, start], [middle, end], [start, middle], [end]];
      return Buffer.concat(parts.map(([from, to]) => bytes.subarray(from, to)));
    });
    expect(recovered(swapped)).toBe('1 2');
  });

  test('if it is a copy of the one before', async () => {
    const contents = await writeLog(3, 1e6);
    const start = (await writeLog(1, 1e6)).get(FIRST)?.length ?? 0;
    const end = await lastBatchStart();
    const repeated = changed(contents, FIRST, (bytes) =>
      Buffer.concat([bytes.subarray(0, end), bytes.subarray(start, end)]),
    );
    expect(recovered(repeated)).toBe('1 2');
  });
});

describe('a last batch whose sectors reached the disk in another order', () => {
  test('is cut off if its middle is missing', async () => {
    const contents = await writeLog(3, 1e6);
    const start = await lastBatchStart();
    const torn = changed(contents, FIRST, (bytes) => bytes.fill(0, start + 4, start + 40));
    expect(recovered(torn)).toBe('1 2');
  });

  test('is refused if the one before it is missing', async () => {
    const contents = await writeLog(3, 1e6);
    const start = (await writeLog(1, 1e6)).get(FIRST)?.length ?? 0;
    const end = await lastBatchStart();
    const damaged = changed(contents, FIRST, (bytes) => bytes.fill(0, start, end));
    expect(recovered(damaged)).toMatchObject({ file: FIRST, offset: start });
  });
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

  test.each([0, 1, SEGMENT_HEADER_BYTES - 1])(
    'a last one that holds %i bytes of a header was never used',
    async (length) => {
      const contents = await writeLog(12, 1000);
      const last = segmentPath('/log', contents.size + 1);
      const header = contents.get(FIRST)?.subarray(0, length) ?? Buffer.alloc(0);
      expect(recovered(new Map(contents).set(last, header))).toBe('1 2 3 4 5 6 7 8 9 10 11 12');
    },
  );
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
