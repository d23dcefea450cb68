import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { createMemoryCluster } from '../testing/memory-physical.ts';
import { Barrier } from './barrier.ts';
import { OpenedValues } from './opened-values.ts';
import { PhysicalCache } from './physical-cache.ts';

const sealed = Buffer.from('sealed');
const plaintext = Buffer.from('plaintext');

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('finds what was opened, for the same ciphertext object and path', () => {
  const opened = new OpenedValues();
  opened.remember('a', sealed, plaintext);
  expect(opened.get('a', sealed)).toBe(plaintext);
  expect(opened.get('b', sealed)).toBeUndefined();
  expect(opened.get('a', Buffer.from('sealed'))).toBeUndefined();
});

test('uses a value for a second at least and two at most, each for its own time', () => {
  const opened = new OpenedValues();
  const values = Array.from({ length: 50 }, (_, index) => Buffer.from(`sealed ${index}`));
  for (const value of values) opened.remember('a', value, plaintext);
  const known = () => values.filter((value) => opened.get('a', value) !== undefined).length;
  vi.advanceTimersByTime(999);
  expect(known()).toBe(values.length);
  vi.advanceTimersByTime(500);
  expect(known()).toBeGreaterThan(10);
  expect(known()).toBeLessThan(40);
  vi.advanceTimersByTime(501);
  expect(known()).toBe(0);
});

test('has no timer left four seconds after the last value', () => {
  const opened = new OpenedValues();
  opened.remember('a', sealed, plaintext);
  vi.advanceTimersByTime(3_000);
  opened.remember('b', Buffer.from('other'), plaintext);
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(4_000);
  expect(vi.getTimerCount()).toBe(0);
});

test('never answers with an old value, and with none once the barrier is sealed', async () => {
  const node = createMemoryCluster().leader();
  const cache = new PhysicalCache(node.physical, { entriesMax: 10, bytesMax: 10_000 });
  node.changeFeed.subscribe((change) => {
    if (change.kind === 'keys') for (const key of change.keys) cache.invalidate(key);
  });
  const barrier = new Barrier(node.physical, cache);
  barrier.initialize(Buffer.alloc(32, 7), 0);
  barrier.setReadOnly(false);

  for (const value of ['one', 'two']) {
    await barrier.put('a', Buffer.from(value));
    expect(barrier.get('a')?.toString()).toBe(value);
    expect(barrier.get('a')?.toString()).toBe(value);
  }
  await barrier.delete('a');
  expect(barrier.get('a')).toBeUndefined();

  await barrier.put('a', Buffer.from('three'));
  barrier.get('a');
  barrier.seal();
  expect(() => barrier.get('a')).toThrow('Vault is sealed');
});
