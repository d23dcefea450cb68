/**
 * Reads LevelDB's files through before it opens them, and refuses damage.
 *
 * LevelDB as Node has it looks at few of its own checksums: when it opens, it passes over a damaged
 * record of its log and goes on with the next, and it serves the blocks of tables unchecked. A store
 * with a hole in the middle would claim a position that it does not hold.
 *
 * Of a table: | block | u8 type | u32 masked crc | ... | footer, 48 bytes |, where the crc is of block
 * and type, and footer and index block say where the blocks are (leveldb doc/table_format.md). Of the
 * log: `level-log.ts`.
 */

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { masked } from './crc32c.ts';
import { LevelCursor, type Handle } from './level-cursor.ts';
import { readLevelLog, type LevelFault } from './level-log.ts';
import { isInUse, manifestName, readManifestFile } from './level-manifest.ts';

/** A file of the store does not read back as it was written. */
export class StoreDamagedError extends Error {
  readonly file: string;
  readonly offset: number;

  constructor(file: string, offset: number, reason: string) {
    super(`Cannot open the store: ${file}, offset ${offset}: ${reason}`);
    this.name = 'StoreDamagedError';
    this.file = file;
    this.offset = offset;
  }
}

const LOG_EXTENSION = '.log';
const FOOTER_BYTES = 48;
const MAGIC = Buffer.from('57fb808b247547db', 'hex');
const TRAILER_BYTES = 5;

/**
 * Rejects with `StoreDamagedError`. One file at a time, while the next is read, and other things
 * between two of them. Files that LevelDB has given up, or had not finished when it was killed, do
 * not count.
 */
export async function checkLevelFiles(directory: string): Promise<void> {
  const path = join(directory, await manifestName(directory));
  const { manifest, fault } = await readManifestFile(path);
  if (fault !== undefined) throw new StoreDamagedError(path, fault.offset, fault.reason);
  const names = (await readdir(directory)).filter((name) => isInUse(name, manifest));
  const read = (name: string | undefined): Promise<Buffer> | undefined =>
    name === undefined ? undefined : readFile(join(directory, name));
  let reading = read(names[0]);
  for (const [i, name] of names.entries()) {
    const bytes = await reading;
    reading = read(names[i + 1]);
    // Where this one is damaged, nobody waits for the next.
    reading?.catch(() => undefined);
    assert(bytes !== undefined);
    const found = name.endsWith(LOG_EXTENSION) ? readLevelLog(bytes).fault : findTableFault(bytes);
    if (found === undefined) continue;
    throw new StoreDamagedError(join(directory, name), found.offset, found.reason);
  }
}

export function findTableFault(bytes: Buffer): LevelFault | undefined {
  const footer = bytes.length - FOOTER_BYTES;
  if (footer < 0 || !bytes.subarray(bytes.length - MAGIC.length).equals(MAGIC)) {
    return { offset: Math.max(0, footer), reason: 'the table has no end' };
  }
  const cursor = new LevelCursor(bytes, footer);
  const [metaIndex, index] = [cursor.handle(), cursor.handle()];
  for (const handle of [metaIndex, index]) {
    const fault = findBlockFault(bytes, handle);
    if (fault !== undefined) return fault;
  }
  // An index block has a handle for each block: that of the meta index for filters, the other's for
  // data.
  for (const handle of [...handlesIn(bytes, metaIndex), ...handlesIn(bytes, index)]) {
    const fault = findBlockFault(bytes, handle);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function findBlockFault(bytes: Buffer, { offset, size }: Handle): LevelFault | undefined {
  const end = offset + size + 1;
  const limit = bytes.length - FOOTER_BYTES;
  if (!(offset + size + TRAILER_BYTES <= limit)) {
    return { offset: limit, reason: `a block at ${offset} of ${size} bytes is not in the table` };
  }
  const crc = masked(bytes.subarray(offset, end));
  if (crc === bytes.readUInt32LE(end)) return undefined;
  return { offset, reason: 'the checksum of a block does not match' };
}

/** The values of an index block whose checksum has matched. It is not compressed, as nothing is. */
function handlesIn(bytes: Buffer, { offset, size }: Handle): Handle[] {
  const end = offset + size;
  const restartCount = bytes.readUInt32LE(end - 4);
  const entriesEnd = end - 4 - 4 * restartCount;
  const handles: Handle[] = [];
  const cursor = new LevelCursor(bytes, offset);
  while (cursor.offset < entriesEnd) {
    cursor.varint(); // shared with the key before
    const [keyBytes, valueBytes] = [cursor.varint(), cursor.varint()];
    const valueStart = cursor.offset + keyBytes;
    handles.push(new LevelCursor(bytes, valueStart).handle());
    cursor.offset = valueStart + valueBytes;
  }
  return handles;
}
