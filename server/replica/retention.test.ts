import { expect, test } from 'vitest';
import type { Entry } from '../raft/message.ts';
import { Retention } from './retention.ts';

function entriesOf(first: number, count: number, bytes: number): Entry[] {
  return Array.from({ length: count }, (_, offset) => ({
    index: first + offset,
    term: 1,
    kind: 'command',
    command: Buffer.alloc(bytes),
  }));
}

test('at least the wanted number of entries is kept, in steps', () => {
  const retention = new Retention({ entriesMax: 1_000, bytesMax: 1e9 });
  expect(retention.add(entriesOf(1, 1_000, 1))).toBeUndefined();
  expect(retention.add(entriesOf(1_001, 255, 1))).toBeUndefined();
  expect(retention.add(entriesOf(1_256, 1, 1))).toBe(256);
});

test('bytes are bounded too', () => {
  const retention = new Retention({ entriesMax: 1e9, bytesMax: 8_000 });
  expect(retention.add(entriesOf(1, 8, 1_000))).toBeUndefined();
  expect(retention.add(entriesOf(9, 1, 1_000))).toBe(1);
  retention.reset();
  expect(retention.add(entriesOf(10, 8, 1_000))).toBeUndefined();
});
