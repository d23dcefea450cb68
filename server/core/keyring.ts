/**
 * The barrier's data keys, one per term. The newest seals, every one of them opens: old values
 * stay readable after a rotation. Stored at `core/keyring`, sealed under the root key.
 *
 * Invariant: terms are 1, 2, 3 without a gap, and a term's key never changes.
 */

import assert from 'node:assert/strict';
import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { KEY_BYTES } from './aes-gcm.ts';

/** `cipherKey` is the same key in OpenSSL's hands: starting a cipher with it saves two microseconds. */
type KeyTerm = {
  readonly installTimeMs: number;
  readonly key: Buffer;
  readonly cipherKey: KeyObject;
};

export class Keyring {
  #terms: readonly KeyTerm[];

  private constructor(terms: readonly KeyTerm[]) {
    assert(terms.length > 0, 'a keyring has at least one term');
    for (const { key } of terms) assert.equal(key.length, KEY_BYTES);
    this.#terms = terms;
  }

  static create(nowMs: number): Keyring {
    return new Keyring([keyTerm(nowMs, randomBytes(KEY_BYTES))]);
  }

  static parse(bytes: Uint8Array): Keyring {
    const stored: unknown = JSON.parse(Buffer.from(bytes).toString());
    assert(typeof stored === 'object' && stored !== null && 'keys' in stored);
    assert(Array.isArray(stored.keys));
    return new Keyring(stored.keys.map(parseTerm));
  }

  /** A keyring with one more term, which is then the active one. */
  rotated(nowMs: number): Keyring {
    return new Keyring([...this.#terms, keyTerm(nowMs, randomBytes(KEY_BYTES))]);
  }

  get activeTerm(): number {
    return this.#terms.length;
  }

  key(term: number): KeyObject | undefined {
    return this.#terms[term - 1]?.cipherKey;
  }

  installTimeMs(term: number): number {
    const found = this.#terms[term - 1];
    assert(found !== undefined, 'no such key term');
    return found.installTimeMs;
  }

  /** Plaintext of the keys: only ever to be sealed at once. */
  serialize(): Buffer {
    const keys = this.#terms.map(({ installTimeMs, key }, position) => ({
      term: position + 1,
      install_time_ms: installTimeMs,
      value: key.toString('base64'),
    }));
    return Buffer.from(JSON.stringify({ keys }));
  }

  /** Overwrites the keys in memory; OpenSSL does the same when it frees its own. */
  destroy(): void {
    for (const { key } of this.#terms) key.fill(0);
    this.#terms = [];
  }
}

function parseTerm(stored: unknown, position: number): KeyTerm {
  assert(typeof stored === 'object' && stored !== null);
  assert('term' in stored && stored.term === position + 1, 'keyring terms are not contiguous');
  assert('value' in stored && typeof stored.value === 'string');
  assert('install_time_ms' in stored && typeof stored.install_time_ms === 'number');
  return keyTerm(stored.install_time_ms, Buffer.from(stored.value, 'base64'));
}

function keyTerm(installTimeMs: number, key: Buffer): KeyTerm {
  return { installTimeMs, key, cipherKey: createSecretKey(key) };
}
