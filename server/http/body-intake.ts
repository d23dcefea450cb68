/**
 * Bodies on their way in. Each has a limit, and all that are held at one time have one together:
 * else as many clients as there may be connections could each fill theirs.
 */

import type { IncomingMessage } from 'node:http';
import { ServerError } from '../errors.ts';
import { EMPTY_BODY } from './exchange.ts';

/** Held at one time: received, and of requests that have not ended, be they answered or not. */
export const HELD_BODY_BYTES_MAX = 256 * 1024 * 1024;

/**
 * A client may send its body byte by byte, and a chunk of one byte takes two hundred: so many are
 * put together.
 */
const LOOSE_CHUNKS_MAX = 1024;

export type BodyLimits = {
  readonly bodyBytesMax: number;
  readonly heldBytesMax: number;
};

export type HeldBody = {
  readonly body: Buffer;
  /** To be called once, when the body is needed no more. */
  readonly release: () => void;
};

export class BodyIntake {
  readonly #limits: BodyLimits;
  #heldBytes = 0;

  constructor(limits: BodyLimits) {
    this.#limits = limits;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * Rejects with `too-large`, `overloaded` if all bodies together are too many, or
   * `invalid-request` for a body that ends early; then nothing of it is held.
   */
  receive(request: IncomingMessage, announcedBytes: number): Promise<HeldBody> {
    const { bodyBytesMax, heldBytesMax } = this.#limits;
    return new Promise((resolve, reject) => {
      const parts = new Parts();
      let size = 0;
      const release = (): void => {
        this.#heldBytes -= size;
        size = 0;
      };
      const refuse = (error: ServerError): void => {
        request.off('data', onData);
        release();
        parts.clear();
        reject(error);
      };
      const onData = (chunk: Buffer): void => {
        size += chunk.length;
        this.#heldBytes += chunk.length;
        if (bodyBytesMax < size) refuse(bodyTooLarge());
        else if (heldBytesMax < this.#heldBytes) refuse(tooManyBodies());
        else parts.add(chunk);
      };
      if (bodyBytesMax < announcedBytes) {
        reject(bodyTooLarge());
        return;
      }
      // It will not fit: better said before it is sent.
      if (heldBytesMax < this.#heldBytes + Math.max(0, announcedBytes)) {
        reject(tooManyBodies());
        return;
      }
      request.on('data', onData);
      request.once('end', () => resolve({ body: parts.take(), release }));
      request.once('error', () => refuse(new ServerError('invalid-request', 'error reading data')));
    });
  }
}

class Parts {
  #joined: Buffer[] = [];
  #loose: Buffer[] = [];

  add(chunk: Buffer): void {
    this.#loose.push(chunk);
    if (this.#loose.length < LOOSE_CHUNKS_MAX) return;
    this.#joined.push(Buffer.concat(this.#loose));
    this.#loose = [];
  }

  take(): Buffer {
    const [first = EMPTY_BODY, ...rest] = [...this.#joined, ...this.#loose];
    this.clear();
    return rest.length === 0 ? first : Buffer.concat([first, ...rest]);
  }

  clear(): void {
    this.#joined = [];
    this.#loose = [];
  }
}

function bodyTooLarge(): ServerError {
  return new ServerError('too-large', 'http: request body too large');
}

/** Nothing was executed: the client may come again. */
function tooManyBodies(): ServerError {
  return new ServerError('overloaded', 'too many bytes of request bodies are being held');
}
