import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import {
  applicableCount,
  CHUNK_BYTES,
  chunkCount,
  commandAt,
  continuesSequence,
  splitCommand,
} from './chunking.ts';

const large = randomBytes(3 * CHUNK_BYTES - 7);
large[0] = 1;
const small = Buffer.of(1, 2, 3);

/** Entries of one term each, from index 1 on. */
function logOf(...runs: (readonly [term: number, commands: readonly Uint8Array[]])[]): Entry[] {
  const entries = runs.flatMap(([term, commands]) =>
    commands.map((command) => ({ term, kind: 'command' as const, command })),
  );
  return entries.map((entry, position) => ({ index: position + 1, ...entry }));
}

function effects(entries: readonly Entry[]): (string | undefined)[] {
  return entries.map((_, position) => {
    const command = commandAt(entries, position);
    if (command === undefined) return undefined;
    return Buffer.from(command).equals(large) ? 'large' : `${command.length} bytes`;
  });
}

const chunks = splitCommand(large);

test.each([
  [1, 1],
  [CHUNK_BYTES, 1],
  [CHUNK_BYTES + 1, 2],
  [2 * CHUNK_BYTES, 2],
  [8 * 1024 * 1024, 16],
])('a command of %d bytes is %d entries', (bytes, count) => {
  const command = Buffer.alloc(bytes, 1);
  const entries = splitCommand(command);
  expect(entries).toHaveLength(count);
  expect(chunkCount(command)).toBe(count);
  expect(Math.max(...entries.map(({ length }) => length))).toBeLessThanOrEqual(CHUNK_BYTES + 9);
});

describe('what takes effect', () => {
  const rows = {
    'a whole sequence, at its last chunk': {
      entries: logOf([1, [small, ...chunks, small]]),
      expected: ['3 bytes', undefined, undefined, 'large', '3 bytes'],
    },
    'two sequences behind each other': {
      entries: logOf([1, [...chunks, ...chunks]]),
      expected: [undefined, undefined, 'large', undefined, undefined, 'large'],
    },
    'nothing of one whose leader fell before its end': {
      entries: logOf([1, chunks.slice(0, 2)], [2, [small]]),
      expected: [undefined, undefined, '3 bytes'],
    },
    'nothing of one that goes on in another term': {
      entries: logOf([1, chunks.slice(0, 2)], [2, chunks.slice(2)]),
      expected: [undefined, undefined, undefined],
    },
    'the one that is proposed anew by the next leader': {
      entries: logOf([1, chunks.slice(0, 2)], [2, chunks]),
      expected: [undefined, undefined, undefined, undefined, 'large'],
    },
    'nothing of one whose beginning is not here': {
      entries: logOf([1, chunks.slice(1)]),
      expected: [undefined, undefined],
    },
    'nothing of one that is interrupted within its term': {
      entries: logOf([1, [...chunks.slice(0, 2), small, ...chunks.slice(2)]]),
      expected: [undefined, undefined, '3 bytes', undefined],
    },
    'nothing of chunks of different commands': {
      entries: logOf([1, [chunks[0] ?? small, ...splitCommand(Buffer.alloc(CHUNK_BYTES * 2, 1))]]),
      expected: [undefined, undefined, '1048576 bytes'],
    },
  };
  test.each(Object.entries(rows))('%s', (_name, { entries, expected }) => {
    expect(effects(entries)).toEqual(expected);
  });
});

describe('what can be applied yet', () => {
  const rows = [
    { entries: logOf([1, [small, small]]), expected: 2 },
    { entries: logOf([1, [small, ...chunks]]), expected: 4 },
    { entries: logOf([1, [small, ...chunks.slice(0, 2)]]), expected: 1 },
    { entries: logOf([1, chunks.slice(0, 1)]), expected: 0 },
    { entries: logOf([1, chunks.slice(0, 2)], [2, [small]]), expected: 3 },
    { entries: logOf([1, chunks.slice(0, 2)], [2, chunks.slice(0, 2)]), expected: 2 },
    { entries: logOf([1, chunks.slice(1, 2)]), expected: 1 },
    { entries: [], expected: 0 },
  ];
  test.each(rows)('$expected of $entries.length', ({ entries, expected }) => {
    expect(applicableCount(entries)).toBe(expected);
  });
});

test('however a log is cut into groups that can be applied, the same takes effect', () => {
  const entries = logOf([1, [small, ...chunks, small, ...chunks.slice(0, 2)]], [3, [...chunks]]);
  const whole = effects(entries);
  for (let size = 1; size <= entries.length; size += 1) {
    const seen: (string | undefined)[] = [];
    let waiting: Entry[] = [];
    for (let start = 0; start < entries.length; start += size) {
      waiting.push(...entries.slice(start, start + size));
      const count = applicableCount(waiting);
      const group = waiting.slice(0, count);
      expect(group[0] === undefined || !continuesSequence(group[0])).toBe(true);
      seen.push(...effects(group));
      waiting = waiting.slice(count);
    }
    expect(seen).toEqual(whole);
  }
});

test('a damaged chunk is refused', () => {
  expect(() => applicableCount(logOf([1, [Buffer.of(192, 0, 0)]]))).toThrow('Cannot decode chunk');
  const beyond = Buffer.from(chunks[0] ?? []);
  beyond.writeUInt32LE(3, 1);
  expect(() => applicableCount(logOf([1, [beyond]]))).toThrow('Cannot decode chunk');
});
