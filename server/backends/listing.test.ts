import {
  array,
  assert as assertProperty,
  asyncProperty,
  constantFrom,
  integer,
  uniqueArray,
} from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkSecretPath, scanKeys } from './listing.ts';
import { compareBytes, createMemoryView } from './testing/memory-view.ts';

const ALL = { after: '', limit: 0 };

describe('a scan', () => {
  test('finds every key below a prefix, in byte order', async () => {
    const view = createMemoryView();
    const keys = ['a', 'a-b', 'a/b', 'a/c/d', 'a0', 'z', 'é/x'];
    for (const key of keys) await view.put(`p/${key}`, Buffer.from('{}'));
    await view.put('other', Buffer.from('{}'));
    expect(await scanKeys(view, 'p/', ALL)).toEqual(keys);
    expect(await scanKeys(view, 'p/a/', ALL)).toEqual(['b', 'c/d']);
    expect(await scanKeys(view, 'none/', ALL)).toEqual([]);
  });

  test('in pages is the scan at once, whatever the keys are', async () => {
    const segment = constantFrom('a', 'b', 'a-', 'a0', '0', 'é');
    const key = array(segment, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
    const property = asyncProperty(
      uniqueArray(key, { maxLength: 20 }),
      integer({ min: 1, max: 5 }),
      async (keys, limit) => {
        const view = createMemoryView();
        await view.write(keys.map((each) => ({ kind: 'put', key: each, value: Buffer.of(1) })));
        const sorted = keys.toSorted(compareBytes);
        const paged: string[] = [];
        for (;;) {
          const page = await scanKeys(view, '', { after: paged.at(-1) ?? '', limit });
          if (page.length === 0) break;
          expect(page.length).toBeLessThanOrEqual(limit);
          paged.push(...page);
        }
        expect(await scanKeys(view, '', ALL)).toEqual(sorted);
        expect(paged).toEqual(sorted);
      },
    );
    await assertProperty(property, { numRuns: 60, seed: 7 });
  });
});

test.each([
  ['', 'missing path'],
  ['a/', "cannot write to a path ending in '/'"],
  ['a'.repeat(32_769), 'path is too long; the limit is 32768 bytes'],
])('%# is no name of a secret', (path, message) => {
  expect(() => checkSecretPath(path)).toThrow(message);
});
