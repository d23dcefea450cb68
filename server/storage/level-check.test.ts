import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ClassicLevel } from 'classic-level';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { crc32c } from './crc32c.ts';
import { checkLevelFiles, findTableFault } from './level-check.ts';
import { readLevelLog } from './level-log.ts';
import { openLevelStore } from './leveldb.ts';
import { INITIAL_POSITION } from './store-position.ts';

const FOOTER_BYTES = 48;

let directory: string;
/** Several blocks long, with records that go over their edges. */
let log: Buffer;
let table: Buffer;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'baobench-level-'));
  const path = join(directory, 'plain');
  const level = new ClassicLevel<string, Buffer>(path, {
    valueEncoding: 'buffer',
    compression: false,
  });
  for (let key = 0; key < 60; key += 1) {
    await level.put(`key-${key}`, Buffer.alloc(50 + 20 * key, key), { sync: true });
  }
  await level.put('large', Buffer.alloc(40_000, 7));
  await level.put('last', Buffer.alloc(100, 8));
  log = readFileSync(onlyFile(path, '.log'));
  // What was in the log becomes a table.
  await level.compactRange('', '~');
  await level.close();
  table = readFileSync(onlyFile(path, '.ldb'));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('crc32c() gives the published values', () => {
  // RFC 3720, B.4
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(Buffer.alloc(0))).toBe(0);
});

test('crc32c() does not depend on where the bytes lie, nor on how many they are', () => {
  const bitwise = (bytes: Uint8Array): number => {
    let crc = -1;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc >>> 0;
  };
  const memory = new Uint8Array(128).map((_, i) => (i * 151 + 7) & 0xff);
  for (let offset = 0; offset < 20; offset += 1) {
    for (let length = 0; length <= 70; length += 1) {
      const bytes = memory.subarray(offset, offset + length);
      expect(crc32c(bytes), `${length} bytes at ${offset}`).toBe(bitwise(bytes));
    }
  }
});

describe('a log', () => {
  test('is sound as LevelDB wrote it', () => {
    expect(log.length).toBeGreaterThan(2 * 32 * 1024);
    expect(faultOf(log)).toBeUndefined();
  });

  test('may end anywhere: a write was cut short', () => {
    for (let length = 0; length < log.length; length += 37) {
      expect(faultOf(log.subarray(0, length)), `${length} bytes`).toBeUndefined();
    }
  });

  test('may end in zeros', () => {
    const torn = Buffer.concat([log.subarray(0, 5_000), Buffer.alloc(5_000)]);
    expect(faultOf(torn)).toBeUndefined();
  });

  test('with a changed byte before its last record is damaged', () => {
    for (let offset = 0; offset < log.length - 200; offset += 101) {
      expect(faultOf(changed(log, offset)), `offset ${offset}`).toBeDefined();
    }
  });
});

describe('a table', () => {
  test('is sound as LevelDB wrote it', () => {
    expect(table.length).toBeGreaterThan(60_000);
    expect(findTableFault(table)).toBeUndefined();
  });

  test('with a changed byte is damaged', () => {
    for (let offset = 0; offset < table.length - FOOTER_BYTES; offset += 53) {
      expect(findTableFault(changed(table, offset)), `offset ${offset}`).toBeDefined();
    }
  });

  test('with a changed footer is damaged, or the change is in what nobody reads', () => {
    const reads = new Set<number>();
    for (let offset = table.length - FOOTER_BYTES; offset < table.length; offset += 1) {
      if (findTableFault(changed(table, offset)) !== undefined) reads.add(offset);
    }
    // Two handles of two numbers, and the magic.
    expect(reads.size).toBeGreaterThan(12);
    expect(reads.has(table.length - 1)).toBe(true);
  });

  test('that is cut is damaged', () => {
    for (let length = 0; length < table.length; length += 997) {
      expect(findTableFault(table.subarray(0, length)), `${length} bytes`).toBeDefined();
    }
  });
});

describe('a store', () => {
  test('opens again when it is sound, and refuses when a file is damaged', async () => {
    const path = join(directory, 'store');
    const store = await openLevelStore(path, { mode: 'sync' });
    for (let index = 1; index <= 50; index += 1) {
      const value = Buffer.alloc(200, index);
      const position = { ...INITIAL_POSITION, lastIncludedIndex: index, lastIncludedTerm: 1 };
      await store.apply([{ kind: 'put', key: `k${index}`, value }], position);
      store.publish();
    }
    await store.close();
    await checkLevelFiles(join(path, 'store-000001'));
    const file = onlyFile(join(path, 'store-000001'), '.log');
    const sound = readFileSync(file);
    writeFileSync(file, changed(sound, Math.floor(sound.length / 2)));
    await expect(openLevelStore(path, { mode: 'sync' })).rejects.toMatchObject({
      name: 'StoreDamagedError',
      file,
    });
    writeFileSync(file, sound);
    // What LevelDB was about to write when it was killed, or has no use for any more.
    writeFileSync(join(path, 'store-000001', '000900.ldb'), 'unfinished');
    writeFileSync(join(path, 'store-000001', '000001.log'), changed(sound, 2_000));
    const again = await openLevelStore(path, { mode: 'sync' });
    expect(again.position().lastIncludedIndex).toBe(50);
    await again.close();
  });
});

function faultOf(bytes: Buffer) {
  return readLevelLog(bytes).fault;
}

function changed(bytes: Buffer, offset: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[offset] = (copy[offset] ?? 0) ^ 0x10;
  return copy;
}

function onlyFile(path: string, extension: string): string {
  const [name, ...others] = readdirSync(path).filter((each) => each.endsWith(extension));
  expect(others).toEqual([]);
  return join(path, name ?? '');
}
