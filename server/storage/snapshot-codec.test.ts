import { expect, test } from 'vitest';

import { CHUNK_BYTES_MAX, decodeSnapshot, encodeSnapshot } from './snapshot-codec.ts';
import type { StorePair } from './snapshot-codec.ts';
import { position } from './store.contract.ts';

const AT = position(1);

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function encoded(pairs: readonly StorePair[]): Promise<Uint8Array[]> {
  return await collect(encodeSnapshot(AT, [pairs]));
}

async function decoded(pieces: readonly Uint8Array[]): Promise<StorePair[]> {
  async function* stream(): AsyncIterable<Uint8Array> {
    yield* pieces;
  }
  const pairs: StorePair[] = [];
  for await (const group of decodeSnapshot(AT, stream())) {
    for (const { key, value } of group) pairs.push({ key, value: Buffer.from(value) });
  }
  return pairs;
}

const PAIRS = ['', 'x', 'value', 'v'.repeat(50)].map((text, number) => {
  return { key: `key-ä-${number}`, value: Buffer.from(text) };
});

test('what is written reads back, wherever the stream is cut', async () => {
  const bytes = Buffer.concat(await encoded(PAIRS));
  for (let at = 0; at <= bytes.length; at += 1) {
    const pairs = await decoded([bytes.subarray(0, at), bytes.subarray(at)]);
    expect(pairs, `cut at ${at}`).toEqual(PAIRS);
  }
});

test('a stream that goes on after the end is refused, in the same piece or the next', async () => {
  const bytes = Buffer.concat(await encoded(PAIRS));
  const more = Buffer.from('more');
  await expect(decoded([Buffer.concat([bytes, more])])).rejects.toThrow('bytes follow its end');
  await expect(decoded([bytes, more])).rejects.toThrow('bytes follow its end');
});

test('no chunk is larger than allowed, whatever the values', async () => {
  const values = [1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, 3 * CHUNK_BYTES_MAX + 1, 5];
  const pairs = values.map((size, i) => ({ key: `k${i}`, value: Buffer.alloc(size, i) }));
  const chunks = await encoded(pairs);
  expect(Math.max(...chunks.map(({ length }) => length))).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
  const read = await decoded(chunks);
  expect(read.map(({ key }) => key)).toEqual(pairs.map(({ key }) => key));
  expect(pairs.every(({ value }, i) => value.equals(read[i]?.value ?? new Uint8Array()))).toBe(
    true,
  );
});
