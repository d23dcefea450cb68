import { expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { CHUNK_BYTES, splitCommand } from '../storage/chunking.ts';
import { HandOut } from './hand-out.ts';

const LIMITS = { windowBytes: 1_000, backlogBytesMax: 3_000 };

/** Each takes 164 bytes of a window, so that six fit. */
function entries(first: number, last: number, bytes = 100): Entry[] {
  return Array.from({ length: last - first + 1 }, (_, offset) => ({
    index: first + offset,
    term: 1,
    kind: 'command',
    command: new Uint8Array(bytes),
  }));
}

function start(): { handOut: HandOut; sent: number[][] } {
  const sent: number[][] = [];
  const handOut = new HandOut(LIMITS, (group) => sent.push(group.map((entry) => entry.index)));
  return { handOut, sent };
}

test('what fits goes at once, and the rest when something was applied', () => {
  const { handOut, sent } = start();
  handOut.add(entries(1, 4));
  handOut.add(entries(5, 8));
  expect(sent).toEqual([
    [1, 2, 3, 4],
    [5, 6],
  ]);
  const indexes = handOut.applied(3).map((entry) => entry.index);
  expect(indexes).toEqual([1, 2, 3]);
  expect(sent.at(-1)).toEqual([7, 8]);
  expect(handOut.applied(8).map((entry) => entry.index)).toEqual([4, 5, 6, 7, 8]);
  expect(handOut.applied(8)).toEqual([]);
});

test('an entry larger than the window goes alone', () => {
  const { handOut, sent } = start();
  handOut.add(entries(1, 2, 5_000));
  expect(sent).toEqual([[1]]);
  handOut.applied(1);
  expect(sent).toEqual([[1], [2]]);
});

test('the chunks of a command go together, or none of them would ever be applied', () => {
  const { handOut, sent } = start();
  const commands = splitCommand(new Uint8Array(3 * CHUNK_BYTES));
  const chunks = commands.map((command, offset) => ({ ...entries(2, 4)[offset], command }));
  handOut.add(entries(1, 1));
  handOut.add(chunks as Entry[]);
  handOut.add(entries(5, 5));
  expect(sent).toEqual([[1]]);
  handOut.applied(1);
  expect(sent).toEqual([[1], [2, 3, 4]]);
});

test('backlogged at the limit, and not any more when enough was applied', () => {
  const { handOut } = start();
  handOut.add(entries(1, 18));
  expect(handOut.isBacklogged()).toBe(false);
  handOut.add(entries(19, 19));
  expect(handOut.isBacklogged()).toBe(true);
  handOut.applied(1);
  expect(handOut.isBacklogged()).toBe(false);
});
