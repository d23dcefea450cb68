/**
 * A cluster of real processes that is there to be broken: the reference cluster of the bench, with
 * a mount for the load, and with what the nemeses need to know of each node.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { call, expectOk } from '../../bench/cluster/admin-api.ts';
import type { NodeSettings } from '../../bench/cluster/node-process.ts';
import {
  startReferenceCluster,
  type Cluster,
  type ClusterNode,
} from '../../bench/cluster/reference-cluster.ts';
import { VERSIONS_MAX } from './keyspace.ts';
import { MOUNT } from './kv-client.ts';

export type ChaosClusterOptions = {
  readonly nodeCount: number;
  /** `raft_threads` of every node. */
  readonly raftThreads: 'inline' | 'worker';
  /** Where a node listens, and how it is started; the plain loopback if absent. */
  readonly place?: ((settings: NodeSettings) => Promise<NodeSettings>) | undefined;
};

export type StateHash = { readonly id: string; readonly index: number; readonly hash: string };

/** The log is kept whole: the audit reads it. */
const TRAILING_LOGS = 10_000_000;
const TRAILING_BYTES = 1024 * 1024 * 1024;
const EQUAL_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
const CALL_TIMEOUT_MS = 2_000;

export class ChaosCluster {
  readonly cluster: Cluster;
  readonly directory: string;
  readonly #processIds: ReadonlyMap<string, number>;

  constructor(cluster: Cluster, directory: string, processIds: ReadonlyMap<string, number>) {
    this.cluster = cluster;
    this.directory = directory;
    this.#processIds = processIds;
  }

  get nodes(): readonly ClusterNode[] {
    return this.cluster.nodes();
  }

  get ids(): string[] {
    return this.nodes.map(({ id }) => id);
  }

  /** Of the process that was started last for this node, be it still starting or already dead. */
  processId(id: string): number {
    const processId = this.#processIds.get(id);
    assert(processId !== undefined, `no process of ${id}`);
    return processId;
  }

  /** The id of the active node, or undefined where nobody knows one within a moment. */
  async findActive(): Promise<string | undefined> {
    for (const { id, address } of this.nodes) {
      const answer = await call('GET', 'sys/leader', { address, timeoutMs: 500 }).catch(
        () => undefined,
      );
      if (answer?.body['is_self'] === true) return id;
    }
    return undefined;
  }

  node(id: string): ClusterNode {
    const node = this.nodes.find((each) => each.id === id);
    assert(node !== undefined, `no node ${id}`);
    return node;
  }

  /** Throws for a process that has ended by itself: no nemesis expects that. */
  signal(id: string, signal: NodeJS.Signals): void {
    try {
      process.kill(this.processId(id), signal);
    } catch (cause) {
      const output = this.node(id).errorOutput();
      throw new Error(`node ${id} has ended by itself\n${output}`, { cause });
    }
  }

  raftDirectory(id: string): string {
    return join(this.directory, id, 'raft');
  }

  /** The hash of every node, once all have applied the same. */
  async equalIndexHashes(): Promise<StateHash[]> {
    const deadline = Date.now() + EQUAL_TIMEOUT_MS;
    for (;;) {
      const hashes = await Promise.all(this.nodes.map((node) => this.#stateHash(node)));
      const known = hashes.flatMap((hash) => hash ?? []);
      const indexes = new Set(known.map(({ index }) => index));
      if (known.length === this.nodes.length && indexes.size === 1) return known;
      assert(
        Date.now() < deadline,
        `nodes do not come to the same index: ${JSON.stringify(hashes)}`,
      );
      await delay(POLL_MS);
    }
  }

  async #stateHash({ id, address }: ClusterNode): Promise<StateHash | undefined> {
    const answer = await call('GET', 'sys/internal/state-hash', {
      address,
      token: this.cluster.token,
      timeoutMs: CALL_TIMEOUT_MS,
    }).catch(() => undefined);
    const data = answer?.body['data'] as { index: number; hash: string } | undefined;
    return data === undefined ? undefined : { id, ...data };
  }

  async stop(): Promise<void> {
    await this.cluster.stop();
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export async function startChaosCluster(options: ChaosClusterOptions): Promise<ChaosCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-chaos-'));
  const processIds = new Map<string, number>();
  const cluster = await startReferenceCluster({
    name: 'n',
    mode: 'standby-reads',
    directory,
    server: { introspection: true },
    storage: {
      trailing_logs: TRAILING_LOGS,
      trailing_bytes: TRAILING_BYTES,
      raft_threads: options.raftThreads,
    },
    place: async (settings) => {
      const placed = (await options.place?.(settings)) ?? settings;
      const onSpawn = (processId: number): void => {
        processIds.set(settings.id, processId);
        placed.onSpawn?.(processId);
      };
      return { ...placed, onSpawn };
    },
  });
  const chaos = new ChaosCluster(cluster, directory, processIds);
  try {
    await cluster.grow(options.nodeCount);
    await mountKv(cluster);
    return chaos;
  } catch (error) {
    await chaos.stop();
    chaos.remove();
    throw error;
  }
}

async function mountKv(cluster: Cluster): Promise<void> {
  const { address } = await cluster.active();
  const { token } = cluster;
  const options = { version: '2' };
  await expectOk('PUT', `sys/mounts/${MOUNT}`, { address, token, body: { type: 'kv', options } });
  const body = { max_versions: VERSIONS_MAX };
  await expectOk('PUT', `${MOUNT}/config`, { address, token, body });
}
