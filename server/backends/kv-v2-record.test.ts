import { describe, expect, test } from 'vitest';
import type { KeyMetadata } from './kv-v2-record.ts';
import {
  METADATA_PREFIX,
  addVersion,
  newKeyMetadata,
  putKeyMetadata,
  readConfiguration,
  readKeyMetadata,
} from './kv-v2-record.ts';
import { createMemoryView } from './testing/memory-view.ts';

const FAR_MS = 1_700_000_000_000 + 9_223_372_036 * 1000;

describe('metadata of a key', () => {
  test.each<[string, Partial<KeyMetadata>]>([
    ['is new', {}],
    ['has text', { customMetadata: { é: '\u{1F600}', __proto__x: '' } }],
    ['is tuned', { maxVersions: 3, casRequired: true, deleteVersionAfterSeconds: 5 }],
    [
      'has versions',
      {
        currentVersion: 2 ** 40,
        oldestVersion: 9,
        versions: {
          9: { createdMs: 1, deletionMs: null, destroyed: true },
          10: { createdMs: 1_700_000_000_000, deletionMs: FAR_MS, destroyed: false },
          [2 ** 40]: { createdMs: 2, deletionMs: 3, destroyed: true },
        },
      },
    ],
  ])('that %s is read as it was written', async (_, fields) => {
    const view = createMemoryView();
    const metadata = { ...newKeyMetadata(7), ...fields };
    await view.write([putKeyMetadata('a', metadata)]);
    expect(readKeyMetadata(view, 'a')).toEqual(metadata);
  });

  test('that lacks the end of an entry is not read', async () => {
    const view = createMemoryView();
    const { metadata } = addVersion(newKeyMetadata(7), readConfiguration(view), 7);
    await view.write([putKeyMetadata('a', metadata)]);
    const record = view.get(`${METADATA_PREFIX}a`) ?? new Uint8Array();
    await view.put(`${METADATA_PREFIX}a`, record.subarray(0, -1));
    expect(() => readKeyMetadata(view, 'a')).toThrow('half an entry');
  });
});
