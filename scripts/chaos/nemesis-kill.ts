/**
 * kill -9 and start again: leaders, followers, majorities; now and then a second time while the
 * node is still starting.
 */

import { pause, pickVictims, type Nemesis, type NemesisOptions } from './nemesis.ts';

const DEAD_MS = { min: 0, max: 600 };
const REST_MS = { min: 50, max: 350 };
const MID_RESTART_SHARE = 0.2;
/** Within this time of its start a process is killed again. */
const MID_RESTART_MS_MAX = 900;

export function createKillNemesis(options: NemesisOptions): Nemesis {
  const { cluster, random } = options;

  async function revive(id: string, isKilledAgain: boolean): Promise<void> {
    const restarted = cluster.cluster.restart(id);
    if (!isKilledAgain) return restarted;
    const before = cluster.processId(id);
    await pause(random, 50, MID_RESTART_MS_MAX);
    // Not yet spawned, or done already: then it was no restart to break.
    if (cluster.processId(id) !== before) cluster.signal(id, 'SIGKILL');
    await restarted.then(
      () => undefined,
      () => cluster.cluster.restart(id),
    );
    const node = cluster.nodes.find((each) => each.id === id);
    if (node?.isRunning() === false) await cluster.cluster.restart(id);
    return undefined;
  }

  return {
    name: 'kill',
    async cycle(broke) {
      const { what, ids } = await pickVictims(options);
      for (const id of ids) cluster.signal(id, 'SIGKILL');
      broke(what);
      await pause(random, DEAD_MS.min, DEAD_MS.max);
      const again = random.chance(MID_RESTART_SHARE);
      await Promise.all(ids.map((id, position) => revive(id, again && position === 0)));
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };
}
