/** A nemesis with the cluster that it needs around it. */

import { join } from 'node:path';

import type { NodeSettings } from '../../bench/cluster/node-process.ts';
import type { Random } from '../../server/testing/random.ts';
import { createSmallDisk, type SmallDisk } from '../small-disk.ts';
import { startChaosCluster, type ChaosCluster, type ChaosClusterOptions } from './chaos-cluster.ts';
import { createNamespaces } from './namespaces.ts';
import { createCorruptNemesis } from './nemesis-corrupt.ts';
import { createDiskNemesis } from './nemesis-disk.ts';
import { createKillNemesis } from './nemesis-kill.ts';
import { createMixedNemesis } from './nemesis-mixed.ts';
import { createPartitionNemesis, type Links } from './nemesis-partition.ts';
import { createPauseNemesis } from './nemesis-pause.ts';
import { createProxyNemesis } from './nemesis-proxy.ts';
import type { Nemesis, NemesisOptions } from './nemesis.ts';
import { ProxiedNetwork } from './proxied-network.ts';

export const NEMESES = ['kill', 'pause', 'proxy', 'netns', 'mixed', 'disk', 'corrupt'] as const;
export type NemesisName = (typeof NEMESES)[number];

export type Stage = {
  readonly cluster: ChaosCluster;
  readonly nemesis: Nemesis;
  /** Ends what is still running. What the nodes stored is kept for who has to look into it. */
  end(options: EndOptions): Promise<void>;
};

type EndOptions = { readonly keepsFiles: boolean };

export type StageOptions = Omit<ChaosClusterOptions, 'place'> & { readonly random: Random };

/** Undefined where this process lacks the right to break things in this way. */
export async function stageOf(
  name: NemesisName,
  options: StageOptions,
): Promise<Stage | undefined> {
  switch (name) {
    case 'kill':
      return plainStage(options, createKillNemesis);
    case 'pause':
      return plainStage(options, createPauseNemesis);
    case 'corrupt':
      return plainStage(options, createCorruptNemesis);
    case 'proxy':
      return proxyStage(options);
    case 'netns':
      return namespaceStage(options, createPartitionsOnly);
    case 'mixed':
      return namespaceStage(options, createPartitionsAndKills);
    case 'disk':
      return diskStage(options);
  }
}

async function plainStage(
  { random, ...options }: StageOptions,
  create: (options: NemesisOptions) => Nemesis,
): Promise<Stage> {
  const cluster = await startChaosCluster(options);
  const end = (how: EndOptions): Promise<void> => endCluster(cluster, how);
  return { cluster, nemesis: create({ cluster, random }), end };
}

async function proxyStage({ random, ...options }: StageOptions): Promise<Stage> {
  const network = new ProxiedNetwork(random);
  const place = (settings: NodeSettings): Promise<NodeSettings> => network.place(settings);
  const cluster = await startChaosCluster({ ...options, place });
  const nemesis = createProxyNemesis({ cluster, random }, network);
  const end = async (how: EndOptions): Promise<void> => {
    await endCluster(cluster, how);
    await network.close();
  };
  return { cluster, nemesis, end };
}

async function namespaceStage(
  { random, ...options }: StageOptions,
  create: (options: NemesisOptions, links: Links) => Nemesis,
): Promise<Stage | undefined> {
  const namespaces = createNamespaces();
  if (namespaces === undefined) return undefined;
  const place = (settings: NodeSettings): Promise<NodeSettings> => namespaces.place(settings);
  const cluster = await startChaosCluster({ ...options, place });
  const nemesis = create({ cluster, random }, namespaces);
  const end = async (how: EndOptions): Promise<void> => {
    await endCluster(cluster, how);
    namespaces.remove();
  };
  return { cluster, nemesis, end };
}

function createPartitionsOnly(options: NemesisOptions, links: Links): Nemesis {
  return createPartitionNemesis('netns', options, links);
}

function createPartitionsAndKills(options: NemesisOptions, links: Links): Nemesis {
  const nemeses = [createPartitionsOnly(options, links), createKillNemesis(options)];
  return createMixedNemesis(nemeses, options.random);
}

async function diskStage({ random, ...options }: StageOptions): Promise<Stage | undefined> {
  const disks = new Map<string, SmallDisk>();
  const place = async (settings: NodeSettings): Promise<NodeSettings> => {
    const { id, directory } = settings;
    const disk = disks.get(id) ?? createSmallDisk(join(directory, 'raft'));
    if (disk !== undefined) disks.set(id, disk);
    return settings;
  };
  const cluster = await startChaosCluster({ ...options, place });
  // With the disks what is on them goes, too.
  const end = async (): Promise<void> => {
    await cluster.stop();
    for (const disk of disks.values()) disk.remove();
    cluster.remove();
  };
  if (disks.size < options.nodeCount) {
    await end();
    return undefined;
  }
  return { cluster, nemesis: createDiskNemesis({ cluster, random }, disks), end };
}

async function endCluster(cluster: ChaosCluster, { keepsFiles }: EndOptions): Promise<void> {
  await cluster.stop();
  if (keepsFiles) console.error(`what the nodes stored is in ${cluster.directory}`);
  else cluster.remove();
}
