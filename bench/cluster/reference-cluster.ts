/**
 * A cluster of the reference server on loopback: one process per node, each with its own data
 * directory, initialised, unsealed and joined through the HTTP API as an operator would do it.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Mode } from '../run.ts';
import { call, expectOk } from './admin-api.ts';
import type { CpuGroup, CpuGroups } from './cpu-group.ts';
import { startNode, type NodeProcess, type NodeSettings } from './node-process.ts';

export type ClusterOptions = {
  /** Prefix of node ids: `a` gives `a1`, `a2`, ... */
  readonly name: string;
  readonly mode: Mode;
  /** Where data directories are made; a temporary directory if absent. */
  readonly directory?: string;
  readonly server?: NodeSettings['server'];
  readonly storage?: NodeSettings['storage'];
  readonly listener?: NodeSettings['listener'];
  readonly launcher?: NodeSettings['launcher'];
  readonly cpuGroups?: CpuGroups | undefined;
  /** The last word on a node's settings, each time it starts: other addresses, another launcher. */
  readonly place?: ((settings: NodeSettings) => Promise<NodeSettings>) | undefined;
};

export type ClusterNode = NodeProcess & { readonly cpuGroup: CpuGroup | undefined };

export type Cluster = {
  readonly mode: Mode;
  readonly token: string;
  readonly unsealKey: string;
  readonly directory: string;
  nodes(): readonly ClusterNode[];
  /** Adds nodes until there are `count`, and waits until all serve. */
  grow(count: number): Promise<void>;
  /** The node that `sys/leader` names, asked of every living node until one knows. */
  active(): Promise<ClusterNode>;
  /** Starts a stopped or killed node again on its data, and unseals it. */
  restart(id: string): Promise<void>;
  /** Sets every node's CPU quota; null lifts it. */
  setQuota(cores: number | null): void;
  stop(): Promise<void>;
};

const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 20;

/** Starts a cluster of one; `grow` makes it larger. */
export async function startReferenceCluster(options: ClusterOptions): Promise<Cluster> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'baobench-'));
  const settingsById = new Map<string, NodeSettings>();
  const nodes: ClusterNode[] = [];

  async function start(settings: NodeSettings): Promise<ClusterNode> {
    const node = await startNode((await options.place?.(settings)) ?? settings);
    let cpuGroup: CpuGroup | undefined;
    try {
      cpuGroup = options.cpuGroups?.create(`${node.id}-${node.processId}`);
      cpuGroup?.add(node.processId);
      return { ...node, cpuGroup };
    } catch (error) {
      await node.stop();
      cpuGroup?.remove();
      throw error;
    }
  }

  async function add(): Promise<ClusterNode> {
    const id = `${options.name}${nodes.length + 1}`;
    const [apiPort, clusterPort] = await freePorts(2);
    const settings: NodeSettings = {
      id,
      directory: join(directory, id),
      host: '127.0.0.1',
      apiPort: apiPort ?? 0,
      clusterPort: clusterPort ?? 0,
      server: { ...options.server, disable_standby_reads: options.mode === 'baseline' },
      storage: { ...options.storage },
      listener: { ...options.listener },
      launcher: options.launcher,
    };
    settingsById.set(id, settings);
    const node = await start(settings);
    nodes.push(node);
    return node;
  }

  async function unseal(node: ClusterNode): Promise<void> {
    await expectOk('PUT', 'sys/unseal', { address: node.address, body: { key: unsealKey } });
    await until(`${node.id} serves or ends`, async () => {
      if (!node.isRunning()) return true;
      const health = await call('GET', 'sys/health?standbyok=true', node);
      if (health.status !== 200) return false;
      return (
        (await call('GET', 'auth/token/lookup-self', { address: node.address, token })).status ===
        200
      );
    });
    if (!node.isRunning()) throw new Error(`node ${node.id} ended before it served`);
  }

  async function grow(count: number): Promise<void> {
    const joiners: ClusterNode[] = [];
    while (nodes.length < count) joiners.push(await add());
    for (const node of joiners) {
      await expectOk('POST', 'sys/storage/raft/join', {
        address: node.address,
        body: { leader_api_addr: first.address },
      });
      await unseal(node);
      await until(`${node.id} votes`, async () => {
        const answer = await call('GET', 'sys/storage/raft/configuration', {
          address: first.address,
          token,
        });
        return isVoter(answer.body, node.id);
      });
    }
  }

  async function stop(): Promise<void> {
    for (const node of nodes) node.cpuGroup?.setQuota(null);
    await Promise.all(nodes.map((node) => node.stop()));
    for (const node of nodes) node.cpuGroup?.remove();
    if (options.directory === undefined) rmSync(directory, { recursive: true, force: true });
  }

  let first: ClusterNode;
  let token: string;
  let unsealKey: string;
  try {
    first = await add();
    ({ token, unsealKey } = await initialize(first));
    await unseal(first);
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    mode: options.mode,
    token,
    unsealKey,
    directory,
    nodes: () => nodes,
    grow,
    active: () => findActive(nodes),
    async restart(id) {
      const position = nodes.findIndex((node) => node.id === id);
      const settings = settingsById.get(id);
      const previous = nodes[position];
      if (settings === undefined || previous === undefined) throw new Error(`no node ${id}`);
      await previous.exited;
      previous.cpuGroup?.remove();
      const node = await start(settings);
      nodes[position] = node;
      await unseal(node);
    },
    setQuota(cores) {
      for (const node of nodes) node.cpuGroup?.setQuota(cores);
    },
    stop,
  };
}

async function initialize(node: ClusterNode): Promise<{ token: string; unsealKey: string }> {
  const { body } = await expectOk('PUT', 'sys/init', {
    address: node.address,
    body: { secret_shares: 1, secret_threshold: 1 },
  });
  const [unsealKey] = body['keys_base64'] as readonly unknown[];
  return { token: String(body['root_token']), unsealKey: String(unsealKey) };
}

async function findActive(nodes: readonly ClusterNode[]): Promise<ClusterNode> {
  let active: ClusterNode | undefined;
  await until('a node leads', async () => {
    for (const node of nodes) {
      if (!node.isRunning()) continue;
      const answer = await call('GET', 'sys/leader', {
        address: node.address,
        timeoutMs: 1_000,
      }).catch(() => undefined);
      if (answer?.body['is_self'] !== true) continue;
      active = node;
      return true;
    }
    return false;
  });
  if (active === undefined) throw new Error('unreachable: until() ended without an active node');
  return active;
}

function isVoter(body: { readonly [key: string]: unknown }, id: string): boolean {
  const data = body['data'] as
    { config?: { servers?: { node_id: string; voter: boolean }[] } } | undefined;
  return data?.config?.servers?.some((server) => server.node_id === id && server.voter) ?? false;
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  let lastError: unknown;
  while (Date.now() < deadline) {
    try {
      if (await isSo()) return;
    } catch (error) {
      lastError = error; // A node that is still starting refuses connections.
    }
    await delay(POLL_MS);
  }
  throw new Error(`gave up waiting until ${what}`, { cause: lastError });
}

/** Ports that were free a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => resolve(server));
      });
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
