/**
 * The exported form of a store's contents, as a stream of bytes in chunks of any size:
 *
 *     magic "BAOSNAP1" | u32 position bytes | position
 *     u32 key bytes | u32 value bytes | key | value      for each pair, keys ascending
 *     u32 0 | u32 0                                      no key is empty: the end
 *     sha256 of everything before
 *
 * Two stores with equal contents and positions export equal bytes.
 */

import { createHash } from 'node:crypto';

import { ByteReader } from './byte-reader.ts';
import { KEY_BYTES_MAX } from './command.ts';
import { ENTRY_BYTES_MAX } from './entry-codec.ts';
import { compareKeys } from './key-order.ts';
import { decodePosition, encodePosition } from './store-position.ts';
import type { StorePosition, StoreStream } from './store.ts';

export const CHUNK_BYTES_MAX = 256 * 1024;
const MAGIC = Buffer.from('BAOSNAP1', 'latin1');
const POSITION_BYTES_MAX = 1024 * 1024;
const HASH_BYTES = 32;
/** Of a key and a value. */
const LENGTHS_BYTES = 8;

export type StorePair = { readonly key: string; readonly value: Uint8Array };

/** Encodes groups of pairs whose keys ascend; no chunk exceeds `CHUNK_BYTES_MAX`. */
export async function* encodeSnapshot(
  position: StorePosition,
  groups: AsyncIterable<readonly StorePair[]> | Iterable<readonly StorePair[]>,
): StoreStream {
  const hash = createHash('sha256');
  const chunk = new Chunk();
  function* written(bytes: Uint8Array): Iterable<Buffer> {
    for (let start = 0; start < bytes.length;) {
      start += chunk.fill(bytes, start);
      if (chunk.isFull) yield observed(chunk.take());
    }
  }
  function observed(bytes: Buffer): Buffer {
    hash.update(bytes);
    return bytes;
  }

  const positionBytes = encodePosition(position);
  yield* written(Buffer.concat([MAGIC, encodeLengths(positionBytes.length), positionBytes]));
  for await (const group of groups) {
    for (const { key, value } of group) {
      if (chunk.add(key, value)) continue;
      yield* written(encodePairHead(key, value.length));
      yield* written(value);
    }
  }
  yield* written(encodeLengths(0, 0));
  if (!chunk.isEmpty) yield observed(chunk.take());
  yield hash.digest();
}

/** What is copied into it until it is full, so that values are needed no longer. */
class Chunk {
  #memory = Buffer.allocUnsafeSlow(CHUNK_BYTES_MAX);
  #size = 0;

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  get isFull(): boolean {
    return this.#size === CHUNK_BYTES_MAX;
  }

  /** Returns whether there was room for all of it; otherwise nothing has changed. */
  add(key: string, value: Uint8Array): boolean {
    const keyBytesMax = 3 * key.length;
    if (CHUNK_BYTES_MAX < this.#size + LENGTHS_BYTES + keyBytesMax + value.length) return false;
    const keyStart = this.#size + LENGTHS_BYTES;
    const keyBytes = this.#memory.write(key, keyStart);
    this.#memory.writeUInt32LE(keyBytes, this.#size);
    this.#memory.writeUInt32LE(value.length, this.#size + 4);
    this.#memory.set(value, keyStart + keyBytes);
    this.#size = keyStart + keyBytes + value.length;
    return true;
  }

  /** Returns how many of the bytes from `start` on it took. */
  fill(bytes: Uint8Array, start: number): number {
    const count = Math.min(bytes.length - start, CHUNK_BYTES_MAX - this.#size);
    this.#memory.set(bytes.subarray(start, start + count), this.#size);
    this.#size += count;
    return count;
  }

  take(): Buffer {
    const bytes = this.#memory.subarray(0, this.#size);
    this.#memory = Buffer.allocUnsafeSlow(CHUNK_BYTES_MAX);
    this.#size = 0;
    return bytes;
  }
}

/**
 * Decodes groups of pairs, some `CHUNK_BYTES_MAX` each, whose values are overwritten when the next
 * group is asked for. Throws if the stream is not whole and
 * undamaged, or belongs to another position; the last fault can show only at the end.
 */
export async function* decodeSnapshot(
  position: StorePosition,
  chunks: StoreStream,
): AsyncIterable<StorePair[]> {
  const hash = createHash('sha256');
  const reader = new ByteReader(chunks, (bytes) => hash.update(bytes));
  try {
    await readHead(reader, position);
    yield* readPairs(reader);
    reader.settle();
    const digest = hash.digest();
    await reader.need(HASH_BYTES);
    if (!reader.takeUnobserved(HASH_BYTES).equals(digest))
      throw fault('its checksum does not match');
    if (!(await reader.isAtEnd())) throw fault('bytes follow its end');
  } finally {
    await reader.stop();
  }
}

/** Throws where `decodeSnapshot` would, and keeps nothing. */
export async function verifySnapshot(position: StorePosition, chunks: StoreStream): Promise<void> {
  const groups = decodeSnapshot(position, chunks)[Symbol.asyncIterator]();
  while ((await groups.next()).done !== true);
}

/** Where the state was taken. Reads only the head. */
export async function positionOfSnapshot(chunks: StoreStream): Promise<StorePosition> {
  const reader = new ByteReader(chunks, () => undefined);
  try {
    return decodePosition(await readPositionBytes(reader));
  } finally {
    await reader.stop();
  }
}

async function readPositionBytes(reader: ByteReader): Promise<Buffer> {
  await reader.need(MAGIC.length + 4);
  if (!reader.take(MAGIC.length).equals(MAGIC)) throw fault('this is no snapshot');
  const length = checkedLength(reader.takeU32(), POSITION_BYTES_MAX);
  await reader.need(length);
  return reader.take(length);
}

async function readHead(reader: ByteReader, position: StorePosition): Promise<void> {
  const positionBytes = await readPositionBytes(reader);
  if (!positionBytes.equals(encodePosition(position))) {
    throw fault(`it was not taken at index ${position.lastIncludedIndex}`);
  }
}

async function* readPairs(reader: ByteReader): AsyncIterable<StorePair[]> {
  let group: StorePair[] = [];
  let previousKey = '';
  for (;;) {
    if (!reader.has(LENGTHS_BYTES)) {
      yield group;
      group = [];
      await reader.need(LENGTHS_BYTES);
    }
    const keyBytes = checkedLength(reader.takeU32(), KEY_BYTES_MAX);
    const valueBytes = checkedLength(reader.takeU32(), ENTRY_BYTES_MAX);
    if (keyBytes === 0) break;
    if (!reader.has(keyBytes + valueBytes)) {
      yield group;
      group = [];
      await reader.need(keyBytes + valueBytes);
    }
    const key = reader.take(keyBytes).toString('utf8');
    const value = reader.take(valueBytes);
    if (compareKeys(key, previousKey) <= 0) throw fault('its keys do not ascend');
    previousKey = key;
    group.push({ key, value });
  }
  yield group;
}

function encodeLengths(...lengths: number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * lengths.length);
  for (const [i, length] of lengths.entries()) bytes.writeUInt32LE(length, 4 * i);
  return bytes;
}

function encodePairHead(key: string, valueBytes: number): Buffer {
  const keyBytes = Buffer.byteLength(key);
  const head = Buffer.allocUnsafe(LENGTHS_BYTES + keyBytes);
  head.writeUInt32LE(keyBytes, 0);
  head.writeUInt32LE(valueBytes, 4);
  head.write(key, LENGTHS_BYTES);
  return head;
}

function checkedLength(length: number, max: number): number {
  if (max < length) throw fault(`a length of ${length} exceeds ${max}`);
  return length;
}

function fault(reason: string): Error {
  return new Error(`Cannot import snapshot: ${reason}`);
}
