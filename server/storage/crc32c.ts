/** CRC-32C (Castagnoli), which LevelDB's files carry; `node:zlib` has only the other polynomial. */

const POLYNOMIAL = 0x82f63b78;
const SLICES = 8;
const MASK_DELTA = 0xa282ead8;

/** `TABLES[slice * 256 + byte]`: what a byte does to the remainder `slice` bytes further on. */
const TABLES = makeTables();

export function crc32c(bytes: Uint8Array): number {
  let crc = -1;
  let at = 0;
  // Eight bytes at a time: a store is read through when it is opened.
  for (; at + SLICES <= bytes.length; at += SLICES) {
    crc ^=
      byteAt(bytes, at) |
      (byteAt(bytes, at + 1) << 8) |
      (byteAt(bytes, at + 2) << 16) |
      (byteAt(bytes, at + 3) << 24);
    crc =
      table(7, crc & 0xff) ^
      table(6, (crc >>> 8) & 0xff) ^
      table(5, (crc >>> 16) & 0xff) ^
      table(4, crc >>> 24) ^
      table(3, byteAt(bytes, at + 4)) ^
      table(2, byteAt(bytes, at + 5)) ^
      table(1, byteAt(bytes, at + 6)) ^
      table(0, byteAt(bytes, at + 7));
  }
  for (; at < bytes.length; at += 1) crc = table(0, (crc ^ byteAt(bytes, at)) & 0xff) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Checksums of data that may hold checksums are stored masked (leveldb util/crc32c.h). */
export function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}

function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

function table(slice: number, byte: number): number {
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
