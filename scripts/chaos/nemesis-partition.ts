/** Cuts links between nodes, one way or both, and mends them; clients reach every node meanwhile. */

import { pause, type Nemesis, type NemesisOptions } from './nemesis.ts';
import { pickPartition, type Cut } from './partition.ts';

export type Links = {
  cut(cuts: readonly Cut[]): void;
  mend(): void;
};

const APART_MS = { min: 300, max: 3_000 };
const REST_MS = { min: 200, max: 1_200 };

export function createPartitionNemesis(
  name: string,
  { cluster, random }: NemesisOptions,
  links: Links,
): Nemesis {
  return {
    name,
    async cycle(broke) {
      const { what, cuts } = pickPartition(cluster.ids, await cluster.findActive(), random);
      try {
        links.cut(cuts);
        broke(what);
        await pause(random, APART_MS.min, APART_MS.max);
      } finally {
        links.mend();
      }
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };
}
