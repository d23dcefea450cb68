/**
 * What the barrier opened within the last second, so that a popular secret is decrypted once a
 * second and not once a request: starting a cipher is the dearest step of a cached read.
 *
 * Plaintext lives here for `OPENED_MS` at most, which is less than a garbage-collected heap keeps
 * what a request has left behind. It hangs on the ciphertext object that the physical cache holds:
 * when the cache drops or replaces that, what was opened from it cannot be found again. So there is
 * nothing to invalidate, and no bound is needed beside the cache's own.
 */

const OPENED_MS = 1_000;

type Opened = { readonly path: string; readonly plaintext: Buffer };

export class OpenedValues {
  #bySealed = new WeakMap<Uint8Array, Opened>();
  #timer: NodeJS.Timeout | undefined;

  /** Only for the path it was opened for: elsewhere the same bytes are not authentic. */
  get(path: string, sealed: Uint8Array): Buffer | undefined {
    const opened = this.#bySealed.get(sealed);
    return opened?.path === path ? opened.plaintext : undefined;
  }

  remember(path: string, sealed: Uint8Array, plaintext: Buffer): void {
    this.#bySealed.set(sealed, { path, plaintext });
    this.#timer ??= setTimeout(() => this.clear(), OPENED_MS).unref();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#bySealed = new WeakMap();
  }
}
