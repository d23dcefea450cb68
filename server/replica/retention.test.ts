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
  retention.add(entriesOf(1, 1_000, 1));
  expect(retention.forget(1_000)).toBeUndefined();
  retention.add(entriesOf(1_001, 255, 1));
  expect(retention.forget(1_255)).toBeUndefined();
  retention.add(entriesOf(1_256, 1, 1));
  expect(retention.forget(1_256)).toBe(256);
});

test('bytes are bounded too', () => {
  const retention = new Retention({ entriesMax: 1e9, bytesMax: 8_000 });
  retention.add(entriesOf(1, 8, 1_000));
  expect(retention.forget(8)).toBeUndefined();
  retention.add(entriesOf(9, 1, 1_000));
  expect(retention.forget(9)).toBe(1);
  retention.reset();
  retention.add(entriesOf(10, 8, 1_000));
  expect(retention.forget(17)).toBeUndefined();
});

test('what is not durable in the store is kept beyond all limits', () => {
  const retention = new Retention({ entriesMax: 512, bytesMax: 1e9 });
  retention.add(entriesOf(1, 2_048, 1));
  expect(retention.forget(255)).toBeUndefined();
  expect(retention.forget(700)).toBe(512);
  expect(retention.forget(2_048)).toBe(1_536);
});
