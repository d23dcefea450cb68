/**
 * Which keys are written: a few at a time, each for a limited number of writes, then others. So
 * histories stay short per key, every version is kept, and a write that hangs spoils one key only.
 */

import type { Random } from '../../server/testing/random.ts';

/** Of the keys in use; more would hardly ever meet. */
const ACTIVE_KEYS = 8;
/** Each version is listed in every entry of its key: the log grows with the square. */
const WRITES_PER_KEY = 24;

type ActiveKey = { readonly key: string; writeCount: number };

export class Keyspace {
  readonly #random: Random;
  readonly #active: ActiveKey[] = [];
  readonly #keys: string[] = [];

  constructor(random: Random) {
    this.#random = random;
    while (this.#active.length < ACTIVE_KEYS) this.#active.push(this.#create());
  }

  /** Every key that was ever in use. */
  get keys(): readonly string[] {
    return this.#keys;
  }

  keyToRead(): string {
    return this.#random.pick(this.#active).key;
  }

  keyToWrite(): string {
    const position = this.#random.between(0, ACTIVE_KEYS - 1);
    const active = this.#active[position] ?? this.#create();
    active.writeCount += 1;
    if (active.writeCount === WRITES_PER_KEY) this.#active[position] = this.#create();
    return active.key;
  }

  #create(): ActiveKey {
    const key = `k${this.#keys.length + 1}`;
    this.#keys.push(key);
    return { key, writeCount: 0 };
  }
}

/** Of a mount that must never drop one. */
export const VERSIONS_MAX = 4 * WRITES_PER_KEY;
