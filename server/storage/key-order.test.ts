import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { childOf, compareKeys, keyAfterChild } from './key-order.ts';

const keys = fc.string({
  unit: fc.constantFrom('a', 'b', '/', '-', '0', '\u0000', 'é', '\ue000', '\uffff', '😀'),
  maxLength: 6,
});

test('keys are ordered by their UTF-8 bytes', () => {
  fc.assert(
    fc.property(keys, keys, (a, b) => {
      const expected = Buffer.compare(Buffer.from(a), Buffer.from(b));
      expect(Math.sign(compareKeys(a, b))).toBe(expected);
    }),
  );
});

test('a key is before the key after a child exactly if it is the child, below it, or earlier', () => {
  fc.assert(
    fc.property(keys, keys, (a, b) => {
      const child = childOf('', a);
      const isBefore = compareKeys(b, keyAfterChild('', child)) < 0;
      expect(isBefore).toBe(childOf('', b) === child || compareKeys(b, child) < 0);
    }),
  );
});
