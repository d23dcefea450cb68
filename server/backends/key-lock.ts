/**
 * Serialises what is done to one key, in the order of arrival; different keys do not wait for each
 * other. A key costs memory only while somebody holds it, and a queue has a limit, so that
 * a hot key refuses instead of growing.
 */

import assert from 'node:assert/strict';
import { ServerError } from '../errors.ts';

/** Behind one write of a few milliseconds, that many wait a few seconds at most. */
const WAITERS_PER_KEY_MAX = 1024;

export class KeyLock {
  readonly #queues = new Map<string, { holders: number; tail: Promise<void> }>();

  /** Runs `action` when everything that came earlier for `key` has settled. */
  async run<T>(key: string, action: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(key) ?? { holders: 0, tail: Promise.resolve() };
    if (queue.holders > WAITERS_PER_KEY_MAX) {
      throw new ServerError('overloaded', 'too many concurrent writes to one path');
    }
    this.#queues.set(key, queue);
    queue.holders += 1;
    const turn = queue.tail;
    let release = (): void => undefined;
    queue.tail = new Promise((resolve) => (release = resolve));
    await turn;
    try {
      return await action();
    } finally {
      queue.holders -= 1;
      assert(queue.holders >= 0);
      if (queue.holders === 0) this.#queues.delete(key);
      release();
    }
  }

  /** Keys held at this moment. */
  get size(): number {
    return this.#queues.size;
  }
}
