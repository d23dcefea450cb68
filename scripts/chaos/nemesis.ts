/**
 * What breaks things. A nemesis goes in cycles: each breaks something, lets it last for a moment,
 * and mends it, so that after any number of them the cluster is whole.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { Random } from '../../server/testing/random.ts';
import type { ChaosCluster } from './chaos-cluster.ts';

export type Nemesis = {
  readonly name: string;
  /** `broke` is to be called at the moment of the damage, with a word for it. */
  cycle(broke: (what: string) => void): Promise<void>;
};

export type NemesisOptions = {
  readonly cluster: ChaosCluster;
  readonly random: Random;
};

/** The roles that a damage is meant for. */
export type Victims = { readonly what: string; readonly ids: readonly string[] };

/** Mostly the leader, often a follower, sometimes so many that no majority is left. */
export async function pickVictims({ cluster, random }: NemesisOptions): Promise<Victims> {
  const leader = await cluster.findActive();
  const followers = cluster.ids.filter((id) => id !== leader);
  const follower = random.pick(followers);
  if (leader === undefined) return { what: 'follower', ids: [follower] };
  const draw = random.next();
  if (draw < 0.5) return { what: 'leader', ids: [leader] };
  if (draw < 0.85) return { what: 'follower', ids: [follower] };
  return {
    what: 'majority',
    ids: [leader, ...shuffled(followers, random)].slice(0, majority(cluster)),
  };
}

export function majority({ ids }: ChaosCluster): number {
  return Math.floor(ids.length / 2) + 1;
}

export function shuffled<T>(items: readonly T[], random: Random): T[] {
  return items
    .map((item) => ({ item, rank: random.next() }))
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

export async function pause(random: Random, msMin: number, msMax: number): Promise<void> {
  await delay(random.between(msMin, msMax));
}
