/**
 * What the barrier opened a moment ago, so that a popular secret is decrypted every second or two
 * and not once a request: starting a cipher is the dearest step of a cached read.
 *
 * Plaintext is used for `LIFE_MS_MAX` at most and let go of within twice that, which is less than a
 * garbage-collected heap keeps what a request has left behind. It hangs on the ciphertext object
 * that the physical cache holds: when the cache drops or replaces that, what was opened from it
 * cannot be found again. So there is nothing to invalidate, and no bound is needed beside the
 * cache's own.
 */

/** Lives differ, or all popular values would be decrypted again in one burst. */
const LIFE_MS_MIN = 1_000;
const LIFE_MS_MAX = 2_000;
/** Coprime to the spread, so that successive lives cover it evenly. */
const LIFE_STEP_MS = 167;

type Opened = { readonly path: string; readonly plaintext: Buffer; readonly expireTimeMs: number };

export class OpenedValues {
  #recent = new WeakMap<Uint8Array, Opened>();
  #older = new WeakMap<Uint8Array, Opened>();
  #timer: NodeJS.Timeout | undefined;
  #spreadMs = 0;
  #hasRecent = false;

  /** Only for the path it was opened for: elsewhere the same bytes are not authentic. */
  get(path: string, sealed: Uint8Array): Buffer | undefined {
    const opened = this.#recent.get(sealed) ?? this.#older.get(sealed);
    if (opened === undefined || opened.path !== path) return undefined;
    return Date.now() < opened.expireTimeMs ? opened.plaintext : undefined;
  }

  remember(path: string, sealed: Uint8Array, plaintext: Buffer): void {
    this.#spreadMs = (this.#spreadMs + LIFE_STEP_MS) % (LIFE_MS_MAX - LIFE_MS_MIN);
    const expireTimeMs = Date.now() + LIFE_MS_MIN + this.#spreadMs;
    this.#recent.set(sealed, { path, plaintext, expireTimeMs });
    this.#hasRecent = true;
    this.#timer ??= this.#ageLater();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#hasRecent = false;
    this.#recent = new WeakMap();
    this.#older = new WeakMap();
  }

  #ageLater(): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = this.#hasRecent ? this.#ageLater() : undefined;
      this.#hasRecent = false;
      this.#older = this.#recent;
      this.#recent = new WeakMap();
    }, LIFE_MS_MAX).unref();
  }
}
