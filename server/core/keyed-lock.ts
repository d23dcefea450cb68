/** Runs actions on one key one after the other, actions on different keys side by side. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, action: () => Promise<T>): Promise<T> {
    const release = await this.acquire(key);
    try {
      return await action();
    } finally {
      release();
    }
  }

  /** Resolves when the key is free, with what frees it again. */
  async acquire(key: string): Promise<() => void> {
    const before = this.#tails.get(key);
    let release = (): void => undefined;
    const tail = new Promise<void>((resolve) => {
      release = () => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
        resolve();
      };
    });
    this.#tails.set(key, tail);
    await before;
    return release;
  }
}
