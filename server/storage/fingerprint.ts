/**
 * What a transaction carries of the things it read, so that every replica can tell whether they
 * are still the same: SHA-256 of a value, or of the names of a listing. (OpenBao sends SHA-384,
 * internal/physical/raft/transaction.go; no secret is hashed here, so that length extension, for
 * which it was chosen, gains nobody anything.)
 */

import { createHash } from 'node:crypto';

export const FINGERPRINT_BYTES = 32;

/** No value hashes to this: unlike in OpenBao, an empty value is not an absent one. */
const ABSENT = Buffer.alloc(FINGERPRINT_BYTES);

export function fingerprintOf(value: Uint8Array | undefined): Buffer {
  return value === undefined ? ABSENT : createHash('sha256').update(value).digest();
}

/** Each name with its length before it: no two listings run together into the same bytes. */
export function fingerprintOfList(children: readonly string[]): Buffer {
  const hash = createHash('sha256');
  for (const child of children) hash.update(`${Buffer.byteLength(child)}:${child}`);
  return hash.digest();
}
