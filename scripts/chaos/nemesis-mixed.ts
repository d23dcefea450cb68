/** Several nemeses of one cluster: one at a time, or two of them at once. */

import type { Random } from '../../server/testing/random.ts';
import { shuffled, type Nemesis } from './nemesis.ts';

const AT_ONCE_SHARE = 0.4;

export function createMixedNemesis(nemeses: readonly Nemesis[], random: Random): Nemesis {
  return {
    name: 'mixed',
    async cycle(broke) {
      const count = random.chance(AT_ONCE_SHARE) ? 2 : 1;
      const chosen = shuffled(nemeses, random).slice(0, count);
      // All are waited for also where one fails: what it broke is not left behind.
      const ends = await Promise.allSettled(chosen.map((nemesis) => nemesis.cycle(broke)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
  };
}
