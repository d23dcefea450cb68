/** One request and its answer, free of sockets: the same for a client's and a forwarded one. */

import type { StampedRequest } from '../core/exactly-once.ts';
import type { RequestHead } from './request-head.ts';

export type Incoming = {
  readonly id: string;
  /** As written by the client: LIST is LIST. */
  readonly method: string;
  readonly url: string;
  /** Alternating names and values. */
  readonly rawHeaders: readonly string[];
  readonly head: RequestHead;
  readonly body: Buffer;
  /** In place of `body`, for the few requests that are too large to be held. */
  readonly stream?: AsyncIterable<Uint8Array> | undefined;
  /** What it began goes on after its answer, and needs the body until then. */
  readonly outlivedBy?: ((begun: Promise<unknown>) => void) | undefined;
  readonly remoteAddress: string;
  /** Another node forwarded it: it is answered here or nowhere. */
  readonly isForwarded: boolean;
  /** By which it is known if it is executed, or asked for, more than once. */
  readonly stamped?: StampedRequest | undefined;
};

export type Answer = {
  readonly status: number;
  /** Alternating names and values; Content-Length is added when it is sent. */
  readonly headers: string[];
  readonly body: string | Buffer;
  /** In place of `body`, for the few answers that are too large to be held. */
  readonly stream?: AsyncIterable<Uint8Array>;
};

export const EMPTY_BODY = Buffer.alloc(0);
