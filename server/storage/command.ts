/**
 * The command of an entry: the operations of one atomic batch. Little-endian:
 *
 *     u8 format = 1 | u32 count | count x operation
 *     operation:  u8 1 (put)    | u16 key bytes | key | u32 value bytes | value
 *                 u8 2 (delete) | u16 key bytes | key
 *
 * Decoding is deterministic and refuses anything but exactly this: replicas that read the same
 * bytes apply the same operations.
 */

import { isUtf8 } from 'node:buffer';

import type { StoreOperation } from './store.ts';

const FORMAT = 1;
const PUT = 1;
const DELETE = 2;
const HEADER_BYTES = 5;
/** A delete of the shortest key. */
const OPERATION_BYTES_MIN = 4;

/** The longest key in UTF-8, as in OpenBao (bbolt's MaxKeySize, internal/physical/raft/raft.go). */
export const KEY_BYTES_MAX = 32_768;

// A surrogate without its partner has no UTF-8: two different keys would become one.
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Throws for a key that is empty, too long, or not well-formed Unicode. */
export function encodeCommand(operations: readonly StoreOperation[]): Uint8Array {
  let size = HEADER_BYTES;
  const keyLengths: number[] = [];
  for (const operation of operations) {
    const keyBytes = checkedKeyBytes(operation.key);
    keyLengths.push(keyBytes);
    size += 3 + keyBytes + (operation.kind === 'put' ? 4 + operation.value.length : 0);
  }

  const bytes = Buffer.allocUnsafe(size);
  let offset = bytes.writeUInt8(FORMAT, 0);
  offset = bytes.writeUInt32LE(operations.length, offset);
  for (const [i, operation] of operations.entries()) {
    offset = bytes.writeUInt8(operation.kind === 'put' ? PUT : DELETE, offset);
    offset = bytes.writeUInt16LE(keyLengths[i] ?? 0, offset);
    offset += bytes.write(operation.key, offset, 'utf8');
    if (operation.kind === 'put') {
      offset = bytes.writeUInt32LE(operation.value.length, offset);
      bytes.set(operation.value, offset);
      offset += operation.value.length;
    }
  }
  return bytes;
}

/** Values are views of `bytes`. Throws an error that names the offset of the first fault. */
export function decodeCommand(bytes: Uint8Array): StoreOperation[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  function take(count: number): number {
    if (buffer.length - offset < count) {
      throw fault(offset, `${count} bytes wanted, ${buffer.length - offset} left`);
    }
    offset += count;
    return offset - count;
  }

  const format = buffer.readUInt8(take(1));
  if (format !== FORMAT) throw fault(0, `format ${format} is unknown`);
  const count = buffer.readUInt32LE(take(4));
  if ((buffer.length - offset) / OPERATION_BYTES_MIN < count) {
    throw fault(1, `${count} operations do not fit into ${buffer.length} bytes`);
  }

  const operations: StoreOperation[] = [];
  for (let i = 0; i < count; i += 1) {
    const start = offset;
    const kind = buffer.readUInt8(take(1));
    if (kind !== PUT && kind !== DELETE) throw fault(start, `operation ${kind} is unknown`);
    const keyBytes = buffer.readUInt16LE(take(2));
    const keyStart = take(keyBytes);
    const keyView = buffer.subarray(keyStart, keyStart + keyBytes);
    if (keyBytes === 0 || KEY_BYTES_MAX < keyBytes || !isUtf8(keyView)) {
      throw fault(keyStart, 'the key is not one that can be encoded');
    }
    const key = keyView.toString('utf8');
    if (kind === PUT) {
      const valueBytes = buffer.readUInt32LE(take(4));
      const valueStart = take(valueBytes);
      const value = buffer.subarray(valueStart, valueStart + valueBytes);
      operations.push({ kind: 'put', key, value });
    } else {
      operations.push({ kind: 'delete', key });
    }
  }
  if (offset !== buffer.length) throw fault(offset, `${buffer.length - offset} bytes follow`);
  return operations;
}

function checkedKeyBytes(key: string): number {
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes === 0) throw new RangeError('Cannot encode command: a key is empty');
  if (KEY_BYTES_MAX < keyBytes) {
    throw new RangeError(
      `Cannot encode command: a key has ${keyBytes} bytes, the limit is ${KEY_BYTES_MAX}`,
    );
  }
  if (LONE_SURROGATE.test(key)) {
    throw new RangeError('Cannot encode command: a key is not well-formed Unicode');
  }
  return keyBytes;
}

function fault(offset: number, reason: string): Error {
  return new Error(`Cannot decode command: offset ${offset}: ${reason}`);
}
