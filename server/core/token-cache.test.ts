import { expect, test } from 'vitest';
import type { TokenEntry } from './backend.ts';
import { TokenCache } from './token-cache.ts';

function entry(id: string): TokenEntry {
  return {
    id,
    accessor: '',
    namespaceId: 'root',
    type: 'service',
    policies: [],
    path: '',
    meta: null,
    displayName: '',
    parent: '',
    orphan: true,
    numUses: 0,
    creationTimeMs: 0,
    creationTtlSeconds: 0,
    explicitMaxTtlSeconds: 0,
    periodSeconds: 0,
    renewable: false,
    lastRenewalMs: null,
    expireTimeMs: null,
  };
}

test('the oldest entry makes room for the newest', () => {
  const cache = new TokenCache(2);
  for (const id of ['a', 'b', 'c']) cache.set(entry(id), `salted-${id}`);
  expect(['a', 'b', 'c'].map((id) => cache.get(id)?.id)).toEqual([undefined, 'b', 'c']);
  cache.forgetSaltedId('salted-a');
  expect(cache.size).toBe(2);
});

test('an entry is forgotten by its salted id', () => {
  const cache = new TokenCache(2);
  cache.set(entry('a'), 'x');
  cache.set(entry('b.batch'), undefined);
  cache.forgetSaltedId('x');
  expect([cache.get('a'), cache.get('b.batch')?.id]).toEqual([undefined, 'b.batch']);
  cache.clear();
  expect(cache.size).toBe(0);
});

test('writing an entry again does not push out another', () => {
  const cache = new TokenCache(2);
  cache.set(entry('a'), 'x');
  cache.set(entry('b'), 'y');
  cache.set(entry('b'), 'y');
  expect(cache.get('a')?.id).toBe('a');
});
