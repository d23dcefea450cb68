/**
 * A node's share in the cluster, as the ports that the core is built on: a replicated
 * `PhysicalStore` with its `ChangeFeed`, `Leadership`, and `Replication`.
 *
 * The store is readable from the moment it is opened; everything else begins with `bootstrap` or
 * `start`, which need the cluster's credentials and hence an open barrier. `stop` ends it again
 * without closing the store. What runs in between is raft, in this thread or in another
 * (`raft-host.ts`), built from what the disk holds.
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
import type {
  ChangeFeed,
  ClusterCredentials,
  Leadership,
  CommitOutcome,
  PhysicalStore,
  Reads,
  Replication,
  Snapshots,
} from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { encodeConfiguration } from '../raft/configuration.ts';
import type { Entry } from '../raft/message.ts';
import { Quorum } from '../raft/quorum.ts';
import type { Store } from '../storage/store.ts';
import { Applier } from './applier.ts';
import type { Clock } from './clock.ts';
import { systemFileOperations } from './file-operations.ts';
import { TenureWatch } from './leadership.ts';
import { machineStatistics } from './machine-statistics.ts';
import { Membership } from './membership.ts';
import { AT_ONCE, Pace } from './pace.ts';
import { createPhysical } from './physical.ts';
import { noLeaderError, overloadedError, Proposals } from './proposals.ts';
import type { OpenedRaft, RaftHost, RunningRaft } from './raft-host.ts';
import { ReadRounds } from './reads.ts';
import type { ReadStatistics } from './reads.ts';
import type { ReplicaSettings } from './settings.ts';
import { createSnapshotId, SnapshotBuilder } from './snapshot-builder.ts';
import { createSnapshots } from './snapshots.ts';
import { restoredIndex } from './state-restore.ts';
import { statusOf } from './status.ts';
import type { ReplicaStatus } from './status.ts';
import type { ReplicaLogger } from './transport.ts';

export type ReplicaNetwork = {
  listen(credentials: ClusterCredentials): Promise<void>;
  suspend(): void;
};

export type ReplicaOptions = {
  readonly nodeId: string;
  /** Of this node's disk (`instance.ts`). */
  readonly instance: string;
  readonly clock: Clock;
  /** Where peers reach this node, `host:port`; asked when the node starts to take part. */
  clusterAddress(): string;
  readonly store: Store;
  /** For snapshots on their way out. */
  readonly snapshotDirectory: string;
  readonly raft: RaftHost;
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
  readonly reads: Reads;
  readStatistics(): ReadStatistics;
  readonly snapshots: Snapshots;
  /** At which index the state was last replaced by a restored one; 0 for never. */
  restoredIndex(): number;
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
  readonly reads: ReadRounds;
  readonly snapshots: Snapshots;
  readonly #options: ReplicaOptions;
  readonly #applier: Applier;
  readonly #proposals: Proposals;
  readonly #tenures = new TenureWatch();
  readonly #membership: Membership;
  /** What the disk holds, from `open` to `start`. */
  #opened: OpenedRaft | undefined;
  #raft: RunningRaft | undefined;
  #builder: SnapshotBuilder | undefined;
  #installPace: Pace | undefined;
  /** Of the last entry that is visible. */
  #appliedTerm: number;
  #failure: unknown = undefined;
  /** `start`, `stop` and `close` happen one after the other. */
  #transition: Promise<unknown> = Promise.resolve();

  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { settings, store, logger, nodeId, clock } = options;
    this.#appliedTerm = store.position().lastIncludedTerm;
    this.#proposals = new Proposals({
      proposalsMax: settings.proposalsMax,
      entryBytesMax: settings.entryBytesMax,
      transactionBytesMax: settings.transactionBytesMax,
      fateTimeoutMs: settings.electionTimeoutMs * 2,
    });
    this.#applier = new Applier({
      clock,
      store,
      onApplied: ({ entries, refusals, position }) => {
        this.#appliedTerm = position.lastIncludedTerm;
        for (const { index, term } of entries) {
          this.#proposals.applied(index, term, refusals.get(index));
        }
        if (entries.length > 0) {
          this.#raft?.applied(entries);
        } else {
          this.#proposals.skippedTo(position.lastIncludedIndex);
          this.#raft?.restored();
        }
      },
      onDurable: (index) => this.#raft?.durable(index),
      onFatal: (error) => this.#fail(error),
    });
    this.reads = new ReadRounds({
      clock,
      heartbeatMs: settings.heartbeatMs,
      electionTimeoutMs: settings.electionTimeoutMs,
      ask: (id) => this.#ask(id),
      appliedIndex: () => this.#applier.appliedIndex(),
      awaitApplied: (index, timeoutMs) => this.#applier.awaitApplied(index, timeoutMs),
    });
    this.physical = this.#createPhysical();
    this.snapshots = createSnapshots({
      directory: options.snapshotDirectory,
      bytesMax: settings.snapshotBytesMax,
      take: async () => {
        if (this.#builder === undefined) throw noLeaderError();
        const index = this.#applier.appliedIndex();
        return this.#builder.lease(() => index + 1, AT_ONCE);
      },
      list: (prefix) => options.store.list(prefix, {}),
      propose: (command, operations) => this.#propose(command, operations),
    });
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
      clock,
      physical: this.physical,
      logger,
      settings,
      status: () => this.#raft?.status(),
      configure: (input) => this.#raft?.configure(input),
    });
    this.replication = {
      instance: options.instance,
      isBootstrapped: () => this.#isBootstrapped(),
      bootstrap: (credentials) => this.#bootstrap(credentials),
      start: (credentials) => this.#exclusively(() => this.#start(credentials, [])),
      stop: () => this.#exclusively(() => this.#stop('the node stopped')),
      configuration: () => this.#configuration(),
      addServer: (server) => this.#membership.addServer(server),
      removeServer: (id) => this.#membership.removeServer(id),
      promoteServer: (id) => this.#membership.promoteServer(id),
      demoteServer: (id) => this.#membership.demoteServer(id),
      autopilotState: () => this.#membership.autopilotState(),
      autopilotConfiguration: () => this.#membership.autopilotConfiguration(),
      setAutopilotConfiguration: (change) => this.#membership.setAutopilotConfiguration(change),
    };
  }

  async open(): Promise<void> {
    const { raft, store } = this.#options;
    this.#opened = await raft.open(store.position());
  }

  status(): ReplicaStatus {
    return statusOf({
      nodeId: this.#options.nodeId,
      appliedIndex: this.#applier.appliedIndex(),
      proposals: this.#proposals.count(),
      raft: this.#raft?.status(),
      statistics: this.#raft?.statistics(),
      machine: machineStatistics({
        ...{ store: this.#options.store, applier: this.#applier },
        ...{ proposals: this.#proposals, builder: this.#builder },
      }),
    });
  }

  readStatistics(): ReadStatistics {
    return this.reads.statistics();
  }

  #ask(id: number): boolean {
    this.#raft?.readIndex(id);
    return this.#raft !== undefined;
  }

  restoredIndex(): number {
    return restoredIndex(this.#options.store);
  }

  stateHash(): Promise<string> {
    return this.#options.store.stateHash();
  }

  close(): Promise<void> {
    return this.#exclusively(async () => {
      await this.#stop('the node stopped');
      await this.#opened?.close();
      this.#opened = undefined;
      await this.#options.store.close();
    });
  }

  #createPhysical(): PhysicalStore {
    return createPhysical({
      store: this.#options.store,
      propose: (command, operations) => this.#propose(command, operations),
      appliedIndex: () => this.#applier.appliedIndex(),
      awaitApplied: (index, timeoutMs) => this.#applier.awaitApplied(index, timeoutMs),
    });
  }

  async #propose(command: Uint8Array, operations?: number): Promise<CommitOutcome> {
    if (this.#failure !== undefined) throw this.#failedError();
    const raft = this.#raft;
    if (raft === undefined) throw noLeaderError();
    if (this.#applier.isBacklogged()) throw overloadedError('applied');
    const settled = this.#proposals.submit(command, operations);
    raft.wake();
    return settled;
  }

  #isBootstrapped(): boolean {
    if (this.#applier.appliedIndex() > 0) return true;
    const raft = this.#raft?.status();
    if (raft !== undefined) return raft.currentTerm > 0 || raft.lastIndex > 0;
    return this.#opened?.isEmpty === false;
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
      const { nodeId: id, instance, clusterAddress } = this.#options;
      const address = clusterAddress();
      const servers = [{ id, address, suffrage: 'voter' as const, instance }];
      const command = encodeConfiguration({ servers });
      await this.#start(credentials, [{ index: 1, term: 1, kind: 'configuration', command }]);
    });
    await this.#tenures.acquire(AbortSignal.timeout(BOOTSTRAP_TIMEOUT_MS));
  }

  /** `founding` are the committed entries that a new cluster begins with. */
  async #start(credentials: ClusterCredentials, founding: readonly Entry[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failedError();
    assert(this.#raft === undefined, 'the replica is running');
    const { clock, logger, network, store, snapshotDirectory: directory } = this.#options;
    if (this.#opened === undefined) await this.open();
    const opened = this.#opened;
    assert(opened !== undefined);
    await network.listen(credentials);
    this.#opened = undefined;
    this.#applier.restart();
    this.reads.start();
    const address = this.#options.clusterAddress();
    const { snapshotBytesPerSecond: bytesPerSecond } = this.#options.settings;
    const pace = (this.#installPace = new Pace(bytesPerSecond, clock));
    const builder = new SnapshotBuilder({
      ...{ clock, logger, store, directory, bytesPerSecond },
      files: systemFileOperations,
      createId: createSnapshotId,
    });
    this.#builder = builder;
    this.#raft = await opened.start(
      { credentials, address, position: store.position(), founding },
      {
        proposals: this.#proposals,
        applyEntries: (entries) => this.#applier.enqueue(entries),
        isBacklogged: () => this.#applier.isBacklogged(),
        installSnapshot: (snapshot, file) =>
          this.#applier.install(snapshot, pace.spread(systemFileOperations.pieces(file))),
        leaseSnapshot: (firstIndex) => builder.lease(firstIndex),
        endReads: (states) => this.reads.onReadStates(states),
        observe: (status) => {
          this.#tenures.observe(status, this.#appliedTerm);
          this.reads.observe(status);
          this.#membership.observe(status);
        },
        onFatal: (error) => this.#fail(error),
      },
    );
  }

  async #stop(reason: string): Promise<void> {
    const raft = this.#raft;
    if (raft === undefined) return;
    this.#raft = undefined;
    this.#tenures.reset();
    raft.stop();
    this.reads.stop();
    this.#installPace?.lift();
    this.#proposals.abandonAll(reason);
    this.#options.network.suspend();
    await Promise.all([this.#applier.stop(), this.#builder?.close()]);
    await raft.close();
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
    const raft = this.#raft;
    if (tenure === undefined || raft === undefined) throw noLeaderError();
    await raft.transferLeadership(tenure.term);
  }

  #exclusively<T>(transition: () => Promise<T>): Promise<T> {
    const done = this.#transition.then(transition);
    this.#transition = done.catch(() => undefined);
    return done;
  }
}
