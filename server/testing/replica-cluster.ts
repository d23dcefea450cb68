/**
 * Replicas in one process with all that they have in production but the processes: loopback TLS,
 * durable logs and LevelDB in temporary directories. For tests of what `server/replica` promises.
 */

import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { createClusterCredentials } from '../cluster/credentials.ts';
import { createClusterNetwork } from '../cluster/listener.ts';
import type { ClusterNetwork } from '../cluster/listener.ts';
import type { ClusterCredentials } from '../core/ports.ts';
import { DEFAULT_AUTOPILOT } from '../replica/autopilot.ts';
import { cuttable } from './cuttable-network.ts';
import type { CuttableNetwork } from './cuttable-network.ts';
import { systemClock } from '../replica/clock.ts';
import type { StoreMode } from '../storage/leveldb.ts';
import { createInlineRaft } from '../replica/inline-raft.ts';
import type { RaftEvents, RaftHost } from '../replica/raft-host.ts';
import { serveRaft } from '../replica/raft-servant.ts';
import { createThreadedRaft } from '../replica/threaded-raft.ts';
import { openReplicaStorage } from '../replica/replica-storage.ts';
import type { ReplicaStorage } from '../replica/replica-storage.ts';
import { openReplica } from '../replica/replica.ts';
import type { Replica } from '../replica/replica.ts';
import { clusterIdOf } from '../replica/session.ts';
import { replicaSettings } from '../replica/settings.ts';
import type { ReplicaSettings } from '../replica/settings.ts';

/** Longer than any election on a busy machine; a test that needs it has failed. */
export const DEADLINE_MS = 20_000;

/** A node that has caught up need not prove itself for seconds. */
export const PROMPT_AUTOPILOT = { ...DEFAULT_AUTOPILOT, serverStabilizationMs: 0 };

export const silentLogger = { info() {}, warn() {}, error() {} };

/** Where raft runs: called directly, or at the other end of a port as if in another thread. */
type RaftThread = 'inline' | 'channel';

let raftThread: RaftThread = 'inline';

/** For all clusters of this test file. */
export function runRaftIn(thread: RaftThread): void {
  raftThread = thread;
}

export type ReplicaClusterOptions = {
  readonly settings?: Partial<ReplicaSettings>;
  readonly logThread?: 'worker' | 'inline';
  readonly fsmMode?: StoreMode;
  /** Wraps what a node's storage opens, to let it fail. */
  readonly wrapStorage?: (id: string, storage: ReplicaStorage) => ReplicaStorage;
  /** Changes what raft is told of a node's state machine. */
  readonly wrapEvents?: (id: string, events: RaftEvents) => RaftEvents;
};

export type ClusterMember = {
  readonly id: string;
  readonly replica: Replica;
  readonly network: ClusterNetwork;
  /** The same network, until the node is cut off from all others. */
  readonly peers: CuttableNetwork;
  /** What `onFatal` was given. */
  readonly failures: unknown[];
  disconnect(): void;
};

export class ReplicaCluster {
  readonly credentials: ClusterCredentials;
  readonly #options: ReplicaClusterOptions;
  readonly #directory: string;
  readonly #members = new Map<string, ClusterMember>();
  readonly #ports = new Map<string, number>();

  private constructor(
    options: ReplicaClusterOptions,
    directory: string,
    credentials: ClusterCredentials,
  ) {
    this.#options = options;
    this.#directory = directory;
    this.credentials = credentials;
  }

  static async create(options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'replica-'));
    return new ReplicaCluster(options, directory, await createClusterCredentials());
  }

  /** A bootstrapped first node `n1` and others up to `n<count>`, all of them voters. */
  static async formed(count: number, options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
    const cluster = await ReplicaCluster.create(options);
    const first = await cluster.open('n1');
    await first.replica.replication.bootstrap(cluster.credentials);
    for (let number = 2; number <= count; number += 1) await cluster.join(`n${number}`);
    return cluster;
  }

  /** Opens a node, new or with what its disk holds, without starting it. `name` tells apart two lives of one id. */
  async open(id: string, name = id): Promise<ClusterMember> {
    assert(!this.#members.has(name), `${name} is open`);
    const { logThread = 'inline', fsmMode = 'sync', settings, wrapStorage } = this.#options;
    // A node keeps its address for life, or two that return at once would never find each other.
    const port = this.#ports.get(name) ?? 0;
    const network = createClusterNetwork({ host: '127.0.0.1', port, logger: silentLogger });
    await network.bind();
    const peers = cuttable(network);
    this.#ports.set(name, network.port());
    const opened = await openReplicaStorage(join(this.#directory, name), {
      nodeId: id,
      logThread,
      fsmMode,
    });
    const failures: unknown[] = [];
    const storage = wrapStorage?.(id, opened) ?? opened;
    const shared = {
      nodeId: id,
      instance: storage.instance,
      clock: systemClock,
      store: storage.store,
      snapshotDirectory: storage.snapshotDirectory,
      network: peers,
      settings: { ...replicaSettings(), autopilot: PROMPT_AUTOPILOT, ...settings },
      logger: silentLogger,
    };
    const inline = createInlineRaft({ ...shared, storage, random: Math.random });
    const { wrapEvents } = this.#options;
    const { raft, disconnect } = raftThread === 'inline' ? direct(inline) : connected(inline);
    const replica = await openReplica({
      ...shared,
      clusterAddress: () => `127.0.0.1:${network.port()}`,
      raft: wrapEvents === undefined ? raft : wrapped(raft, (events) => wrapEvents(id, events)),
      onFatal: (error) => failures.push(error),
    });
    const member = { id, replica, network, peers, failures, disconnect };
    this.#members.set(name, member);
    return member;
  }

  /** Opens a node that its disk knows to be a member, and starts it. */
  async restart(id: string): Promise<ClusterMember> {
    const member = await this.open(id);
    await member.replica.replication.start(this.credentials);
    return member;
  }

  /** Adds a fresh node through the leader and waits until it is a voter everywhere it applies. */
  async join(id: string): Promise<ClusterMember> {
    const leader = await this.leader();
    const member = await this.open(id);
    const address = `127.0.0.1:${member.network.port()}`;
    const { instance } = member.replica.replication;
    await leader.replica.replication.addServer({ id, address, instance });
    await member.replica.replication.start(this.credentials);
    await until(leader, () => suffrageOf(leader, id) === 'voter');
    return member;
  }

  /** By which peers recognize the cluster in a hello. */
  clusterId(): string {
    return clusterIdOf(this.credentials);
  }

  member(id: string): ClusterMember {
    const member = this.#members.get(id);
    assert(member !== undefined, `${id} is not open`);
    return member;
  }

  members(): ClusterMember[] {
    return [...this.#members.values()];
  }

  /** The node that leads, as soon as one of those that are open does. */
  async leader(): Promise<ClusterMember> {
    const done = new AbortController();
    const signal = AbortSignal.any([done.signal, AbortSignal.timeout(DEADLINE_MS)]);
    try {
      return await Promise.any(
        this.members().map(async (member) => {
          await member.replica.leadership.acquire(signal);
          return member;
        }),
      );
    } finally {
      done.abort();
    }
  }

  async stop(id: string): Promise<void> {
    const { replica, network, disconnect } = this.member(id);
    this.#members.delete(id);
    await replica.close();
    await network.close();
    disconnect();
  }

  /**
   * Ends a node as a kill does: what its disk holds in this very turn is what `restart` finds.
   * With `logThread: 'inline'` only, and for states that LevelDB does not compact meanwhile.
   */
  async kill(id: string): Promise<void> {
    const directory = join(this.#directory, id);
    const left = `${directory}-left`;
    // The lock names this process, which lives on.
    cpSync(directory, left, { recursive: true, filter: (path) => basename(path) !== 'lock' });
    await this.stop(id);
    await rm(directory, { recursive: true });
    await rename(left, directory);
  }

  /** Stops a node and keeps its disk under `name`; its successor lives elsewhere. */
  async setAside(id: string, name: string): Promise<void> {
    await this.stop(id);
    this.#ports.delete(id);
    await rename(join(this.#directory, id), join(this.#directory, name));
  }

  /** Stops a node and removes what its disk holds; its successor lives elsewhere. */
  async destroy(id: string): Promise<void> {
    await this.stop(id);
    this.#ports.delete(id);
    await rm(join(this.#directory, id), { recursive: true });
  }

  async close(): Promise<void> {
    for (const { id } of this.members()) await this.stop(id);
    await rm(this.#directory, { recursive: true });
  }
}

function wrapped(raft: RaftHost, wrap: (events: RaftEvents) => RaftEvents): RaftHost {
  return {
    open: async (position) => {
      const opened = await raft.open(position);
      return { ...opened, start: (place, events) => opened.start(place, wrap(events)) };
    },
  };
}

type Connection = { readonly raft: RaftHost; disconnect(): void };

function direct(raft: RaftHost): Connection {
  return { raft, disconnect: () => undefined };
}

function connected(inline: RaftHost): Connection {
  const { port1, port2 } = new MessageChannel();
  serveRaft(port2, inline, systemClock);
  const raft = createThreadedRaft(port1, {
    clock: systemClock,
    unansweredBytesMax: replicaSettings().uncommittedBytesMax,
  });
  return { raft, disconnect: () => port1.close() };
}

/** Waits until `condition` holds after something was applied on the node. */
export async function until(member: ClusterMember, condition: () => boolean): Promise<void> {
  if (condition()) return;
  await new Promise<void>((resolve, reject) => {
    const unsubscribe = member.replica.changeFeed.subscribe(() => {
      // After the turn in which the change becomes visible.
      queueMicrotask(() => {
        if (condition()) finish(resolve);
      });
    });
    const timer = setTimeout(() => {
      finish(() => reject(new Error(`${member.id} did not get there: ${String(condition)}`)));
    }, DEADLINE_MS);
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      unsubscribe();
      settle();
    };
  });
}

export function suffrageOf(member: ClusterMember, id: string): string | undefined {
  const { servers } = member.replica.replication.configuration();
  return servers.find((server) => server.id === id)?.suffrage;
}

export async function put(member: ClusterMember, key: string, value: string): Promise<number> {
  return await member.replica.physical.write([{ kind: 'put', key, value: Buffer.from(value) }]);
}

/** The value once the node has applied `index`. */
export async function getAt(
  member: ClusterMember,
  key: string,
  index: number,
): Promise<string | undefined> {
  const { physical } = member.replica;
  assert(await physical.awaitApplied(index, DEADLINE_MS), `${member.id} did not apply ${index}`);
  const value = physical.get(key);
  return value === undefined ? undefined : Buffer.from(value).toString();
}
