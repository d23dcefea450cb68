/**
 * Tokens as they were last read, under the token itself: a hit costs one look-up and no hash.
 * Storage names a token by its salted id, so entries are also known by that, to be forgotten when
 * the key changes. The oldest entry makes room for the newest.
 */

import type { TokenEntry } from './backend.ts';

export class TokenCache {
  readonly #entries = new Map<string, TokenEntry>();
  /** Salted id to token, and back; batch tokens have none. */
  readonly #idBySaltedId = new Map<string, string>();
  readonly #saltedIdById = new Map<string, string>();
  readonly #sizeMax: number;

  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  get(id: string): TokenEntry | undefined {
    return this.#entries.get(id);
  }

  set(entry: TokenEntry, saltedId: string | undefined): void {
    this.#forget(entry.id);
    if (this.#entries.size >= this.#sizeMax) {
      const oldest = this.#entries.keys().next();
      if (oldest.done !== true) this.#forget(oldest.value);
    }
    this.#entries.set(entry.id, entry);
    if (saltedId === undefined) return;
    this.#idBySaltedId.set(saltedId, entry.id);
    this.#saltedIdById.set(entry.id, saltedId);
  }

  forgetSaltedId(saltedId: string): void {
    const id = this.#idBySaltedId.get(saltedId);
    if (id !== undefined) this.#forget(id);
  }

  clear(): void {
    this.#entries.clear();
    this.#idBySaltedId.clear();
    this.#saltedIdById.clear();
  }

  get size(): number {
    return this.#entries.size;
  }

  #forget(id: string): void {
    this.#entries.delete(id);
    const saltedId = this.#saltedIdById.get(id);
    if (saltedId === undefined) return;
    this.#saltedIdById.delete(id);
    this.#idBySaltedId.delete(saltedId);
  }
}
