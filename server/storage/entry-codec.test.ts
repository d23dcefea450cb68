import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Entry } from '../raft/message.ts';
import { ENTRY_BYTES_MAX, decodeEntries, encodeEntry } from './entry-codec.ts';

const INDEX_MAX = 2 ** 48 - 1;

const entries = fc.record<Entry>({
  index: fc.integer({ min: 0, max: INDEX_MAX }),
  term: fc.integer({ min: 0, max: INDEX_MAX }),
  kind: fc.constantFrom('command', 'noop', 'configuration'),
  command: fc.uint8Array({ maxLength: 100 }),
});

function encodeAll(list: readonly Entry[]): Buffer {
  return Buffer.concat(list.map(encodeEntry));
}

function plain(list: readonly Entry[]) {
  return list.map((entry) => ({ ...entry, command: Buffer.from(entry.command).toString('hex') }));
}

test('the frame of an entry is fixed', () => {
  const command = Buffer.from('set');
  const frame = encodeEntry({ index: 0x010203, term: 7, kind: 'command', command });
  expect(frame.toString('hex')).toBe(
    '10000000 922fcfb3 030201000000 070000000000 01 736574'.replaceAll(' ', ''),
  );
});

test('decodeEntries() reads back what encodeEntry() wrote', () => {
  fc.assert(
    fc.property(fc.array(entries, { maxLength: 5 }), (list) => {
      expect(plain(decodeEntries(encodeAll(list)))).toEqual(plain(list));
    }),
  );
});

test('an entry is encoded once, and a decoded entry keeps the frame it came in', () => {
  const entry: Entry = { index: 1, term: 1, kind: 'noop', command: new Uint8Array(0) };
  expect(encodeEntry(entry)).toBe(encodeEntry(entry));

  const bytes = Buffer.from(encodeEntry(entry));
  const [decoded] = decodeEntries(bytes);
  expect(decoded && encodeEntry(decoded).buffer).toBe(bytes.buffer);
});

test('a command above the limit is refused', () => {
  const entry: Entry = {
    index: 1,
    term: 1,
    kind: 'command',
    command: new Uint8Array(ENTRY_BYTES_MAX + 1),
  };
  expect(() => encodeEntry(entry)).toThrow(RangeError);
});

describe('decodeEntries() refuses', () => {
  const frame = encodeEntry({ index: 1, term: 1, kind: 'command', command: Buffer.from('abc') });
  const whole = Buffer.concat([frame, frame]);

  test('every truncation', () => {
    for (let length = 1; length < whole.length; length += 1) {
      if (length === frame.length) continue;
      expect(() => decodeEntries(whole.subarray(0, length))).toThrow(/Cannot decode entries/);
    }
  });

  test('every flipped bit', () => {
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      expect(() => decodeEntries(damaged)).toThrow(/Cannot decode entries/);
    }
  });

  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        expect(() => decodeEntries(bytes)).toThrow(/Cannot decode entries/);
      }),
    );
  });
});
