import { describe, expect, test } from 'vitest';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import {
  UnsealProgress,
  createKey,
  deriveKey,
  readRootKey,
  rootKeyOperation,
  splitKey,
  validateSealConfig,
} from './seal.ts';

describe('validateSealConfig()', () => {
  const rows: readonly [number, number, string | undefined][] = [
    [1, 1, undefined],
    [5, 3, undefined],
    [255, 255, undefined],
    [0, 1, 'shares must be at least one'],
    [1, 0, 'threshold must be at least one'],
    [2, 1, 'threshold must be greater than one for multiple shares'],
    [3, 4, 'threshold cannot be larger than shares'],
    [256, 3, 'shares must be less than 256'],
    [1.5, 1, 'shares must be at least one'],
  ];
  test.each(rows)('%s shares, threshold %s: %s', (secretShares, secretThreshold, error) => {
    let message: string | undefined;
    try {
      validateSealConfig({ secretShares, secretThreshold });
    } catch (refusal) {
      message = refusal instanceof Error ? refusal.message : String(refusal);
    }
    expect(message).toBe(error && `invalid seal configuration: ${error}`);
  });
});

describe('shares', () => {
  const configs = [
    { secretShares: 1, secretThreshold: 1 },
    { secretShares: 2, secretThreshold: 2 },
    { secretShares: 5, secretThreshold: 3 },
  ];
  test.each(configs)(
    'any $secretThreshold of $secretShares, in any order, give the key',
    async (config) => {
      const key = createKey();
      const shares = await splitKey(key, config);
      expect(shares).toHaveLength(config.secretShares);
      for (const order of [shares, shares.toReversed()]) {
        const progress = new UnsealProgress();
        const results = [];
        for (const share of order.slice(0, config.secretThreshold)) {
          results.push(await progress.add(share, config));
        }
        expect(results.at(-1)).toEqual(key);
        expect(results.slice(0, -1).every((result) => result === undefined)).toBe(true);
        expect(progress.shareCount).toBe(0);
        expect(progress.nonce).toBe('');
      }
    },
  );

  test('the same share twice counts once', async () => {
    const config = { secretShares: 3, secretThreshold: 2 };
    const [first, second] = await splitKey(createKey(), config);
    const progress = new UnsealProgress();
    await progress.add(first ?? Buffer.alloc(0), config);
    const { nonce } = progress;
    expect(await progress.add(first ?? Buffer.alloc(0), config)).toBeUndefined();
    expect(progress.shareCount).toBe(1);
    expect(progress.nonce).toBe(nonce);
    expect(await progress.add(second ?? Buffer.alloc(0), config)).toBeDefined();
  });

  const refused: readonly [string, Buffer[], string][] = [
    ['too short', [Buffer.alloc(15)], 'invalid key: key is shorter than minimum 16 bytes'],
    ['too long', [Buffer.alloc(34)], 'invalid key: key is longer than maximum 33 bytes'],
    [
      'of different lengths',
      [Buffer.alloc(33, 1), Buffer.alloc(20, 2)],
      'invalid key: failed to compute combined key',
    ],
    [
      'with the same coordinate',
      [Buffer.alloc(33, 1), Buffer.concat([Buffer.alloc(32, 2), Buffer.from([1])])],
      'invalid key: failed to compute combined key',
    ],
  ];
  test.each(refused)(
    '%s: refused, and the next attempt is a new one',
    async (_, shares, message) => {
      const config = { secretShares: 3, secretThreshold: 2 };
      const progress = new UnsealProgress();
      const add = async (): Promise<void> => {
        for (const share of shares) await progress.add(share, config);
      };
      await expect(add()).rejects.toMatchObject({ code: 'invalid-request' });
      await expect(add()).rejects.toThrow(message);
      expect(progress.shareCount).toBe(0);
    },
  );
});

describe('root key', () => {
  test('opens with the unseal key only', async () => {
    const node = createMemoryCluster().leader();
    const unsealKey = createKey();
    const rootKey = createKey();
    expect(() => readRootKey(node.physical, unsealKey)).toThrow('Vault is not initialized');
    await node.physical.write([rootKeyOperation(unsealKey, rootKey)]);
    expect(readRootKey(node.physical, unsealKey)).toEqual(rootKey);
    for (const wrong of [createKey(), unsealKey.subarray(0, 16)]) {
      expect(() => readRootKey(node.physical, wrong)).toThrow('Unseal failed, invalid key');
    }
  });

  test('keys derived for different purposes differ, and are the same on every node', () => {
    const unsealKey = createKey();
    expect(deriveKey(unsealKey, 'a')).toEqual(deriveKey(unsealKey, 'a'));
    expect(deriveKey(unsealKey, 'a')).not.toEqual(deriveKey(unsealKey, 'b'));
    expect(deriveKey(unsealKey, 'a')).not.toEqual(unsealKey);
  });
});
