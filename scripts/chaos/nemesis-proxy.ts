/** Half the time a partition; else a bad connection: late, slow, with changed bits, or reset. */

import { createPartitionNemesis } from './nemesis-partition.ts';
import { pause, type Nemesis, type NemesisOptions } from './nemesis.ts';
import type { ProxiedNetwork } from './proxied-network.ts';
import type { LinkFaults } from './tcp-proxy.ts';

const BAD_MS = { min: 500, max: 2_500 };
const REST_MS = { min: 200, max: 800 };

/** Latency beyond a heartbeat; a rate below what the load writes; bits that TLS must notice. */
const FAULTS: readonly { readonly what: string; readonly faults: Partial<LinkFaults> }[] = [
  { what: 'late', faults: { delayMs: 60 } },
  { what: 'later than an election', faults: { delayMs: 700 } },
  { what: 'slow', faults: { bytesPerSecond: 20_000 } },
  { what: 'bits flip', faults: { flipShare: 0.02 } },
];

export function createProxyNemesis(options: NemesisOptions, network: ProxiedNetwork): Nemesis {
  const { cluster, random } = options;
  const partitions = createPartitionNemesis('proxy', options, network);

  async function reset(broke: (what: string) => void): Promise<void> {
    for (const id of cluster.ids) network.reset(id);
    broke('all connections reset');
    await pause(random, REST_MS.min, REST_MS.max);
  }

  async function disturb(broke: (what: string) => void): Promise<void> {
    const { what, faults } = random.pick(FAULTS);
    const leader = await cluster.findActive();
    const id = random.pick(cluster.ids);
    try {
      network.disturb(id, faults);
      broke(`${id === leader ? 'leader' : 'follower'} ${what}`);
      await pause(random, BAD_MS.min, BAD_MS.max);
    } finally {
      network.mend();
    }
    await pause(random, REST_MS.min, REST_MS.max);
  }

  return {
    name: 'proxy',
    cycle(broke) {
      if (random.chance(0.5)) return partitions.cycle(broke);
      return random.chance(0.2) ? reset(broke) : disturb(broke);
    },
  };
}
