import { ServerError } from '../errors.ts';

/** Behind a write of a few milliseconds, that many wait a few seconds at most. */
const HOLDERS_PER_KEY_MAX = 1024;

type Queue = { holders: number; tail: Promise<void> };

/**
 * Runs actions on one key one after the other, actions on different keys side by side. A key costs
 * memory only while somebody holds it, and its queue has a limit.
 */
export class KeyedLock {
  readonly #queues = new Map<string, Queue>();

  async run<T>(key: string, action: () => Promise<T>): Promise<T> {
    const release = await this.acquire(key);
    try {
      return await action();
    } finally {
      release();
    }
  }

  /** Resolves when the key is free, with what frees it again. Throws `overloaded` at the limit. */
  async acquire(key: string): Promise<() => void> {
    const queue = this.#queues.get(key) ?? { holders: 0, tail: Promise.resolve() };
    if (HOLDERS_PER_KEY_MAX <= queue.holders) {
      throw new ServerError('overloaded', 'too many concurrent changes of one token');
    }
    this.#queues.set(key, queue);
    queue.holders += 1;
    const turn = queue.tail;
    let free = (): void => undefined;
    queue.tail = new Promise<void>((resolve) => (free = resolve));
    await turn;
    return () => {
      queue.holders -= 1;
      if (queue.holders === 0) this.#queues.delete(key);
      free();
    };
  }

  /** Keys held at this moment. */
  get size(): number {
    return this.#queues.size;
  }
}
