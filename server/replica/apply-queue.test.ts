import { expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { CHUNK_BYTES, splitCommand } from '../storage/chunking.ts';
import { ApplyQueue, GROUP_ENTRIES_MAX } from './apply-queue.ts';

const large = Buffer.alloc(5 * CHUNK_BYTES, 1);
const small = Buffer.of(1);

function entriesOf(firstIndex: number, term: number, commands: readonly Uint8Array[]): Entry[] {
  return commands.map((command, offset) => ({
    ...{ index: firstIndex + offset, term, kind: 'command' as const, command },
  }));
}

/** The indexes of each group that can be taken. */
function groups(queue: ApplyQueue): number[][] {
  const taken: number[][] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) {
    taken.push(job.kind === 'entries' ? job.entries.map(({ index }) => index) : []);
  }
  return taken;
}

test('the chunks of a command wait for the last one, and are one group', () => {
  const queue = new ApplyQueue();
  const chunks = entriesOf(2, 1, splitCommand(large));
  queue.push({ kind: 'entries', entries: entriesOf(1, 1, [small]) });
  for (const entry of chunks.slice(0, 4)) {
    queue.push({ kind: 'entries', entries: [entry] });
    expect(queue.take()?.kind).toBe(entry.index === 2 ? 'entries' : undefined);
  }
  expect(queue.bytes).toBe(4 * (CHUNK_BYTES + 9));
  queue.push({ kind: 'entries', entries: [...chunks.slice(4), ...entriesOf(7, 1, [small])] });
  // More than a group may have otherwise, and still one.
  expect(groups(queue)).toEqual([[2, 3, 4, 5, 6], [7]]);
  expect(queue.bytes).toBe(0);
});

test('what an unfinished command left waits no longer than for the next leader', () => {
  const queue = new ApplyQueue();
  queue.push({ kind: 'entries', entries: entriesOf(1, 1, splitCommand(large).slice(0, 3)) });
  expect(queue.take()).toBeUndefined();
  queue.push({ kind: 'entries', entries: entriesOf(4, 2, [small]) });
  expect(groups(queue).flat()).toEqual([1, 2, 3, 4]);
});

test('a snapshot replaces what waited for its rest', () => {
  const queue = new ApplyQueue();
  queue.push({ kind: 'entries', entries: entriesOf(1, 1, splitCommand(large).slice(0, 3)) });
  const snapshot = { lastIncludedIndex: 9, lastIncludedTerm: 2, configuration: { servers: [] } };
  async function* chunks(): AsyncGenerator<Uint8Array> {}
  queue.push({ kind: 'snapshot', snapshot, chunks: chunks(), done: () => undefined });
  queue.push({ kind: 'entries', entries: entriesOf(10, 2, [small]) });
  expect(groups(queue)).toEqual([[], [10]]);
  expect(queue.bytes).toBe(0);
});

test('groups are bounded by count and bytes', () => {
  const queue = new ApplyQueue();
  const many = Array.from({ length: GROUP_ENTRIES_MAX + 10 }, () => small);
  queue.push({ kind: 'entries', entries: entriesOf(1, 1, many) });
  const halves = Array.from({ length: 4 }, () => Buffer.alloc(400 * 1024, 1));
  queue.push({ kind: 'entries', entries: entriesOf(many.length + 1, 1, halves) });
  expect(groups(queue).map(({ length }) => length)).toEqual([GROUP_ENTRIES_MAX, 12, 2]);
});
