/**
 * A node's share in the cluster, as the ports that the core is built on: a replicated
 * `PhysicalStore` with its `ChangeFeed`, `Leadership`, and `Replication`.
 *
 * The store is readable from the moment it is opened; everything else begins with `bootstrap` or
 * `start`, which need the cluster's credentials and hence an open barrier. `stop` ends it again
 * without closing the store. What runs in between is a `Session`, built from what the disk holds.
 *
 *     openReplica ── get, list ──▶ start ── writes, leadership, peers ──▶ stop ──▶ start ... close
 *
 * - `driver.ts` is the loop, with the order of a turn. `applier.ts` is the state machine, with the
 *   promise about visibility. `proposals.ts` says what a caller is told of its write.
 * - `transport.ts` and `wire.ts` speak to peers, `snapshot-builder.ts`, `-sender.ts` and
 *   `-receiver.ts` move whole states,
 *   `recovery.ts` judges what the disk holds, `membership.ts` adds and removes servers.
 *
 * A disk that fails, or an invariant that does not hold, ends the node for good: writes in flight
 * end as `outcome-unknown`, nothing is acknowledged afterwards, and `onFatal` tells the process to
 * exit. Only a restart can find out what the disk holds.
 */

import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type {
  ChangeFeed,
  ClusterCredentials,
  Leadership,
  PhysicalStore,
  Replication,
} from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { encodeConfiguration } from '../raft/configuration.ts';
import type { Entry } from '../raft/message.ts';
import { Quorum } from '../raft/quorum.ts';
import type { OpenedLog } from '../storage/durable-log.ts';
import { Applier } from './applier.ts';
import type { Clock } from './clock.ts';
import { TenureWatch } from './leadership.ts';
import { Membership } from './membership.ts';
import { createPhysical } from './physical.ts';
import { noLeaderError, overloadedError, Proposals } from './proposals.ts';
import { recover } from './recovery.ts';
import type { Recovery } from './recovery.ts';
import type { ReplicaStorage } from './replica-storage.ts';
import type { ReplicaSettings } from './settings.ts';
import { Session } from './session.ts';
import { findSnapshotFiles } from './snapshot-files.ts';
import { statusOf } from './status.ts';
import type { ReplicaStatus } from './status.ts';
import type { PeerNetwork, ReplicaLogger } from './transport.ts';

export type ReplicaNetwork = PeerNetwork & {
  /** One handler for the life of the process. */
  onConnection(protocol: 'bao-raft/1', handler: (socket: Socket) => void): void;
  listen(credentials: ClusterCredentials): Promise<void>;
  suspend(): void;
};

export type ReplicaOptions = {
  readonly nodeId: string;
  readonly clock: Clock;
  /** In [0, 1): election timeouts. */
  random(): number;
  /** Where peers reach this node, `host:port`; asked when the node starts to take part. */
  clusterAddress(): string;
  readonly storage: ReplicaStorage;
  readonly network: ReplicaNetwork;
  readonly settings: ReplicaSettings;
  readonly logger: ReplicaLogger;
  /** Called at most once. The process must exit: nothing is served by this node any more. */
  onFatal(error: unknown): void;
};

export type Replica = {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  readonly leadership: Leadership;
  readonly replication: Replication;
  status(): ReplicaStatus;
  /** Equal on all nodes that have applied the same index. */
  stateHash(): Promise<string>;
  close(): Promise<void>;
};

/** A single server leads at once; more than that means it never will. */
const BOOTSTRAP_TIMEOUT_MS = 30_000;

/** Opens what the disk holds. Rejects if it is damaged, or in use by another process. */
export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const node = new Node(options);
  await node.open();
  return node;
}

class Node implements Replica {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  readonly leadership: Leadership;
  readonly replication: Replication;
  readonly #options: ReplicaOptions;
  readonly #applier: Applier;
  readonly #proposals: Proposals;
  readonly #tenures = new TenureWatch();
  readonly #membership: Membership;
  #disk: { readonly log: OpenedLog['log']; readonly recovery: Recovery } | undefined;
  #session: Session | undefined;
  #failure: unknown = undefined;
  /** `start`, `stop` and `close` happen one after the other. */
  #transition: Promise<unknown> = Promise.resolve();

  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { settings, storage, logger, nodeId, clock } = options;
    this.#proposals = new Proposals({
      proposalsMax: settings.proposalsMax,
      entryBytesMax: settings.entryBytesMax,
      transactionBytesMax: settings.transactionBytesMax,
      fateTimeoutMs: settings.electionTimeoutMs * 2,
    });
    this.#applier = new Applier({
      clock,
      store: storage.store,
      onApplied: (applied) => {
        const { entries, refusals, position } = applied;
        for (const { index, term } of entries) {
          this.#proposals.applied(index, term, refusals.get(index));
        }
        if (entries.length === 0) this.#proposals.skippedTo(position.lastIncludedIndex);
        this.#session?.applied(applied);
      },
      onDurable: (index) => this.#session?.durable(index),
      onFatal: (error) => this.#fail(error),
    });
    options.network.onConnection('bao-raft/1', (socket) => {
      if (this.#session === undefined) socket.destroy();
      else this.#session.accept(socket);
    });
    this.physical = this.#createPhysical();
    this.changeFeed = { subscribe: (listener) => this.#applier.subscribe(listener) };
    this.leadership = {
      nodeId,
      acquire: (signal) => this.#tenures.acquire(signal),
      stepDown: () => this.#stepDown(),
      isLeader: () => this.#tenures.current() !== undefined,
      leaderId: () => this.#tenures.leaderId(),
    };
    this.#membership = new Membership({
      nodeId,
      physical: this.physical,
      logger,
      settings,
      status: () => this.#session?.status(),
      enqueue: (input) => this.#session?.enqueue(input),
    });
    this.replication = {
      isBootstrapped: () => this.#isBootstrapped(),
      bootstrap: (credentials) => this.#bootstrap(credentials),
      start: (credentials) => this.#exclusively(() => this.#start(credentials, [])),
      stop: () => this.#exclusively(() => this.#stop('the node stopped')),
      configuration: () => this.#configuration(),
      addServer: (server) => this.#membership.addServer(server),
      removeServer: (id) => this.#membership.removeServer(id),
    };
  }

  async open(): Promise<void> {
    const { storage } = this.#options;
    const { log, recovered } = await storage.openLog();
    try {
      const files = await findSnapshotFiles(storage.snapshotDirectory);
      const recovery = recover(recovered, storage.store.position(), files);
      const { reset, hardState } = recovery;
      if (reset !== undefined) await log.append({ hardState, reset, entries: [] });
      for (const { file } of files) await rm(file, { force: true });
      this.#disk = { log, recovery };
    } catch (error) {
      await log.close();
      throw error;
    }
  }

  status(): ReplicaStatus {
    return statusOf({
      nodeId: this.#options.nodeId,
      appliedIndex: this.#applier.appliedIndex(),
      proposals: this.#proposals.count(),
      raft: this.#session?.status(),
      appends: this.#session?.appendStatistics(),
    });
  }

  stateHash(): Promise<string> {
    return this.#options.storage.store.stateHash();
  }

  close(): Promise<void> {
    return this.#exclusively(async () => {
      await this.#stop('the node stopped');
      await this.#disk?.log.close();
      this.#disk = undefined;
      await this.#options.storage.store.close();
    });
  }

  #createPhysical(): PhysicalStore {
    return createPhysical({
      store: this.#options.storage.store,
      propose: async (command, operations) => {
        if (this.#failure !== undefined) throw this.#failedError();
        const session = this.#session;
        if (session === undefined) throw noLeaderError();
        if (this.#applier.isBacklogged()) throw overloadedError('applied');
        const settled = this.#proposals.submit(command, operations);
        session.wake();
        return settled;
      },
      appliedIndex: () => this.#applier.appliedIndex(),
      awaitApplied: (index, timeoutMs) => this.#applier.awaitApplied(index, timeoutMs),
    });
  }

  #isBootstrapped(): boolean {
    if (this.#applier.appliedIndex() > 0) return true;
    const raft = this.#session?.status();
    if (raft !== undefined) return raft.currentTerm > 0 || raft.lastIndex > 0;
    const recovery = this.#disk?.recovery;
    return (
      recovery !== undefined && (recovery.hardState.currentTerm > 0 || recovery.entries.length > 0)
    );
  }

  #configuration(): ReturnType<Replication['configuration']> {
    const leaderId = this.#tenures.leaderId();
    const configuration = this.#applier.configuration();
    // Who leaves or is demoted is a voter until the joint configuration is left.
    const quorum = new Quorum(configuration);
    return {
      servers: configuration.servers.map(({ id, address }) => ({
        id,
        address,
        suffrage: quorum.includes(id) ? 'voter' : 'learner',
        isLeader: id === leaderId,
      })),
      index: this.#applier.appliedIndex(),
    };
  }

  async #bootstrap(credentials: ClusterCredentials): Promise<void> {
    await this.#exclusively(async () => {
      if (this.#isBootstrapped()) throw new ServerError('conflict', 'raft is already bootstrapped');
      const { nodeId, clusterAddress } = this.#options;
      const servers = [{ id: nodeId, address: clusterAddress(), suffrage: 'voter' as const }];
      const command = encodeConfiguration({ servers });
      await this.#start(credentials, [{ index: 1, term: 1, kind: 'configuration', command }]);
    });
    await this.#tenures.acquire(AbortSignal.timeout(BOOTSTRAP_TIMEOUT_MS));
  }

  /** `founding` are the committed entries that a new cluster begins with. */
  async #start(credentials: ClusterCredentials, founding: readonly Entry[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failedError();
    assert(this.#session === undefined, 'the replica is running');
    const { network } = this.#options;
    if (this.#disk === undefined) await this.open();
    assert(this.#disk !== undefined);
    const { log } = this.#disk;
    let { recovery } = this.#disk;
    if (founding.length > 0) {
      const hardState = { currentTerm: 1, votedFor: null, commitIndex: founding.length };
      await log.append({ hardState, entries: founding });
      recovery = { ...recovery, hardState, entries: founding };
    }
    await network.listen(credentials);
    this.#disk = undefined;
    this.#applier.restart();
    this.#session = new Session({
      ...this.#options,
      address: this.#options.clusterAddress(),
      credentials,
      log,
      recovery,
      applier: this.#applier,
      proposals: this.#proposals,
      installSnapshot: (snapshot, file) => {
        return this.#applier.install(snapshot, createReadStream(file));
      },
      observe: (raft, appliedTerm) => {
        this.#tenures.observe(raft, appliedTerm);
        this.#membership.observe(raft);
      },
      onFatal: (error) => this.#fail(error),
    });
  }

  async #stop(reason: string): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    this.#session = undefined;
    this.#tenures.reset();
    session.stop();
    this.#proposals.abandonAll(reason);
    this.#options.network.suspend();
    await this.#applier.stop();
    await session.closeLog();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#options.logger.error({ reason: String(error) }, 'node failed');
    void this.#abandon();
    this.#options.onFatal(error);
  }

  /** The log may be what failed, and the process is about to end: what fails here tells nothing. */
  async #abandon(): Promise<void> {
    try {
      await this.#stop('the node failed');
    } catch (error) {
      this.#options.logger.error({ reason: String(error) }, 'node not stopped in order');
    }
  }

  #failedError(): ServerError {
    return new ServerError('internal', 'this node has failed', { cause: this.#failure });
  }

  async #stepDown(): Promise<void> {
    const tenure = this.#tenures.current();
    const session = this.#session;
    if (tenure === undefined || session === undefined) throw noLeaderError();
    await session.transferLeadership(tenure);
  }

  #exclusively<T>(transition: () => Promise<T>): Promise<T> {
    const done = this.#transition.then(transition);
    this.#transition = done.catch(() => undefined);
    return done;
  }
}
