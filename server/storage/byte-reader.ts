/**
 * Takes counted runs of bytes from a stream of chunks of any size. Only where the stream has to be
 * read is there anything to wait for: a promise for each of a million short runs would cost more
 * than all that is done with them. They are copied into memory that is used again: buffers outside
 * the heap have V8 collect all of it, again and again, while a large state passes through.
 */

import assert from 'node:assert/strict';

import type { StoreStream } from './store.ts';

/** To begin with; more where one run needs more. */
const MEMORY_BYTES = 512 * 1024;

export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #observe: (bytes: Buffer) => void;
  #memory: Buffer = Buffer.allocUnsafeSlow(MEMORY_BYTES);
  /** What of `#memory` has been read from the stream. */
  #bytes: Buffer = this.#memory.subarray(0, 0);
  #offset = 0;
  /** Up to where `#bytes` have been observed. */
  #observed = 0;

  /** `observe` sees all bytes that `take` returns, in order, but not at once: see `settle`. */
  constructor(chunks: StoreStream, observe: (bytes: Buffer) => void) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#observe = observe;
  }

  /** Whether so many bytes are at hand. */
  has(count: number): boolean {
    return count <= this.#bytes.length - this.#offset;
  }

  /** Reads until they are; rejects if the stream ends before. What was taken is overwritten. */
  async need(count: number): Promise<void> {
    while (!this.has(count)) {
      const next = await this.#chunks.next();
      if (next.done === true) {
        const available = this.#bytes.length - this.#offset;
        throw new Error(`Cannot read ${count} bytes: the stream ended after ${available}`);
      }
      this.#append(next.value);
    }
  }

  /** They must be at hand. */
  take(count: number): Buffer {
    const end = this.#offset + count;
    assert(end <= this.#bytes.length, 'bytes were taken that are not at hand');
    const bytes = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return bytes;
  }

  /** They must be at hand; what was taken before is observed. */
  takeUnobserved(count: number): Buffer {
    this.settle();
    const bytes = this.take(count);
    this.#observed = this.#offset;
    return bytes;
  }

  takeU32(): number {
    const number = this.#bytes.readUInt32LE(this.#offset);
    this.#offset += 4;
    return number;
  }

  /** All that was taken so far is now observed. */
  settle(): void {
    if (this.#observed < this.#offset) {
      this.#observe(this.#bytes.subarray(this.#observed, this.#offset));
    }
    this.#observed = this.#offset;
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#offset === this.#bytes.length) {
      const next = await this.#chunks.next();
      if (next.done === true) return true;
      this.#append(next.value);
    }
    return false;
  }

  /** Ends the stream early. */
  async stop(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** Behind what was not taken, which moves to the front. */
  #append(chunk: Uint8Array): void {
    this.settle();
    const rest = this.#bytes.subarray(this.#offset);
    const size = rest.length + chunk.length;
    if (this.#memory.length < size) {
      const larger = Buffer.allocUnsafeSlow(2 * size);
      larger.set(rest);
      this.#memory = larger;
    } else {
      this.#memory.set(rest);
    }
    this.#memory.set(chunk, rest.length);
    this.#bytes = this.#memory.subarray(0, size);
    this.#offset = 0;
    this.#observed = 0;
  }
}
