import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import {
  KEY_BYTES_MAX,
  RESULT_BYTES_MAX,
  decodeCommand,
  encodeCommand,
  encodeConditional,
  verifiesLists,
} from './command.ts';
import type { Command } from './command.ts';
import { FINGERPRINT_BYTES, fingerprintOf, fingerprintOfList } from './fingerprint.ts';
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

const fingerprint = fc.uint8Array({ minLength: FINGERPRINT_BYTES, maxLength: FINGERPRINT_BYTES });
const u48 = fc.nat({ max: 2 ** 48 - 1 });
const conditional: fc.Arbitrary<Command> = fc.record({
  stamp: fc.option(
    fc.record({
      phase: fc.constantFrom('once', 'finish'),
      session: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(hexOf),
      openedIndex: u48,
      sequence: u48,
      acknowledgedBelow: u48,
      result: values,
    }),
    { nil: undefined },
  ),
  reads: fc.array(fc.record({ key: keys, fingerprint }), { maxLength: 3 }),
  lists: fc.array(
    fc.record({
      prefix: fc.oneof(
        fc.constant(''),
        keys.map((key) => `${key}/`),
      ),
      after: fc.oneof(fc.constant(''), keys),
      limit: fc.nat({ max: 2 ** 32 - 1 }),
      fingerprint,
    }),
    { maxLength: 2 },
  ),
  operations,
});

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Bytes of any class compare as hexadecimal text. */
function comparable(command: Command): unknown {
  return JSON.parse(
    JSON.stringify(command, (_key, value: unknown) => {
      if (value instanceof Uint8Array) return hexOf(value);
      // A buffer has been through its toJSON by now.
      const isBuffer = typeof value === 'object' && value !== null && 'type' in value;
      return isBuffer && 'data' in value ? hexOf(Uint8Array.from(value.data as number[])) : value;
    }),
  );
}

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
      expect(plain(decodeCommand(encodeCommand(list)).operations)).toEqual(plain(list));
    }),
  );
});

test('decodeCommand() reads back what encodeConditional() wrote', () => {
  fc.assert(
    fc.property(conditional, (command) => {
      const bytes = encodeConditional(command);
      expect(comparable(decodeCommand(bytes))).toEqual(comparable(command));
      expect(verifiesLists(bytes)).toBe(command.lists.length > 0);
    }),
  );
});

test('the bytes of a conditional command are fixed', () => {
  const bytes = encodeConditional({
    stamp: {
      phase: 'finish',
      session: '000102030405060708090a0b0c0d0e0f',
      openedIndex: 1,
      sequence: 2,
      acknowledgedBelow: 3,
      result: Buffer.from('r'),
    },
    reads: [{ key: 'k', fingerprint: Buffer.alloc(32, 0xaa) }],
    lists: [{ prefix: 'p/', after: 'q', limit: 9, fingerprint: Buffer.alloc(32, 0xbb) }],
    operations: [{ kind: 'delete', key: 'c' }],
  });
  const stamp = '01 000102030405060708090a0b0c0d0e0f 010000000000 020000000000 030000000000';
  const reads = `01000000 0100 6b ${'aa'.repeat(32)}`;
  const lists = `01000000 0200 702f 0100 71 09000000 ${'bb'.repeat(32)}`;
  expect(hexOf(bytes)).toBe(
    `02 03 ${stamp} 01000000 72 ${reads} ${lists} 01000000 02 0100 63`.replaceAll(' ', ''),
  );
});

test('encodeConditional() refuses a result above the limit, and takes one at it', () => {
  const withResult = (length: number): Command => ({
    stamp: {
      phase: 'once',
      session: '0'.repeat(32),
      openedIndex: 0,
      sequence: 0,
      acknowledgedBelow: 0,
      result: Buffer.alloc(length),
    },
    reads: [],
    lists: [],
    operations: [],
  });
  expect(() => encodeConditional(withResult(RESULT_BYTES_MAX + 1))).toThrow(/a result has/);
  const atLimit = decodeCommand(encodeConditional(withResult(RESULT_BYTES_MAX)));
  expect(atLimit.stamp?.result.length).toBe(RESULT_BYTES_MAX);
});

test('fingerprints tell absent from empty, and one listing from another', () => {
  const singles = [undefined, Buffer.alloc(0), Buffer.from('a')].map((value) =>
    hexOf(fingerprintOf(value)),
  );
  const lists = [[], [''], ['a', 'b'], ['ab'], ['1:a']].map((list) =>
    hexOf(fingerprintOfList(list)),
  );
  expect(new Set(singles).size).toBe(3);
  expect(new Set(lists).size).toBe(5);
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
    expect(decodeCommand(encodeCommand([{ kind: 'delete', key }])).operations).toEqual([
      { kind: 'delete', key },
    ]);
  });
});

describe('decodeCommand() refuses', () => {
  const rows: [string, string][] = [
    ['nothing at all', ''],
    ['an unknown format', '0300000000'],
    ['unknown parts', '0204'],
    ['an empty part for lists', '0202 00000000 00000000 00000000'],
    ['a prefix without its slash', `0202 00000000 01000000 0100 61 ${'00'.repeat(50)}`],
    ['an unknown phase', `0201 02 ${'00'.repeat(50)}`],
    ['more reads than fit', '0200 ffffffff'],
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
    fc.assert(
      fc.property(
        fc.oneof(conditional.map(encodeConditional), operations.map(encodeCommand)),
        (bytes) => {
          for (let length = 0; length < bytes.length; length += 1) {
            expect(() => decodeCommand(bytes.subarray(0, length))).toThrow(/Cannot decode command/);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test('or decodes exactly: changed bytes that pass are what encoding gives', () => {
    const encoded = fc.oneof(conditional.map(encodeConditional), operations.map(encodeCommand));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), encoded, (noise, original) => {
        const bytes = Buffer.from(original);
        for (const [i, value] of noise.entries()) {
          if (i % 7 === 0) bytes[value % bytes.length] = noise[i + 1] ?? 0;
        }
        expect(() => {
          const isExact = reencode(bytes).equals(bytes);
          throw new Error(isExact ? 'Cannot decode command: it is fine' : 'decoded loosely');
        }).toThrow(/Cannot decode command/);
      }),
      { numRuns: 500 },
    );
  });
});

function reencode(bytes: Uint8Array): Buffer {
  const command = decodeCommand(bytes);
  return Buffer.from(
    bytes[0] === 1 ? encodeCommand(command.operations) : encodeConditional(command),
  );
}
