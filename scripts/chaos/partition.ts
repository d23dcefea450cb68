/** Which links to cut: the ways in which a network falls apart (Jepsen's, TigerBeetle's). */

import type { Random } from '../../server/testing/random.ts';
import { shuffled } from './nemesis.ts';

/** Directed: `from` is not heard by `to`. */
export type Cut = { readonly from: string; readonly to: string };

export type Partition = { readonly what: string; readonly cuts: readonly Cut[] };

type Scene = { readonly ids: readonly string[]; readonly leader: string; readonly random: Random };

const KINDS: readonly ((scene: Scene) => Partition)[] = [
  ({ ids, leader }) => ({ what: 'leader alone', cuts: bothWays([leader], without(ids, leader)) }),
  ({ ids, leader }) => ({
    what: 'leader not heard',
    cuts: without(ids, leader).map((to) => ({ from: leader, to })),
  }),
  ({ ids, leader }) => ({
    what: 'leader hears nobody',
    cuts: without(ids, leader).map((from) => ({ from, to: leader })),
  }),
  ({ ids, leader, random }) => {
    const follower = random.pick(without(ids, leader));
    return { what: 'follower alone', cuts: bothWays([follower], without(ids, follower)) };
  },
  ({ ids, leader, random }) => {
    const follower = random.pick(without(ids, leader));
    return {
      what: 'follower hears nobody',
      cuts: without(ids, follower).map((from) => ({ from, to: follower })),
    };
  },
  ({ ids, random }) => {
    const [, ...others] = shuffled(ids, random);
    const half = Math.floor(others.length / 2);
    const cuts = bothWays(others.slice(0, half), others.slice(half));
    return { what: 'a bridge', cuts };
  },
  ({ ids, random }) => {
    const mixed = shuffled(ids, random);
    const half = random.between(1, ids.length - 1);
    return { what: 'two sides', cuts: bothWays(mixed.slice(0, half), mixed.slice(half)) };
  },
  ({ ids }) => ({
    what: 'everyone alone',
    cuts: ids.flatMap((from) => without(ids, from).map((to) => ({ from, to }))),
  }),
];

export function pickPartition(
  ids: readonly string[],
  leader: string | undefined,
  random: Random,
): Partition {
  return random.pick(KINDS)({ ids, leader: leader ?? random.pick(ids), random });
}

function bothWays(left: readonly string[], right: readonly string[]): Cut[] {
  return left.flatMap((one) =>
    right.flatMap((other) => [
      { from: one, to: other },
      { from: other, to: one },
    ]),
  );
}

function without(ids: readonly string[], id: string): string[] {
  return ids.filter((each) => each !== id);
}
