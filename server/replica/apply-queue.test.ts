import { expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { encodeCommand } from '../storage/command.ts';
import { ApplyQueue, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX } from './apply-queue.ts';

function command(index: number, value = new Uint8Array(1)): Entry {
  const operations = [{ kind: 'put', key: `k/${index}`, value } as const];
  return { index, term: 1, kind: 'command', command: encodeCommand(operations) };
}

test('groups are bounded by entries and by bytes, and keep the order', () => {
  const queue = new ApplyQueue();
  const half = new Uint8Array(GROUP_BYTES_MAX / 2);
  queue.push({ kind: 'entries', entries: [1, 2, 3].map((index) => command(index, half)) });
  queue.push({ kind: 'entries', entries: [4, 5].map((index) => command(index)) });
  const sizes: number[][] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) {
    if (job.kind === 'entries') sizes.push(job.entries.map(({ index }) => index));
  }
  expect(sizes).toEqual([[1], [2], [3, 4, 5]]);
  expect(queue.bytes).toBe(0);

  const many = Array.from({ length: GROUP_ENTRIES_MAX + 1 }, (_, i) => command(1 + i));
  queue.push({ kind: 'entries', entries: many });
  const first = queue.take();
  expect(first?.kind === 'entries' && first.entries.length).toBe(GROUP_ENTRIES_MAX);
  expect(queue.isEmpty).toBe(false);
});
