/**
 * Takes counted runs of bytes from a stream of chunks of any size. Only where the stream has to be
 * read is there anything to wait for: a promise for each of a million short runs would cost more
 * than all that is done with them.
 */

import assert from 'node:assert/strict';

import type { StoreStream } from './store.ts';

export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #observe: (bytes: Buffer) => void;
  #bytes: Buffer = Buffer.alloc(0);
  #offset = 0;
  /** Up to where `#bytes` have been observed. */
  #observed = 0;

  /** `observe` sees all bytes that `take` returns, in order, but not at once: see `settle`. */
  constructor(chunks: StoreStream, observe: (bytes: Buffer) => void) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#observe = observe;
  }

  /**
   * Returns nothing if the next `count` bytes are at hand; otherwise a promise that resolves when
   * they are, and rejects if the stream ends before.
   */
  need(count: number): Promise<void> | undefined {
    return count <= this.#bytes.length - this.#offset ? undefined : this.#fill(count);
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
      this.#replace(Buffer.from(next.value));
    }
    return false;
  }

  /** Ends the stream early. */
  async stop(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #fill(count: number): Promise<void> {
    const parts: Uint8Array[] = [this.#bytes.subarray(this.#offset)];
    for (let available = this.#bytes.length - this.#offset; available < count;) {
      const next = await this.#chunks.next();
      if (next.done === true) {
        throw new Error(`Cannot read ${count} bytes: the stream ended after ${available}`);
      }
      parts.push(next.value);
      available += next.value.length;
    }
    this.#replace(Buffer.concat(parts));
  }

  /** By what follows all that was taken. */
  #replace(bytes: Buffer): void {
    this.settle();
    this.#bytes = bytes;
    this.#offset = 0;
    this.#observed = 0;
  }
}
