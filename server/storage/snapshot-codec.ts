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
  let parts: Uint8Array[] = [];
  let partsBytes = 0;
  function add(part: Uint8Array): void {
    parts.push(part);
    partsBytes += part.length;
  }
  function take(): Buffer {
    const bytes = Buffer.concat(parts);
    parts = [];
    partsBytes = 0;
    return bytes;
  }
  function* chunksOf(bytes: Buffer): Iterable<Buffer> {
    hash.update(bytes);
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES_MAX) {
      yield bytes.subarray(start, start + CHUNK_BYTES_MAX);
    }
  }

  const positionBytes = encodePosition(position);
  add(Buffer.concat([MAGIC, encodeLengths(positionBytes.length), positionBytes]));
  for await (const group of groups) {
    for (const { key, value } of group) {
      add(encodePairHead(key, value.length));
      add(value);
      if (CHUNK_BYTES_MAX <= partsBytes) yield* chunksOf(take());
    }
  }
  add(encodeLengths(0, 0));
  yield* chunksOf(take());
  yield hash.digest();
}

/**
 * Decodes groups of pairs, some `CHUNK_BYTES_MAX` each. Throws if the stream is not whole and
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
  let groupBytes = 0;
  let previousKey = '';
  for (;;) {
    const lengths = reader.need(LENGTHS_BYTES);
    if (lengths !== undefined) await lengths;
    const keyBytes = checkedLength(reader.takeU32(), KEY_BYTES_MAX);
    const valueBytes = checkedLength(reader.takeU32(), ENTRY_BYTES_MAX);
    if (keyBytes === 0) break;
    const pair = reader.need(keyBytes + valueBytes);
    if (pair !== undefined) await pair;
    const key = reader.take(keyBytes).toString('utf8');
    const value = reader.take(valueBytes);
    if (compareKeys(key, previousKey) <= 0) throw fault('its keys do not ascend');
    previousKey = key;
    group.push({ key, value });
    groupBytes += keyBytes + valueBytes;
    if (CHUNK_BYTES_MAX <= groupBytes) {
      yield group;
      group = [];
      groupBytes = 0;
    }
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
