/**
 * SIGSTOP, and SIGCONT after a while: a process that misses an election and comes back with all
 * its sockets, timers and beliefs as they were (etcd #20418).
 */

import { pause, pickVictims, type Nemesis, type NemesisOptions } from './nemesis.ts';

const STOPPED_MS = { min: 100, max: 2_500 };
const REST_MS = { min: 200, max: 1_000 };

export function createPauseNemesis(options: NemesisOptions): Nemesis {
  const { cluster, random } = options;
  return {
    name: 'pause',
    async cycle(broke) {
      const { what, ids } = await pickVictims(options);
      try {
        for (const id of ids) cluster.signal(id, 'SIGSTOP');
        broke(what);
        await pause(random, STOPPED_MS.min, STOPPED_MS.max);
      } finally {
        for (const id of ids) cluster.signal(id, 'SIGCONT');
      }
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };
}
