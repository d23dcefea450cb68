/** Which levels of reads the server offers: a level that it does not confirm is not asked for. */

import type { ReadLevel } from '../../server/testing/history/operation.ts';
import type { ChaosCluster } from './chaos-cluster.ts';
import type { KvClient } from './kv-client.ts';

const BASE: readonly ReadLevel[] = ['stale', 'session'];
const OPTIONAL: readonly ReadLevel[] = ['linearizable', 'bounded'];
/** So generous that a bound never fails for it. */
const BOUND_NS = 10e9;
const ATTEMPTS = 5;

export async function probeLevels(cluster: ChaosCluster, client: KvClient): Promise<ReadLevel[]> {
  const levels = [...BASE];
  for (const level of OPTIONAL) {
    if (await isOffered(level, cluster, client)) levels.push(level);
  }
  return levels;
}

async function isOffered(
  level: ReadLevel,
  { nodes }: ChaosCluster,
  client: KvClient,
): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const address = nodes[attempt % nodes.length]?.address ?? '';
    const call = { kind: 'read', level, boundNs: BOUND_NS } as const;
    const { outcome } = await client.call(address, 'probe', call);
    if (outcome.kind === 'ok') return true;
  }
  return false;
}
