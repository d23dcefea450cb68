/** A nemesis with the cluster that it needs around it. */

import type { Random } from '../../server/testing/random.ts';
import { startChaosCluster, type ChaosCluster } from './chaos-cluster.ts';
import { createKillNemesis } from './nemesis-kill.ts';
import { createPauseNemesis } from './nemesis-pause.ts';
import type { Nemesis } from './nemesis.ts';

export const NEMESES = ['kill', 'pause'] as const;
export type NemesisName = (typeof NEMESES)[number];

export type Stage = {
  readonly cluster: ChaosCluster;
  readonly nemesis: Nemesis;
  /** Ends what is still running and removes every trace. */
  end(): Promise<void>;
};

export type StageOptions = { readonly nodeCount: number; readonly random: Random };

export async function stageOf(name: NemesisName, options: StageOptions): Promise<Stage> {
  switch (name) {
    case 'kill':
      return plainStage(options, createKillNemesis);
    case 'pause':
      return plainStage(options, createPauseNemesis);
  }
}

async function plainStage(
  { nodeCount, random }: StageOptions,
  create: typeof createKillNemesis,
): Promise<Stage> {
  const cluster = await startChaosCluster({ nodeCount });
  return { cluster, nemesis: create({ cluster, random }), end: () => endCluster(cluster) };
}

async function endCluster(cluster: ChaosCluster): Promise<void> {
  await cluster.stop();
  cluster.remove();
}
