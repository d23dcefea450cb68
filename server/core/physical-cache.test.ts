import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PhysicalCache } from './physical-cache.ts';

class Backing {
  readonly values = new Map<string, Uint8Array>();
  reads: string[] = [];
  get(key: string): Uint8Array | undefined {
    this.reads.push(key);
    return this.values.get(key);
  }
}

const LIMITS = { entriesMax: 3, bytesMax: 1000 };

describe('PhysicalCache', () => {
  test('answers from memory after the first read, absence too', () => {
    const backing = new Backing();
    backing.values.set('a', Buffer.from('1'));
    const cache = new PhysicalCache(backing, LIMITS);
    for (const key of ['a', 'a', 'b', 'b']) cache.get(key);
    expect(backing.reads).toEqual(['a', 'b']);
  });

  test('a key that appears is seen once it is invalidated', () => {
    const backing = new Backing();
    const cache = new PhysicalCache(backing, LIMITS);
    expect(cache.get('a')).toBeUndefined();
    backing.values.set('a', Buffer.from('1'));
    cache.invalidate('a');
    expect(cache.get('a')).toEqual(Buffer.from('1'));
  });

  test('what was read since the hand came by outlives what was not', () => {
    const backing = new Backing();
    const cache = new PhysicalCache(backing, LIMITS);
    for (const key of ['a', 'b', 'c', 'a', 'd', 'e']) cache.get(key);
    backing.reads = [];
    cache.get('a');
    expect(backing.reads).toEqual([]);
    expect(cache.entryCount).toBe(3);
  });

  test('a value that would fill the cache alone is not kept', () => {
    const backing = new Backing();
    backing.values.set('big', Buffer.alloc(500));
    const cache = new PhysicalCache(backing, LIMITS);
    cache.get('big');
    expect(cache.entryCount).toBe(0);
  });

  test('with every change invalidated it is never wrong, and never beyond its bounds', () => {
    const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
    const step = fc.oneof(
      fc.record({ kind: fc.constant('read' as const), key }),
      fc.record({ kind: fc.constant('put' as const), key, bytes: fc.nat(130) }),
      fc.record({ kind: fc.constant('delete' as const), key }),
      fc.record({ kind: fc.constant('clear' as const), key }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const backing = new Backing();
        const limits = { entriesMax: 4, bytesMax: 300 };
        const cache = new PhysicalCache(backing, limits);
        for (const each of steps) {
          if (each.kind === 'put') backing.values.set(each.key, Buffer.alloc(each.bytes));
          if (each.kind === 'delete') backing.values.delete(each.key);
          if (each.kind === 'clear') cache.clear();
          if (each.kind === 'put' || each.kind === 'delete') cache.invalidate(each.key);
          expect(cache.get(each.key)).toBe(backing.values.get(each.key));
          expect(cache.entryCount).toBeLessThanOrEqual(limits.entriesMax);
          expect(cache.bytes).toBeLessThanOrEqual(limits.bytesMax);
        }
      }),
    );
  });
});
