/**
 * The command of an entry: the operations of one atomic batch, and on what condition they take
 * effect. Little-endian:
 *
 *     u8 format = 1 | operations                       unconditionally
 *     u8 format = 2 | u8 parts | [stamp] | reads | [lists] | operations
 *
 *     operations: u32 count | count x operation
 *     operation:  u8 1 (put)    | u16 key bytes | key | u32 value bytes | value
 *                 u8 2 (delete) | u16 key bytes | key
 *     parts:      bit 0: there is a stamp; bit 1: there are lists
 *     stamp:      u8 phase | 16 bytes session | u48 opened | u48 sequence | u48 acknowledged below |
 *                 u32 result bytes | result
 *     reads:      u32 count | count x (u16 key bytes | key | 32 bytes fingerprint)
 *     lists:      u32 count | count x (u16 prefix bytes | prefix | u16 after bytes | after |
 *                                      u32 limit, 0 for none | 32 bytes fingerprint)
 *
 * Decoding is deterministic and refuses anything but exactly this: replicas that read the same
 * bytes apply the same operations. What the conditions mean is in `replica/state-machine.ts`.
 */

import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';

import { asBuffer } from './as-buffer.ts';
import { FINGERPRINT_BYTES } from './fingerprint.ts';
import type { StoreOperation } from './store.ts';

/** A value, or its absence, that must still be what it was when it was read. */
export type VerifyRead = { readonly key: string; readonly fingerprint: Uint8Array };

/** A listing that must still name the same children. */
export type VerifyList = {
  readonly prefix: string;
  readonly after: string;
  /** 0 for none. */
  readonly limit: number;
  readonly fingerprint: Uint8Array;
};

/** By which a request that comes again is known (see `replica/session-table.ts`). */
export type CommandStamp = {
  /** `once`: take effect unless the request did before. `finish`: only note its result. */
  readonly phase: 'once' | 'finish';
  /** 32 hexadecimal digits. */
  readonly session: string;
  readonly openedIndex: number;
  readonly sequence: number;
  readonly acknowledgedBelow: number;
  readonly result: Uint8Array;
};

export type Command = {
  readonly stamp?: CommandStamp | undefined;
  readonly reads: readonly VerifyRead[];
  readonly lists: readonly VerifyList[];
  readonly operations: readonly StoreOperation[];
};

const FORMAT_PLAIN = 1;
const FORMAT_CONDITIONAL = 2;
const PLAIN_HEAD = Buffer.of(FORMAT_PLAIN);
const HAS_STAMP = 1;
const HAS_LISTS = 2;
const PUT = 1;
const DELETE = 2;
const PHASES = ['once', 'finish'] as const;
const SESSION_BYTES = 16;
const SESSION = /^[0-9a-f]{32}$/;
const U48_BYTES = 6;
/** A delete of the shortest key. */
const OPERATION_BYTES_MIN = 4;
const READ_BYTES_MIN = 3 + FINGERPRINT_BYTES;
const LIST_BYTES_MIN = 8 + FINGERPRINT_BYTES;

/** The longest key in UTF-8, as in OpenBao (bbolt's MaxKeySize, internal/physical/raft/raft.go). */
export const KEY_BYTES_MAX = 32_768;
/** The longest result that is remembered of a request. */
export const RESULT_BYTES_MAX = 16 * 1024;

// A surrogate without its partner has no UTF-8: two different keys would become one.
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Operations without a condition. Throws for a key that is empty, too long, or not Unicode. */
export function encodeCommand(operations: readonly StoreOperation[]): Uint8Array {
  return encodeOperations(PLAIN_HEAD, operations);
}

/** Throws as `encodeCommand` does, and for a result above `RESULT_BYTES_MAX`. */
export function encodeConditional(command: Command): Uint8Array {
  const { stamp, reads, lists, operations } = command;
  const parts = (stamp === undefined ? 0 : HAS_STAMP) | (lists.length === 0 ? 0 : HAS_LISTS);
  const head: Buffer[] = [Buffer.of(FORMAT_CONDITIONAL, parts)];
  if (stamp !== undefined) head.push(encodeStamp(stamp));
  head.push(u32(reads.length));
  for (const { key, fingerprint } of reads) {
    checkedKeyBytes(key);
    head.push(encodeText(key), asBuffer(fingerprint));
  }
  if (lists.length > 0) head.push(u32(lists.length));
  for (const { prefix, after, limit, fingerprint } of lists) {
    head.push(encodeText(prefix), encodeText(after), u32(limit), asBuffer(fingerprint));
  }
  return encodeOperations(Buffer.concat(head), operations);
}

/** Whether a command lists, which takes longer to verify, without decoding it. */
export function verifiesLists(bytes: Uint8Array): boolean {
  return bytes[0] === FORMAT_CONDITIONAL && ((bytes[1] ?? 0) & HAS_LISTS) !== 0;
}

/** Values are views of `bytes`. Throws an error that names the offset of the first fault. */
export function decodeCommand(bytes: Uint8Array): Command {
  const cursor = new Cursor(bytes);
  const format = cursor.u8();
  if (format === FORMAT_PLAIN) return { reads: [], lists: [], operations: endOf(cursor) };
  if (format !== FORMAT_CONDITIONAL) throw fault(0, `format ${format} is unknown`);
  const parts = cursor.u8();
  if ((parts & ~(HAS_STAMP | HAS_LISTS)) !== 0) throw fault(1, `parts ${parts} are unknown`);
  const stamp = (parts & HAS_STAMP) === 0 ? undefined : decodeStamp(cursor);
  const reads = decodeMany(cursor, READ_BYTES_MIN, () => ({
    key: cursor.key(),
    fingerprint: cursor.take(FINGERPRINT_BYTES),
  }));
  const lists = (parts & HAS_LISTS) === 0 ? [] : decodeLists(cursor);
  return { stamp, reads, lists, operations: endOf(cursor) };
}

/** The operations after `head`; its bytes are copied once. */
function encodeOperations(head: Buffer, operations: readonly StoreOperation[]): Uint8Array {
  let size = head.length + 4;
  const keyLengths: number[] = [];
  for (const operation of operations) {
    const keyBytes = checkedKeyBytes(operation.key);
    keyLengths.push(keyBytes);
    size += 3 + keyBytes + (operation.kind === 'put' ? 4 + operation.value.length : 0);
  }

  const bytes = Buffer.allocUnsafe(size);
  bytes.set(head, 0);
  let offset = bytes.writeUInt32LE(operations.length, head.length);
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

function encodeStamp(stamp: CommandStamp): Buffer {
  const { phase, session, openedIndex, sequence, acknowledgedBelow, result } = stamp;
  assert(SESSION.test(session), 'a session has 32 hexadecimal digits');
  if (RESULT_BYTES_MAX < result.length) {
    throw new RangeError(
      `Cannot encode command: a result has ${result.length} bytes, the limit is ${RESULT_BYTES_MAX}`,
    );
  }
  const numbers = Buffer.allocUnsafe(3 * U48_BYTES);
  for (const [i, number] of [openedIndex, sequence, acknowledgedBelow].entries()) {
    numbers.writeUIntLE(number, i * U48_BYTES, U48_BYTES);
  }
  const phaseByte = Buffer.of(PHASES.indexOf(phase));
  const length = u32(result.length);
  return Buffer.concat([phaseByte, Buffer.from(session, 'hex'), numbers, length, result]);
}

function decodeStamp(cursor: Cursor): CommandStamp {
  const start = cursor.offset;
  const phase = PHASES[cursor.u8()];
  if (phase === undefined) throw fault(start, 'the phase is unknown');
  const session = cursor.take(SESSION_BYTES).toString('hex');
  const openedIndex = cursor.u48();
  const sequence = cursor.u48();
  const acknowledgedBelow = cursor.u48();
  const resultStart = cursor.offset;
  const resultBytes = cursor.u32();
  if (RESULT_BYTES_MAX < resultBytes) throw fault(resultStart, 'the result is too long');
  const result = cursor.take(resultBytes);
  return { phase, session, openedIndex, sequence, acknowledgedBelow, result };
}

function decodeLists(cursor: Cursor): VerifyList[] {
  const start = cursor.offset;
  const lists = decodeMany(cursor, LIST_BYTES_MIN, () => ({
    prefix: cursor.prefix(),
    after: cursor.text(),
    limit: cursor.u32(),
    fingerprint: cursor.take(FINGERPRINT_BYTES),
  }));
  // One command, one encoding: without lists the part is left out.
  if (lists.length === 0) throw fault(start, 'the part for lists is empty');
  return lists;
}

function endOf(cursor: Cursor): StoreOperation[] {
  const operations = decodeMany(cursor, OPERATION_BYTES_MIN, () => decodeOperation(cursor));
  if (cursor.left !== 0) throw fault(cursor.offset, `${cursor.left} bytes follow`);
  return operations;
}

function decodeOperation(cursor: Cursor): StoreOperation {
  const start = cursor.offset;
  const kind = cursor.u8();
  if (kind !== PUT && kind !== DELETE) throw fault(start, `operation ${kind} is unknown`);
  const key = cursor.key();
  if (kind === DELETE) return { kind: 'delete', key };
  return { kind: 'put', key, value: cursor.take(cursor.u32()) };
}

function decodeMany<T>(cursor: Cursor, bytesMin: number, decode: () => T): T[] {
  const start = cursor.offset;
  const count = cursor.u32();
  // Before anything is allocated for them.
  if (cursor.left / bytesMin < count) {
    throw fault(start, `${count} of ${bytesMin} bytes and more do not fit into ${cursor.left}`);
  }
  const decoded: T[] = [];
  for (let i = 0; i < count; i += 1) decoded.push(decode());
  return decoded;
}

class Cursor {
  readonly #buffer: Buffer;
  offset = 0;

  constructor(bytes: Uint8Array) {
    this.#buffer = asBuffer(bytes);
  }

  get left(): number {
    return this.#buffer.length - this.offset;
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#advance(1));
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#advance(4));
  }

  u48(): number {
    return this.#buffer.readUIntLE(this.#advance(U48_BYTES), U48_BYTES);
  }

  take(count: number): Buffer {
    const start = this.#advance(count);
    return this.#buffer.subarray(start, start + count);
  }

  key(): string {
    const start = this.offset;
    const key = this.text();
    if (key === '') throw fault(start, 'a key is empty');
    return key;
  }

  prefix(): string {
    const start = this.offset;
    const prefix = this.text();
    if (prefix !== '' && !prefix.endsWith('/')) throw fault(start, 'a prefix has no slash');
    return prefix;
  }

  text(): string {
    const start = this.offset;
    const length = this.#buffer.readUInt16LE(this.#advance(2));
    const from = this.#advance(length);
    const text = this.#buffer.toString('utf8', from, from + length);
    // What is no UTF-8 is decoded to U+FFFD; only then a closer look is needed.
    const isDoubtful = text.includes('\uFFFD');
    const isDamaged = isDoubtful && !isUtf8(this.#buffer.subarray(from, from + length));
    if (KEY_BYTES_MAX < length || isDamaged) {
      throw fault(start, 'the key is not one that can be encoded');
    }
    return text;
  }

  #advance(count: number): number {
    if (this.left < count) throw fault(this.offset, `${count} bytes wanted, ${this.left} left`);
    this.offset += count;
    return this.offset - count;
  }
}

function encodeText(text: string): Buffer {
  const keyBytes = checkedTextBytes(text);
  const bytes = Buffer.allocUnsafe(2 + keyBytes);
  bytes.writeUInt16LE(keyBytes, 0);
  bytes.write(text, 2, 'utf8');
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

function checkedKeyBytes(key: string): number {
  if (key === '') throw new RangeError('Cannot encode command: a key is empty');
  return checkedTextBytes(key);
}

function checkedTextBytes(text: string): number {
  const keyBytes = Buffer.byteLength(text);
  if (KEY_BYTES_MAX < keyBytes) {
    throw new RangeError(
      `Cannot encode command: a key has ${keyBytes} bytes, the limit is ${KEY_BYTES_MAX}`,
    );
  }
  if (LONE_SURROGATE.test(text)) {
    throw new RangeError('Cannot encode command: a key is not well-formed Unicode');
  }
  return keyBytes;
}

function fault(offset: number, reason: string): Error {
  return new Error(`Cannot decode command: offset ${offset}: ${reason}`);
}
