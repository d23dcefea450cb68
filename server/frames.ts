/**
 * Cuts a byte stream into frames: `u32 length | payload`, little-endian, `length` without itself.
 *
 * The stream comes from an authenticated peer, yet nothing in it is believed: a length beyond the
 * limit ends the stream before anything of that size is allocated.
 */

const LENGTH_BYTES = 4;

/** What a peer sent breaks the format; the connection cannot be read any further. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

export class FrameReader {
  readonly #payloadBytesMax: number;
  /** Of the next frame: the first one may have a limit of its own. */
  #limit: number;
  #length = Buffer.allocUnsafe(LENGTH_BYTES);
  #lengthFilled = 0;
  /** The payload that is being filled, once its length is known and no chunk holds it whole. */
  #payload: Buffer | undefined;
  #payloadFilled = 0;

  /** A stranger is believed less: its first frame may be bounded more tightly than what follows. */
  constructor(payloadBytesMax: number, firstPayloadBytesMax = payloadBytesMax) {
    this.#payloadBytesMax = payloadBytesMax;
    this.#limit = firstPayloadBytesMax;
  }

  /**
   * Returns the payloads that `chunk` completes, in order. They may share the chunk's memory: copy
   * what is kept. Throws `FrameError` on an empty or oversized frame.
   */
  push(chunk: Buffer): Buffer[] {
    const payloads: Buffer[] = [];
    let position = 0;
    while (position < chunk.length) {
      if (this.#payload === undefined) {
        const count = Math.min(LENGTH_BYTES - this.#lengthFilled, chunk.length - position);
        chunk.copy(this.#length, this.#lengthFilled, position, position + count);
        this.#lengthFilled += count;
        position += count;
        if (this.#lengthFilled < LENGTH_BYTES) break;
        const length = this.#checkedLength();
        this.#lengthFilled = 0;
        if (length <= chunk.length - position) {
          payloads.push(chunk.subarray(position, position + length));
          position += length;
          continue;
        }
        this.#payload = Buffer.allocUnsafeSlow(length);
        this.#payloadFilled = 0;
      }
      const count = Math.min(this.#payload.length - this.#payloadFilled, chunk.length - position);
      chunk.copy(this.#payload, this.#payloadFilled, position, position + count);
      this.#payloadFilled += count;
      position += count;
      if (this.#payloadFilled === this.#payload.length) {
        payloads.push(this.#payload);
        this.#payload = undefined;
      }
    }
    return payloads;
  }

  #checkedLength(): number {
    const length = this.#length.readUInt32LE(0);
    if (length === 0 || length > this.#limit) {
      throw new FrameError(`frame of ${length} bytes, allowed are 1 to ${this.#limit}`);
    }
    this.#limit = this.#payloadBytesMax;
    return length;
  }
}

/** The length prefix of a frame whose payload has `payloadBytes` bytes. */
export function frameLength(payloadBytes: number): Buffer {
  const length = Buffer.allocUnsafe(LENGTH_BYTES);
  length.writeUInt32LE(payloadBytes, 0);
  return length;
}
