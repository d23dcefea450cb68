/**
 * Replicas with a core and an HTTP layer each, in one process: what a client's request meets, from
 * a standby over the cluster port to the active node, its log, and back. A test can stand at the
 * points on the way where a node may fail.
 */

import assert from 'node:assert/strict';
import { createBackends } from '../backend-wiring.ts';
import { createForwarder, serveForwarding } from '../cluster/forwarding.ts';
import type { WireRequest, WireResponse } from '../cluster/forwarding.ts';
import { parseConfig } from '../config.ts';
import type { Config } from '../config.ts';
import type { Core } from '../core/core.ts';
import type { Commit, CommitOutcome, Replication } from '../core/ports.ts';
import { createHandler, identityOf } from '../http-wiring.ts';
import type { Answer } from '../http/exchange.ts';
import { readHead } from '../http/request-head.ts';
import type { RequestHandler } from '../http/request-handler.ts';
import { createTally } from '../metrics.ts';
import { createTestCore, until } from './core-node.ts';
import { ReplicaCluster, silentLogger } from './replica-cluster.ts';
import type { ClusterMember, ReplicaClusterOptions } from './replica-cluster.ts';

export type ServingNode = {
  readonly member: ClusterMember;
  readonly core: Core;
  readonly handler: RequestHandler;
};

/** What happens on the way of a request through the active node; replaced by a test. */
export type Way = {
  commit(commit: Commit, proceed: () => Promise<CommitOutcome>): Promise<CommitOutcome>;
  serve(request: WireRequest, proceed: () => Promise<WireResponse>): Promise<WireResponse>;
};

const UNDISTURBED: Way = {
  commit: (_commit, proceed) => proceed(),
  serve: (_request, proceed) => proceed(),
};

const CONFIG =
  'storage "raft" { path = "unused" }\nlistener "tcp" { tls_disable = true }\nlog_level = "error"\n';

export type ServingClusterOptions = Pick<ReplicaClusterOptions, 'wrapStorage'> & {
  /** Lines of configuration. */
  readonly config?: string;
};

export class ServingCluster {
  readonly replicas: ReplicaCluster;
  readonly nodes: ServingNode[] = [];
  rootToken = '';
  way = UNDISTURBED;

  readonly #config: Config;

  private constructor(replicas: ReplicaCluster, config: Config) {
    this.replicas = replicas;
    this.#config = config;
  }

  static async formed(
    count: number,
    { config = '', ...options }: ServingClusterOptions = {},
  ): Promise<ServingCluster> {
    const replicas = await ReplicaCluster.create({ fsmMode: 'overlay', ...options });
    const cluster = new ServingCluster(replicas, parseConfig(CONFIG + config, 'test.hcl'));
    const first = cluster.#serve(await replicas.open('n1'), {});
    const { keys, rootToken } = await first.core.initialize({ shares: 1, threshold: 1 });
    cluster.rootToken = rootToken;
    const [key] = keys;
    assert(key !== undefined);
    await first.core.unseal(key);
    await until(() => first.core.haState() === 'active');
    for (let number = 2; number <= count; number += 1) {
      // It takes part already, so there is nothing to start.
      const start = async (): Promise<void> => undefined;
      const { core, member } = cluster.#serve(await replicas.join(`n${number}`), { start });
      const index = first.member.replica.physical.appliedIndex();
      assert(await member.replica.physical.awaitApplied(index, 20_000));
      await core.unseal(key);
    }
    return cluster;
  }

  /** As soon as one of the nodes that are not excepted is active. */
  async active(except: readonly ServingNode[] = []): Promise<ServingNode> {
    const candidates = this.nodes.filter((node) => !except.includes(node));
    await eventually(() => candidates.some(({ core }) => core.haState() === 'active'));
    const active = candidates.find(({ core }) => core.haState() === 'active');
    assert(active !== undefined);
    return active;
  }

  async ask(node: ServingNode, method: string, path: string, body?: object): Promise<Answer> {
    const rawHeaders = ['X-Vault-Token', this.rootToken];
    return node.handler.handle({
      id: 'request',
      method,
      url: `/v1/${path}`,
      rawHeaders,
      head: readHead(rawHeaders),
      body: Buffer.from(body === undefined ? '' : JSON.stringify(body)),
      remoteAddress: '127.0.0.1',
      isForwarded: false,
    });
  }

  /** The hash of each node's state once all have applied the same. */
  async stateHashes(): Promise<string[]> {
    const indexes = (): number[] => this.nodes.map(({ member }) => appliedIndexOf(member));
    await eventually(() => new Set(indexes()).size === 1);
    return Promise.all(this.nodes.map(({ member }) => member.replica.stateHash()));
  }

  async close(): Promise<void> {
    for (const { core } of this.nodes) await core.seal();
    await this.replicas.close();
  }

  #serve(member: ClusterMember, replication: Partial<Replication>): ServingNode {
    const { replica, peers, network } = member;
    const core: Core = createTestCore(
      { ...replica, deliver: () => undefined, deliverSnapshot: () => undefined },
      { clusterAddress: `127.0.0.1:${network.port()}` },
      {
        physical: {
          ...replica.physical,
          commit: (commit) => this.way.commit(commit, () => replica.physical.commit(commit)),
        },
        replication: { ...replica.replication, ...replication },
        createCredentials: async () => this.replicas.credentials,
        backends: createBackends({
          core: () => core,
          replication: replica.replication,
          version: 'test',
          leaseTtl: { defaultSeconds: 3600, maxSeconds: 7200 },
          metrics: async () => '',
          stateHash: undefined,
          clock: () => Date.now(),
        }),
        clock: () => Date.now(),
      },
    );
    const handler = createHandlerOf(member, core, {
      config: this.#config,
      forward: createForwarder(peers).forward,
    });
    serveForwarding(peers, (request) =>
      this.way.serve(request, () => handler.serveForwarded(request)),
    );
    const node = { member, core, handler };
    this.nodes.push(node);
    return node;
  }
}

function createHandlerOf(
  { id, replica }: ClusterMember,
  core: Core,
  {
    config,
    forward,
  }: { readonly config: Config; readonly forward: Parameters<typeof createHandler>[1] },
): RequestHandler {
  const metrics = { text: async () => '', contentType: 'text/plain' };
  const tally = createTally();
  const identity = identityOf(core, { nodeId: id, version: 'test' }, replica);
  const logger = { ...silentLogger, debug: () => undefined, fatal: () => undefined };
  return createHandler({ config, logger, core, replica, identity, tally, metrics }, forward);
}

function appliedIndexOf({ replica }: ClusterMember): number {
  return replica.physical.appliedIndex();
}

/** Looks now and then, so that what is waited for can happen in between. */
async function eventually(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    assert(performance.now() < deadline, `it never happens: ${String(condition)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
