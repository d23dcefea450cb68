import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { RadixTree } from './radix-tree.ts';

test('collect() finds exactly the keys that a path begins with, shortest first', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 6 });
  fc.assert(
    fc.property(fc.array(text, { maxLength: 20 }), text, (keys, path) => {
      const tree = new RadixTree<string>();
      for (const key of keys) tree.set(key, key);
      for (const key of keys) expect(tree.get(key)).toBe(key);
      const found: string[] = [];
      const count = tree.collect(path, found);
      const expected = [...new Set(keys)].filter((key) => path.startsWith(key));
      expect(found.slice(0, count)).toEqual(expected.toSorted((x, y) => x.length - y.length));
      const all: string[] = [];
      tree.forEach((value) => all.push(value));
      expect(all.toSorted()).toEqual([...new Set(keys)].toSorted());
      expect(tree.get(path)).toBe(keys.includes(path) ? path : undefined);
    }),
    { numRuns: 1000 },
  );
});
