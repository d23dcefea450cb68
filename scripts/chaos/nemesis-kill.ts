/**
 * kill -9 and start again: leaders, followers, majorities; now and then a second time while the
 * node is still starting.
 */

import assert from 'node:assert/strict';

import { pause, pickVictims, type Nemesis, type NemesisOptions } from './nemesis.ts';

const DEAD_MS = { min: 0, max: 600 };
const REST_MS = { min: 50, max: 350 };
const MID_RESTART_SHARE = 0.2;
/** After its start, which a process needs some hundred milliseconds for. */
const MID_RESTART_MS = { min: 50, max: 900 };

export function createKillNemesis(options: NemesisOptions): Nemesis {
  const { cluster, random } = options;

  async function reviveTwice(id: string): Promise<void> {
    // Until it is gone for good, a second kill would meet the process that the first one killed.
    await cluster.node(id).exited;
    const killed = cluster.processId(id);
    // It fails if it is not done before the kill.
    const restarted = cluster.cluster.restart(id).catch(() => undefined);
    await pause(random, MID_RESTART_MS.min, MID_RESTART_MS.max);
    assert(cluster.processId(id) !== killed, `${id} was not started again`);
    cluster.signal(id, 'SIGKILL');
    await restarted;
    await cluster.cluster.restart(id);
  }

  return {
    name: 'kill',
    async cycle(broke) {
      const { what, ids } = await pickVictims(options);
      for (const id of ids) cluster.signal(id, 'SIGKILL');
      broke(what);
      await pause(random, DEAD_MS.min, DEAD_MS.max);
      const twice = random.chance(MID_RESTART_SHARE) ? ids[0] : undefined;
      await Promise.all(
        ids.map((id) => (id === twice ? reviveTwice(id) : cluster.cluster.restart(id))),
      );
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };
}
