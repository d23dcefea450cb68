/** Which key comes next: uniform, zipfian, latest, or sequential. */

import assert from 'node:assert/strict';
import type { KeyChooser } from '../bench/load/plan.ts';
import type { Random } from '../bench/random.ts';

/** YCSB's constant: a few keys get most of the requests. */
const ZIPFIAN_THETA = 0.99;

export type KeyDistribution =
  | 'uniform'
  /** Popularity falls as 1 / rank^0.99; popular keys are scattered over the key space. */
  | 'zipfian'
  /** Writes go round the key space; reads are zipfian from the newest write backwards. */
  | 'latest'
  | 'sequential';

export function keyChooser(
  distribution: KeyDistribution,
  keyCount: number,
  random: Random,
): KeyChooser {
  assert(0 < keyCount, `a key space needs a key: ${keyCount}`);
  switch (distribution) {
    case 'uniform':
      return { next: () => random.below(keyCount) };
    case 'zipfian': {
      const nextRank = zipfianRanks(keyCount, random);
      const keyOfRank = scatter(keyCount);
      return { next: () => keyOfRank(nextRank()) };
    }
    case 'latest':
      return latest(keyCount, random);
    case 'sequential': {
      let count = 0;
      return { next: () => count++ % keyCount };
    }
  }
}

function latest(keyCount: number, random: Random): KeyChooser {
  const nextRank = zipfianRanks(keyCount, random);
  // The preload has written all keys in order: the last one is the newest.
  let newest = keyCount - 1;
  return {
    next: (writes) => {
      // A write draws too: reads that follow it keep their random numbers.
      const rank = nextRank();
      if (!writes) return (newest - rank + keyCount) % keyCount;
      newest = (newest + 1) % keyCount;
      return newest;
    },
  };
}

/**
 * Returns ranks in [0, `keyCount`), rank r with probability proportional to 1 / (r + 1)^theta.
 *
 * Exact, by bisection in the table of cumulated weights: the usual approximation (Gray et al.,
 * SIGMOD'94) is off by some per cent in the first ranks, which carry most of the load.
 */
function zipfianRanks(keyCount: number, random: Random): () => number {
  const cumulated = new Float64Array(keyCount);
  let sum = 0;
  for (let rank = 0; rank < keyCount; rank++) {
    sum += (rank + 1) ** -ZIPFIAN_THETA;
    cumulated[rank] = sum;
  }
  return () => {
    const wanted = random.next() * sum;
    let start = 0;
    let end = keyCount - 1;
    while (start < end) {
      const middle = (start + end) >>> 1;
      if ((cumulated[middle] ?? 0) <= wanted) start = middle + 1;
      else end = middle;
    }
    return start;
  };
}

/** A bijection of [0, `keyCount`) that leaves no neighbors together: popular keys share no block. */
function scatter(keyCount: number): (rank: number) => number {
  let step = Math.floor(keyCount * 0.618033988749895) | 1;
  while (greatestCommonDivisor(step, keyCount) !== 1) step += 2;
  return (rank) => Number((BigInt(rank) * BigInt(step)) % BigInt(keyCount));
}

function greatestCommonDivisor(left: number, right: number): number {
  return right === 0 ? left : greatestCommonDivisor(right, left % right);
}
