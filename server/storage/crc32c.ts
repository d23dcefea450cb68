/** CRC-32C (Castagnoli), which LevelDB's files carry; `node:zlib` has only the other polynomial. */

const POLYNOMIAL = 0x82f63b78;
const SLICES = 16;
const WORD_BYTES = 4;
const MASK_DELTA = 0xa282ead8;

/** `TABLES[slice * 256 + byte]`: what a byte does to the remainder `slice` bytes further on. */
const TABLES = makeTables();

/** Sixteen bytes at a time: a store is read through when it is opened. */
export function crc32c(bytes: Uint8Array): number {
  if (bytes.length < SLICES) return ~addBytes(-1, bytes, 0, bytes.length) >>> 0;
  const wordsStart = -bytes.byteOffset & (WORD_BYTES - 1);
  const steps = Math.floor((bytes.length - wordsStart) / SLICES);
  const wordsEnd = wordsStart + steps * SLICES;
  let crc = addBytes(-1, bytes, 0, wordsStart);
  crc = addWords(crc, wordsOf(bytes, wordsStart, wordsEnd));
  return ~addBytes(crc, bytes, wordsEnd, bytes.length) >>> 0;
}

/** Checksums of data that may hold checksums are stored masked (leveldb util/crc32c.h). */
export function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}

function addBytes(remainder: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = remainder;
  for (let at = start; at < end; at += 1) {
    crc = entry(0, (crc ^ (bytes[at] ?? 0)) & 0xff) ^ (crc >>> 8);
  }
  return crc;
}

/** A multiple of four words, little-endian: elsewhere no checksum would match, and no store open. */
function addWords(remainder: number, words: Int32Array): number {
  let crc = remainder;
  for (let at = 0; at < words.length; at += SLICES / WORD_BYTES) {
    crc =
      word(12, crc ^ wordAt(words, at)) ^
      word(8, wordAt(words, at + 1)) ^
      word(4, wordAt(words, at + 2)) ^
      word(0, wordAt(words, at + 3));
  }
  return crc;
}

function wordsOf(bytes: Uint8Array, start: number, end: number): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset + start, (end - start) / WORD_BYTES);
}

function wordAt(words: Int32Array, at: number): number {
  return words[at] ?? 0;
}

/** What four bytes do, the last of which has `slice` bytes behind it. */
function word(slice: number, bytes: number): number {
  return (
    entry(slice + 3, bytes & 0xff) ^
    entry(slice + 2, (bytes >>> 8) & 0xff) ^
    entry(slice + 1, (bytes >>> 16) & 0xff) ^
    entry(slice, bytes >>> 24)
  );
}

function entry(slice: number, byte: number): number {
  return TABLES[slice * 256 + byte] ?? 0;
}

function makeTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at += 1) {
    const before = tables[at - 256] ?? 0;
    tables[at] = (before >>> 8) ^ (tables[before & 0xff] ?? 0);
  }
  return tables;
}
