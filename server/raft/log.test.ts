import { describe, expect, test } from 'vitest';

import { Log } from './log.ts';
import type { Entry } from './message.ts';

/** Entries with the given terms, from `firstIndex` on. */
function entries(firstIndex: number, ...terms: number[]): Entry[] {
  return terms.map((term, offset) => ({
    index: firstIndex + offset,
    term,
    kind: 'command',
    command: new Uint8Array(10),
  }));
}

/** A log of the given terms, all durable; nothing committed. */
function logOf(...terms: number[]): Log {
  return new Log({
    snapshotIndex: 0,
    snapshotTerm: 0,
    entries: entries(1, ...terms),
    appliedIndex: 0,
    commitIndex: 0,
  });
}

function termsOf(log: Log): (number | undefined)[] {
  return Array.from({ length: log.lastIndex }, (_, position) => log.termAt(position + 1));
}

function snapshotAt(lastIncludedIndex: number, lastIncludedTerm: number) {
  return { lastIncludedIndex, lastIncludedTerm, configuration: { servers: [] } };
}

test.each([
  { name: 'nothing', log: [1, 2, 3], arrived: entries(4), result: [1, 2, 3] },
  { name: 'what is held', log: [1, 2, 3], arrived: entries(1, 1, 2), result: [1, 2, 3] },
  { name: 'the next', log: [1, 2, 3], arrived: entries(4, 4, 4), result: [1, 2, 3, 4, 4] },
  { name: 'an overlap', log: [1, 2, 3], arrived: entries(2, 2, 3, 4), result: [1, 2, 3, 4] },
  { name: 'a conflict', log: [1, 2, 2], arrived: entries(2, 3), result: [1, 3] },
  { name: 'a late conflict', log: [1, 1, 1], arrived: entries(2, 1, 4, 4), result: [1, 1, 4, 4] },
])('splice() of $name', ({ log: held, arrived, result }) => {
  const log = logOf(...held);
  log.splice(arrived);
  expect(termsOf(log)).toEqual(result);
});

test.each([
  {
    name: 'a committed entry changed',
    message: 'would change a committed entry',
    run: (log: Log) => log.splice(entries(1, 2)),
  },
  { name: 'a gap', message: 'would leave a gap', run: (log: Log) => log.splice(entries(5, 3)) },
  {
    name: 'terms that decrease',
    message: 'terms decrease',
    run: (log: Log) => log.append(entries(4, 1)),
  },
  {
    name: 'a commit beyond the log',
    message: 'beyond the log',
    run: (log: Log) => log.commitTo(4),
  },
  {
    name: 'applied before handed out',
    message: 'more than was handed out',
    run: (log: Log) => log.applyTo(2),
  },
  { name: 'compaction before applied', message: 'not applied', run: (log: Log) => log.compact(2) },
  {
    name: 'an older snapshot',
    message: 'older than what is committed',
    run: (log: Log) => log.restore(snapshotAt(1, 1)),
  },
  { name: 'a report of no write', message: 'not under way', run: (log: Log) => log.endWrite(1) },
])('an assertion stops $name', ({ message, run }) => {
  const log = logOf(1, 2, 2);
  log.commitTo(1);
  expect(() => run(log)).toThrow(message);
});

test.each([
  { last: [3, 2], isUpToDate: true },
  { last: [4, 2], isUpToDate: true },
  { last: [2, 2], isUpToDate: false },
  { last: [1, 3], isUpToDate: true },
  { last: [9, 1], isUpToDate: false },
])('isUpToDate() of $last is $isUpToDate (Raft §5.4.1)', ({ last, isUpToDate }) => {
  const [lastLogIndex = 0, lastLogTerm = 0] = last;
  expect(logOf(1, 2, 2).isUpToDate({ lastLogIndex, lastLogTerm })).toBe(isUpToDate);
});

test.each([
  { index: 5, term: 9, found: 5 },
  { index: 9, term: 4, found: 5 },
  { index: 5, term: 3, found: 3 },
  { index: 5, term: 2, found: 2 },
  { index: 2, term: 5, found: 2 },
  { index: 5, term: 0, found: 0 },
])('lastIndexWithTermAtMost($index, $term) is $found', ({ index, term, found }) => {
  expect(logOf(1, 2, 3, 4, 4).lastIndexWithTermAtMost(index, term)).toBe(found);
});

test.each([
  { bytesMax: 1, count: 1 },
  { bytesMax: 31, count: 1 },
  { bytesMax: 61, count: 1 },
  { bytesMax: 62, count: 2 },
  { bytesMax: 1000, count: 3 },
])('batch() takes $count entries of 31 bytes into $bytesMax', ({ bytesMax, count }) => {
  expect(logOf(1, 1, 1).batch(0, bytesMax).entries).toHaveLength(count);
});

describe('durability', () => {
  test('follows the writes in their order', () => {
    const log = logOf(1);
    log.append(entries(2, 1));
    expect(log.beginWrite(1).entries).toEqual(entries(2, 1));
    log.append(entries(3, 1));
    expect(log.beginWrite(2).entries).toEqual(entries(3, 1));
    expect(log.durableIndex).toBe(1);
    expect(() => log.endWrite(2)).toThrow('order');
  });

  test('is lowered by a truncation, and not raised by the write that it overtook', () => {
    const log = logOf(1);
    log.splice(entries(2, 1, 1));
    log.beginWrite(1);
    log.splice(entries(2, 2));
    log.beginWrite(2);
    log.endWrite(1);
    expect(log.durableIndex).toBe(1);
    log.endWrite(2);
    expect(log.durableIndex).toBe(2);
  });

  test('is lost at once for what was durable and is replaced', () => {
    const log = logOf(1, 1, 1);
    log.splice(entries(3, 2));
    expect(log.durableIndex).toBe(2);
  });

  test('is needed before a committed entry is handed out', () => {
    const log = logOf(1);
    log.append(entries(2, 1));
    log.beginWrite(1);
    log.commitTo(2);
    expect(log.takeCommitted()).toHaveLength(1);
    log.endWrite(1);
    expect(log.takeCommitted().map((entry) => entry.index)).toEqual([2]);
    expect(log.hasToApply).toBe(false);
  });
});

describe('a snapshot', () => {
  test('replaces the log, and counts as applied when it is durable', () => {
    const log = logOf(1, 1);
    log.restore(snapshotAt(5, 3));
    expect(log.isInstallingSnapshot).toBe(true);
    expect(log.durableIndex).toBe(0);
    log.append(entries(6, 3));
    const { snapshot, entries: written } = log.beginWrite(1);
    expect(snapshot?.lastIncludedIndex).toBe(5);
    expect(written).toEqual(entries(6, 3));
    log.commitTo(6);
    expect(log.takeCommitted()).toEqual([]);
    log.endWrite(1);
    expect(log.appliedIndex).toBe(5);
    expect(log.durableIndex).toBe(6);
    expect(log.takeCommitted().map((entry) => entry.index)).toEqual([6]);
  });

  test('that a newer one overtakes is not the end of the installation', () => {
    const log = logOf(1);
    log.restore(snapshotAt(5, 3));
    log.beginWrite(1);
    log.restore(snapshotAt(9, 3));
    log.beginWrite(2);
    log.endWrite(1);
    expect(log.isInstallingSnapshot).toBe(true);
    log.endWrite(2);
    expect(log.appliedIndex).toBe(9);
  });

  test('makes reports of older entries void', () => {
    const log = logOf(1, 1);
    log.commitTo(2);
    log.takeCommitted();
    log.restore(snapshotAt(5, 3));
    log.beginWrite(1);
    log.endWrite(1);
    log.applyTo(2);
    expect(log.appliedIndex).toBe(5);
  });
});

test('compact() keeps the term of the last entry it removes', () => {
  const log = logOf(1, 2, 3);
  log.commitTo(3);
  log.takeCommitted();
  log.applyTo(2);
  log.compact(2);
  expect(log.firstIndex).toBe(3);
  expect([1, 2, 3, 4].map((index) => log.termAt(index))).toEqual([undefined, 2, 3, undefined]);
  expect(() => log.slice(1, 3)).toThrow('compacted');
  log.compact(1);
  expect(log.firstIndex).toBe(3);
});

test('a recovered log knows that all its configurations but the last are committed', () => {
  const log = new Log({
    snapshotIndex: 0,
    snapshotTerm: 0,
    entries: entries(1, 1, 1, 1, 1).map((entry) => ({
      ...entry,
      kind: entry.index % 2 === 0 ? 'configuration' : 'command',
    })),
    appliedIndex: 0,
    commitIndex: 1,
  });
  expect(log.commitIndex).toBe(2);
  expect(log.hasUnappliedConfiguration()).toBe(true);
});

test('a commit hint beyond the log, whose entries a crash took, is cut', () => {
  const log = new Log({
    snapshotIndex: 0,
    snapshotTerm: 0,
    entries: entries(1, 1),
    appliedIndex: 0,
    commitIndex: 7,
  });
  expect(log.commitIndex).toBe(1);
});
