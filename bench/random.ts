/**
 * The one seeded generator of the bench.
 *
 * A run draws from one independent stream per concern, so that a change in one (say, a further
 * operation in the mix) does not reshuffle another (the keys): runs of the same seed then share
 * their random numbers, which is what makes paired comparisons sharp.
 */

import assert from 'node:assert/strict';

const TWO_POW_26 = 0x4000000;
const TWO_POW_53 = 0x20000000000000;

export type RandomStream =
  'arrival' | 'operation' | 'key' | 'size' | 'route' | 'value' | 'order' | 'resample';

export type Random = {
  /** Returns a number in [0, 1) with 53 random bits. */
  next(): number;
  /** Returns an integer in [0, `count`). */
  below(count: number): number;
};

/** Returns the named stream of `seed`. Equal arguments give equal sequences. */
export function createRandom(seed: number, stream: RandomStream): Random {
  assert(Number.isSafeInteger(seed), `seed must be an integer: ${seed}`);
  const next32 = sfc32(seedWords(`${seed}/${stream}`));

  const next = (): number => ((next32() >>> 5) * TWO_POW_26 + (next32() >>> 6)) / TWO_POW_53;
  return { next, below: (count) => Math.floor(next() * count) };
}

/** Chris Doty-Humphrey's sfc32: 128 bits of state, passes PractRand to 16 TB. */
function sfc32(words: readonly [number, number, number]): () => number {
  let [a, b, c] = words;
  let counter = 1;
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  // The author's own warm-up: the first outputs are still close to the seed.
  for (let round = 0; round < 12; round++) next();
  return next;
}

/** Spreads a label over three words (FNV-1a, then the murmur3 finalizer). */
function seedWords(label: string): [number, number, number] {
  const word = (salt: number): number => {
    let hash = (0x811c9dc5 ^ salt) | 0;
    for (let index = 0; index < label.length; index++) {
      hash = Math.imul(hash ^ label.charCodeAt(index), 0x01000193);
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return hash ^ (hash >>> 16);
  };
  return [word(0x9e3779b9), word(0x243f6a88), word(0xb7e15162)];
}
