/**
 * One node, put together: cluster port, storage and consensus, core, backends, HTTP. Whatever a
 * part needs of another it is given here, so this file is the one place to see who knows whom.
 */

import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { createBackends } from './backend-wiring.ts';
import { createClusterCredentials } from './cluster/credentials.ts';
import { createForwarder, serveForwarding } from './cluster/forwarding.ts';
import { createJoinClient } from './cluster/join.ts';
import type { Config } from './config.ts';
import type { CoreSettings } from './core/core-options.ts';
import { Core } from './core/core.ts';
import type { JoinPeer, PhysicalStore } from './core/ports.ts';
import { ServerError } from './errors.ts';
import { HELD_BODY_BYTES_MAX } from './http/body-intake.ts';
import { createHttpServer, type HttpServer } from './http/http-server.ts';
import type { RequestHandler } from './http/request-handler.ts';
import { createHandler, identityOf } from './http-wiring.ts';
import { createMetrics, createTally, type Tally } from './metrics.ts';
import type { NodeLogger } from './node-logger.ts';
import { inlineRaftPlace, type RaftPlace } from './raft-place.ts';
import { startRaftThread } from './raft-thread.ts';
import { systemClock } from './replica/clock.ts';
import { openReplicaStorage } from './replica/replica-storage.ts';
import { openReplica, type Replica } from './replica/replica.ts';
import { replicaSettings, type ReplicaSettings } from './replica/settings.ts';
import { retryJoinPeers } from './retry-join.ts';

export type Node = {
  /** `http://host:port`, and `host:port` of the cluster port. */
  readonly apiAddress: string;
  readonly clusterAddress: string;
  /** Resolves with the error if the node cannot go on, as when its disk fails. */
  readonly failed: Promise<unknown>;
  /** Finishes what is under way, hands leadership over, and closes everything. */
  close(): Promise<void>;
  /** For a node that failed: answers what is under way, for a moment, and touches no disk. */
  abandon(): Promise<void>;
};

/** Bytes of the physical cache, whose entries `cache_size` bounds. */
const CACHE_BYTES_MAX = 128 * 1024 * 1024;
/** How long a promotion waits for requests that began on the standby. */
const PROMOTION_DRAIN_MS = 10_000;
/** How long the process of a failed node lives on, to tell waiting clients that it failed. */
const ABANDON_MS = 1000;
/** How long a joining node waits for the cluster's state. */
const JOIN_MS = 60_000;

export async function startNode(config: Config, logger: NodeLogger): Promise<Node> {
  const { listener } = config;
  const peers = retryJoinPeers(config);
  let fail: (error: unknown) => void = () => undefined;
  const failed = new Promise<unknown>((resolve) => {
    fail = resolve;
  });
  const place = raftPlace(config, logger, fail);
  let handler: RequestHandler | undefined;
  const httpServer = createHttpServer({
    host: listener.host,
    port: listener.port,
    tls: readTlsFiles(listener.tls),
    maxRequestSize: listener.max_request_size,
    heldBodyBytesMax: HELD_BODY_BYTES_MAX,
    maxConnections: listener.max_connections,
    handler: {
      handle: (incoming) => (handler ?? STARTING).handle(incoming),
      errorAnswer: (error, requestId) => (handler ?? STARTING).errorAnswer(error, requestId),
    },
  });
  const opened: { close(): Promise<void> }[] = [place];
  try {
    // Ports first: a port in use is found before anything is touched on disk.
    await place.network.bind();
    opened.unshift(place.network);
    await httpServer.listen();
    opened.unshift(httpServer);
    const node = await assemble(config, logger, { place, httpServer, peers, failed, fail });
    handler = node.handler;
    return node;
  } catch (error) {
    for (const part of opened) await part.close().catch(() => undefined);
    throw error;
  }
}

function raftPlace(
  { listener, raft }: Config,
  logger: NodeLogger,
  onFatal: (error: unknown) => void,
): RaftPlace {
  const port = { host: listener.clusterHost, port: listener.clusterPort, logger };
  return raft.raft_threads === 'worker'
    ? startRaftThread({ ...port, onFatal })
    : inlineRaftPlace(port);
}

type Foundation = {
  readonly place: RaftPlace;
  readonly httpServer: HttpServer;
  readonly failed: Promise<unknown>;
  readonly fail: (error: unknown) => void;
  /** Whom to ask for the cluster, for a node that is in none. */
  readonly peers: readonly JoinPeer[];
};

async function assemble(
  config: Config,
  logger: NodeLogger,
  { place, httpServer, peers, failed, fail }: Foundation,
): Promise<Node & { readonly handler: RequestHandler }> {
  const { listener } = config;
  const { network } = place;
  const nodeId = config.raft.node_id ?? storedNodeId(config.raft.path);
  const clusterAddress = config.clusterAddress ?? hostPort(listener.clusterHost, network.port());
  const scheme = listener.tls === undefined ? 'http' : 'https';
  const listening = `${scheme}://${hostPort(listener.host, httpServer.port())}`;
  const apiAddress = config.api_addr ?? listening;
  const version = packageVersion();
  const clock = (): number => Date.now();
  const leaseTtl: LeaseTtl = {
    defaultSeconds: Math.floor(config.default_lease_ttl / 1000),
    maxSeconds: Math.floor(config.max_lease_ttl / 1000),
  };

  const storage = await openReplicaStorage(config.raft.path, {
    nodeId,
    logThread: config.raft.log_thread,
    fsmMode: config.raft.fsm_mode,
  });
  const shared = {
    nodeId,
    instance: storage.instance,
    clock: systemClock,
    store: storage.store,
    snapshotDirectory: storage.snapshotDirectory,
    network,
    settings: raftSettings(config),
    logger,
  };
  const replica = await openReplica({
    ...shared,
    clusterAddress: () => clusterAddress,
    raft: place.raft({ ...shared, storage }),
    onFatal: fail,
  });

  const tally = createTally();
  const metrics = createMetrics(
    {
      isActive: () => !core.standby(),
      isUnsealed: () => !core.isSealed(),
      inFlight: () => httpServer.inFlight(),
      replica: () => replica.status(),
      autopilot: () => replica.replication.autopilotState(),
      reads: () => replica.readStatistics(),
      stalenessMs: () => replica.reads.stalenessMs(),
      raftDelay: () => place.eventLoopDelay(),
    },
    tally,
  );
  const core: Core = new Core({
    physical: counted(replica.physical, tally),
    changeFeed: replica.changeFeed,
    leadership: replica.leadership,
    replication: replica.replication,
    snapshots: replica.snapshots,
    joinClient: createJoinClient(),
    createCredentials: createClusterCredentials,
    backends: createBackends({
      core: () => core,
      replication: replica.replication,
      version,
      leaseTtl,
      metrics: metrics.text,
      stateHash: config.introspection ? () => stateHash(replica) : undefined,
      clock,
    }),
    settings: coreSettings(config, { apiAddress, clusterAddress, leaseTtl }),
    logger,
    clock,
  });

  const forwarder = createForwarder(network);
  const identity = identityOf(core, { nodeId, version }, replica);
  const parts = { config, logger, core, replica, identity, tally, metrics };
  const handler = createHandler(parts, forwarder.forward);
  serveForwarding(network, (request) => {
    tally.forwardsServed += 1;
    return handler.serveForwarded(request);
  });
  if (peers.length > 0) {
    await core.requestJoin({ peers, nonVoter: config.raft.retry_join_as_non_voter, retry: true });
  }
  return {
    handler,
    apiAddress: listening,
    clusterAddress,
    failed,
    close: async () => {
      await httpServer.close();
      await core.seal();
      forwarder.close();
      await replica.close();
      await network.close();
      await place.close();
    },
    abandon: () => Promise.race([httpServer.close(), delay(ABANDON_MS)]),
  };
}

type LeaseTtl = { readonly defaultSeconds: number; readonly maxSeconds: number };

function coreSettings(
  config: Config,
  addresses: {
    readonly apiAddress: string;
    readonly clusterAddress: string;
    readonly leaseTtl: LeaseTtl;
  },
): CoreSettings {
  const { apiAddress, clusterAddress, leaseTtl } = addresses;
  const cache = { entriesMax: config.cache_size, bytesMax: CACHE_BYTES_MAX };
  return {
    clusterName: config.cluster_name ?? '',
    apiAddress,
    clusterAddress,
    earlyForward: config.early_forward,
    promotion: config.promotion,
    disableStandbyReads: config.disable_standby_reads,
    cache: config.disable_cache ? undefined : cache,
    defaultLeaseTtlSeconds: leaseTtl.defaultSeconds,
    maxLeaseTtlSeconds: leaseTtl.maxSeconds,
    drainMsMax: PROMOTION_DRAIN_MS,
    joinMsMax: JOIN_MS,
  };
}

function raftSettings({ raft }: Config): ReplicaSettings {
  const defaults = replicaSettings(raft.performance_multiplier);
  return {
    ...defaults,
    autopilot: {
      ...defaults.autopilot,
      serverStabilizationMs: raft.autopilot_server_stabilization_time,
    },
    commitNotify:
      raft.commit_notify === 'push'
        ? { kind: 'push' }
        : { kind: 'piggyback', timeoutMs: raft.commit_timeout },
    leaderLease: raft.leader_lease === 'on',
    trailingLogs: raft.trailing_logs,
    trailingBytesMax: raft.trailing_bytes,
    entryBytesMax: raft.max_entry_size,
    snapshotBytesPerSecond: raft.snapshot_rate,
    proposalsMax: raft.max_pending_writes,
  };
}

function counted(physical: PhysicalStore, tally: Tally): PhysicalStore {
  return {
    ...physical,
    write: (operations) => {
      tally.writes += 1;
      return physical.write(operations);
    },
    commit: async (commit) => {
      tally.writes += 1;
      const outcome = await physical.commit(commit);
      if (outcome.kind === 'conflict') tally.conflicts += 1;
      if (outcome.kind === 'duplicate') tally.duplicates += 1;
      return outcome;
    },
  };
}

async function stateHash(replica: Replica): Promise<{ index: number; hash: string }> {
  const hash = await replica.stateHash();
  return { index: replica.physical.appliedIndex(), hash };
}

/** Answers between the moment the port is bound and the moment storage is open. */
const STARTING = {
  handle: async () => STARTING.errorAnswer(undefined, ''),
  errorAnswer: (_error: unknown, _requestId: string) => ({
    status: 503,
    headers: ['Content-Type', 'application/json', 'Retry-After', '1'],
    body: '{"errors":["the server is starting"]}\n',
  }),
};

function readTlsFiles(
  files: Config['listener']['tls'],
): { readonly cert: Buffer; readonly key: Buffer } | undefined {
  if (files === undefined) return undefined;
  try {
    return { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
  } catch (error) {
    throw new ServerError('invalid-request', 'cannot read the TLS files', { cause: error });
  }
}

/** Made up once and kept: a node that forgot its id would be another server to the cluster. */
function storedNodeId(directory: string): string {
  const file = join(directory, 'node-id');
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const nodeId = randomUUID();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(file, `${nodeId}\n`, { flag: 'wx' });
  return nodeId;
}

function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
  return version;
}
