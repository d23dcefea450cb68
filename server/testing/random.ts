/** The seeded generator of the simulation: sfc32, with a stream of its own for each concern. */

import assert from 'node:assert/strict';

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** Streams with different names are independent: a new draw in one does not shift the others. */
  constructor(seed: number, stream: string) {
    assert(Number.isSafeInteger(seed) && 0 <= seed, `seed must be a whole number: ${seed}`);
    let hash = 0x811c9dc5;
    for (const character of stream) {
      hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
    }
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 2 ** 32) | 0;
    this.#c = hash | 0;
    // The first outputs still show the seed.
    for (let round = 0; round < 12; round += 1) this.next();
  }

  /** In `[0, 1)`. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A whole number in `[first, last]`. */
  between(first: number, last: number): number {
    return first + Math.floor(this.next() * (last - first + 1));
  }

  bytes(count: number): Buffer {
    return Buffer.from(Array.from({ length: count }, () => this.between(0, 255)));
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.between(0, items.length - 1)];
    assert(item !== undefined, 'pick from nothing');
    return item;
  }
}
