/**
 * The fields that peers' frames are made of: `u8 version | u8 kind | fields`, little-endian, numbers
 * of 48 bits, a text as `u16 bytes | UTF-8`. Decoding trusts nothing: each field is checked against
 * the end, each payload must be used up.
 */

import assert from 'node:assert/strict';
import { FrameError, frameLength } from '../frames.ts';

/** An append of the largest entry fits with room to spare. */
export const PEER_FRAME_BYTES_MAX = 16 * 1024 * 1024;

const VERSION = 3;
const NUMBER_BYTES = 6;
const NUMBER_MAX = 2 ** 48 - 1;
const TEXT_BYTES_MAX = 1024;
const FLAG = { preVote: 1, other: 2 } as const;

export class FieldWriter {
  readonly #parts: Buffer[];

  constructor(kind: number) {
    this.#parts = [Buffer.from([VERSION, kind])];
  }

  number(value: number): this {
    assert(Number.isSafeInteger(value) && 0 <= value && value <= NUMBER_MAX, 'not a wire number');
    const bytes = Buffer.allocUnsafe(NUMBER_BYTES);
    bytes.writeUIntLE(value, 0, NUMBER_BYTES);
    this.#parts.push(bytes);
    return this;
  }

  byte(value: number): this {
    this.#parts.push(Buffer.from([value]));
    return this;
  }

  /** Of a length that both sides know. */
  bytes(value: Uint8Array): this {
    this.#parts.push(Buffer.from(value));
    return this;
  }

  flags(preVote: boolean, other: boolean): this {
    const byte = (preVote ? FLAG.preVote : 0) | (other ? FLAG.other : 0);
    return this.byte(byte);
  }

  text(value: string): this {
    const bytes = Buffer.from(value, 'utf8');
    assert(bytes.length <= TEXT_BYTES_MAX, 'text too long for the wire');
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16LE(bytes.length, 0);
    this.#parts.push(length, bytes);
    return this;
  }

  frame(rest: readonly Buffer[]): Buffer[] {
    const head = Buffer.concat(this.#parts);
    const restBytes = rest.reduce((sum, part) => sum + part.length, 0);
    assert(head.length + restBytes <= PEER_FRAME_BYTES_MAX, 'frame too large');
    return [frameLength(head.length + restBytes), head, ...rest];
  }
}

export class FieldReader {
  readonly kind: number;
  readonly #payload: Buffer;
  #position = 2;

  constructor(payload: Buffer) {
    if (payload.length < 2) throw new FrameError('truncated header');
    if (payload.readUInt8(0) !== VERSION) throw new FrameError('unknown version');
    this.kind = payload.readUInt8(1);
    this.#payload = payload;
  }

  number(): number {
    return this.#payload.readUIntLE(this.#take(NUMBER_BYTES), NUMBER_BYTES);
  }

  byte(): number {
    return this.#payload.readUInt8(this.#take(1));
  }

  /** A copy. */
  bytes(count: number): Buffer {
    const start = this.#take(count);
    return Buffer.from(this.#payload.subarray(start, start + count));
  }

  flags(): { preVote: boolean; other: boolean } {
    const byte = this.byte();
    if (byte > (FLAG.preVote | FLAG.other)) throw new FrameError('unknown flags');
    return { preVote: (byte & FLAG.preVote) !== 0, other: (byte & FLAG.other) !== 0 };
  }

  text(): string {
    const length = this.#payload.readUInt16LE(this.#take(2));
    if (length > TEXT_BYTES_MAX) throw new FrameError('text too long');
    const start = this.#take(length);
    return this.#payload.toString('utf8', start, start + length);
  }

  rest(): Buffer {
    return this.#payload.subarray(this.#take(this.#payload.length - this.#position));
  }

  finish(): void {
    if (this.#position !== this.#payload.length) throw new FrameError('trailing bytes');
  }

  #take(count: number): number {
    const start = this.#position;
    if (start + count > this.#payload.length) throw new FrameError('truncated frame');
    this.#position = start + count;
    return start;
  }
}
