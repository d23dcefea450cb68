/** Takes counted runs of bytes from a stream of chunks of any size. */

import type { StoreStream } from './store.ts';

export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #observe: (bytes: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  /** `observe` sees all bytes that `take` returns, in order. */
  constructor(chunks: StoreStream, observe: (bytes: Buffer) => void) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#observe = observe;
  }

  /** Returns exactly `count` bytes; throws if the stream ends before. */
  async take(count: number): Promise<Buffer> {
    const bytes = await this.takeUnobserved(count);
    this.#observe(bytes);
    return bytes;
  }

  async takeUnobserved(count: number): Promise<Buffer> {
    if (this.#rest.length < count) await this.#fill(count);
    const bytes = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return bytes;
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return true;
      this.#rest = Buffer.from(next.value);
    }
    return false;
  }

  /** Ends the stream early. */
  async stop(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #fill(count: number): Promise<void> {
    const parts: Uint8Array[] = [this.#rest];
    for (let available = this.#rest.length; available < count;) {
      const next = await this.#chunks.next();
      if (next.done === true) {
        throw new Error(`Cannot read ${count} bytes: the stream ended after ${available}`);
      }
      parts.push(next.value);
      available += next.value.length;
    }
    this.#rest = Buffer.concat(parts);
  }
}
