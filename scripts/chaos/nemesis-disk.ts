/**
 * Fills the disk of a node. A node that cannot write must end rather than go on with less than it
 * has promised; it is started again when there is room.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { SmallDisk } from '../small-disk.ts';
import { pause, type Nemesis, type NemesisOptions } from './nemesis.ts';

const BYTES_LEFT_MAX = 16 * 1024;
/** It has to write something before it notices. */
const NOTICE_MS = 6_000;
const REST_MS = { min: 300, max: 1_000 };

export function createDiskNemesis(
  { cluster, random }: NemesisOptions,
  disks: ReadonlyMap<string, SmallDisk>,
): Nemesis {
  return {
    name: 'disk',
    async cycle(broke) {
      const leader = await cluster.findActive();
      const id = leader !== undefined && random.chance(0.5) ? leader : random.pick(cluster.ids);
      const node = cluster.node(id);
      const disk = disks.get(id);
      if (disk === undefined) throw new Error(`no small disk for ${id}`);
      disk.leave(random.between(0, BYTES_LEFT_MAX), node.processId);
      const role = id === leader ? 'leader' : 'follower';
      broke(`${role} with a full disk`);
      const hasEnded = await Promise.race([node.exited.then(() => true), delay(NOTICE_MS, false)]);
      disk.free();
      if (hasEnded) await cluster.cluster.restart(id);
      else broke(`${role} did not notice`);
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };
}
