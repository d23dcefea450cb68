import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { KEY_BYTES_MAX, decodeCommand, encodeCommand } from './command.ts';
import type { StoreOperation } from './store.ts';

const keys = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 });
const values = fc.uint8Array({ maxLength: 50 });
const operations = fc.array(
  fc.oneof(
    fc.tuple(keys, values).map(([key, value]): StoreOperation => ({ kind: 'put', key, value })),
    keys.map((key): StoreOperation => ({ kind: 'delete', key })),
  ),
  { maxLength: 6 },
);

function plain(list: readonly StoreOperation[]) {
  return list.map((operation) =>
    operation.kind === 'put'
      ? { ...operation, value: Buffer.from(operation.value).toString('hex') }
      : operation,
  );
}

test('decodeCommand() reads back what encodeCommand() wrote', () => {
  fc.assert(
    fc.property(operations, (list) => {
      expect(plain(decodeCommand(encodeCommand(list)))).toEqual(plain(list));
    }),
  );
});

test('the bytes of a command are fixed', () => {
  const bytes = encodeCommand([
    { kind: 'put', key: 'a/b', value: Buffer.from('xy') },
    { kind: 'delete', key: 'c' },
  ]);
  expect(Buffer.from(bytes).toString('hex')).toBe(
    '01 02000000 01 0300 612f62 02000000 7879 02 0100 63'.replaceAll(' ', ''),
  );
});

describe('encodeCommand() refuses a key', () => {
  const rows: [string, string][] = [
    ['that is empty', ''],
    ['above the limit', 'k'.repeat(KEY_BYTES_MAX + 1)],
    ['above the limit in UTF-8', 'é'.repeat(KEY_BYTES_MAX / 2 + 1)],
    ['with half a surrogate pair', 'a\ud800b'],
  ];
  test.each(rows)('%s', (_name, key) => {
    expect(() => encodeCommand([{ kind: 'delete', key }])).toThrow(/Cannot encode command/);
  });

  test('but takes one at the limit', () => {
    const key = 'k'.repeat(KEY_BYTES_MAX);
    expect(decodeCommand(encodeCommand([{ kind: 'delete', key }]))).toEqual([
      { kind: 'delete', key },
    ]);
  });
});

describe('decodeCommand() refuses', () => {
  const rows: [string, string][] = [
    ['nothing at all', ''],
    ['an unknown format', '0200000000'],
    ['bytes at the end', '010000000000'],
    ['more operations than fit', '01ffffffff'],
    ['an unknown operation', '0101000000 03 0100 61'],
    ['an empty key', '0101000000 02 0000 00'],
    ['a key that is not UTF-8', '0101000000 02 0300 f09f98'],
    ['a value longer than the rest', '0101000000 01 0100 61 ffffffff'],
  ];
  test.each(rows)('%s', (_name, hex) => {
    expect(() => decodeCommand(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toThrow(
      /Cannot decode command: offset/,
    );
  });

  test('every truncation', () => {
    const bytes = encodeCommand([{ kind: 'put', key: 'key', value: Buffer.from('value') }]);
    for (let length = 0; length < bytes.length; length += 1) {
      expect(() => decodeCommand(bytes.subarray(0, length))).toThrow(/Cannot decode command/);
    }
  });

  test('or decodes exactly: random bytes that pass are what encoding gives', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), operations, (noise, list) => {
        const bytes = Buffer.from(encodeCommand(list));
        for (const [i, value] of noise.entries()) {
          if (i % 7 === 0) bytes[value % bytes.length] = noise[i + 1] ?? 0;
        }
        expect(() => {
          const isExact = Buffer.from(encodeCommand(decodeCommand(bytes))).equals(bytes);
          throw new Error(isExact ? 'Cannot decode command: it is fine' : 'decoded loosely');
        }).toThrow(/Cannot decode command/);
      }),
    );
  });
});
