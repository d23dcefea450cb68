/** What travels between a `RelayedNetwork` and the thread that holds the cluster port. */

import type { ClusterCredentials } from '../core/ports.ts';
import type { Answer } from '../threads/requests.ts';

/** `connection` numbers those that were accepted; `bytes` own their memory. */
export type ToNetwork =
  | { readonly kind: 'bind'; readonly request: number }
  | { readonly kind: 'listen'; readonly request: number; readonly credentials: ClusterCredentials }
  | { readonly kind: 'suspend' }
  | { readonly kind: 'close'; readonly request: number }
  | { readonly kind: 'write'; readonly connection: number; readonly bytes: Uint8Array }
  | { readonly kind: 'consumed'; readonly connection: number; readonly byteCount: number }
  | { readonly kind: 'destroy'; readonly connection: number };

export type FromNetwork =
  /** With the bound port. */
  | { readonly kind: 'answer'; readonly request: number; readonly answer: Answer<number> }
  | { readonly kind: 'connected'; readonly connection: number }
  | { readonly kind: 'data'; readonly connection: number; readonly bytes: Uint8Array }
  | { readonly kind: 'written'; readonly connection: number; readonly byteCount: number }
  | { readonly kind: 'closed'; readonly connection: number };

/** Sent to the other thread and not confirmed, for each connection and direction. */
export const RELAY_WINDOW_BYTES = 1024 * 1024;

/** A copy that can be given away: a chunk of a socket may be a slice of something larger. */
export function owned(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(chunk);
}
