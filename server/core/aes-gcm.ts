/**
 * AES-256-GCM as every secret of the core is sealed with:
 *
 *   header (as given, may be empty) | nonce (12) | ciphertext | tag (16)
 *
 * The additional data binds a ciphertext to its place; the header is covered by it only if the
 * caller includes it there. Nonces are random: one key may seal about 2^32 values before a repeat
 * becomes conceivable (NIST SP 800-38D §8.3), after which it wants a new key term.
 */

import { createCipheriv, createDecipheriv, randomFillSync, type KeyObject } from 'node:crypto';

export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

const NONE = Buffer.alloc(0);
const ALGORITHM = 'aes-256-gcm';
/** One call of the system's generator pays for so many nonces. */
const NONCES_PER_FILL = 512;

const noncePool = Buffer.alloc(NONCES_PER_FILL * NONCE_BYTES);
let noncePoolOffset = noncePool.length;

export function encrypt(
  key: Uint8Array | KeyObject,
  plaintext: Uint8Array,
  additionalData: Uint8Array,
  header: Uint8Array = NONE,
): Buffer {
  const nonce = nextNonce();
  const cipher = createCipheriv(ALGORITHM, key, nonce);
  cipher.setAAD(additionalData);
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return Buffer.concat([header, nonce, ciphertext, cipher.getAuthTag()]);
}

/**
 * Undefined means: not authentic under this key and additional data, be it the wrong key, a
 * changed byte, or a value moved from elsewhere. Which of them cannot be told.
 */
export function decrypt(
  key: Uint8Array | KeyObject,
  sealed: Uint8Array,
  additionalData: Uint8Array,
  headerBytes = 0,
): Buffer | undefined {
  const start = headerBytes + NONCE_BYTES;
  const end = sealed.length - TAG_BYTES;
  if (end < start) return undefined;
  const decipher = createDecipheriv(ALGORITHM, key, sealed.subarray(headerBytes, start));
  decipher.setAAD(additionalData);
  decipher.setAuthTag(sealed.subarray(end));
  const plaintext = decipher.update(sealed.subarray(start, end));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plaintext;
}

function nextNonce(): Buffer {
  if (noncePoolOffset === noncePool.length) {
    randomFillSync(noncePool);
    noncePoolOffset = 0;
  }
  const nonce = noncePool.subarray(noncePoolOffset, noncePoolOffset + NONCE_BYTES);
  noncePoolOffset += NONCE_BYTES;
  return nonce;
}
