/**
 * One run of the raft core, from `start` to `stop`: the core with what the disk held, the loop
 * around it, and the ways to the peers. Only wiring is in here.
 *
 * It knows nothing of the state machine but what `RaftEvents` and `RunningRaft` say, so that both
 * can live in different threads.
 */

import { createHash, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ClusterCredentials } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import type { Configuration, Entry, Message, Server, SnapshotMetadata } from '../raft/message.ts';
import { Quorum } from '../raft/quorum.ts';
import { Raft } from '../raft/raft.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { DurableLog } from '../storage/durable-log.ts';
import type { Clock } from './clock.ts';
import { Driver } from './driver.ts';
import { CatchUpHold } from './catch-up-hold.ts';
import { systemFileOperations } from './file-operations.ts';
import type { ConfigureInput, DriverInput } from './driver-input.ts';
import type { RaftEvents, RunningRaft } from './raft-host.ts';
import { NO_DURATIONS } from '../storage/durations.ts';
import type { RaftStatistics } from './raft-statistics.ts';
import type { Recovery } from './recovery.ts';
import { leaseMsOf } from './lease.ts';
import { Retention } from './retention.ts';
import type { ReplicaSettings } from './settings.ts';
import { TICK_MS } from './tick-schedule.ts';
import { SnapshotReceiver } from './snapshot-receiver.ts';
import { SnapshotSender } from './snapshot-sender.ts';
import { Transport } from './transport.ts';
import type { PeerNetwork, ReplicaLogger } from './transport.ts';

export type SessionOptions = {
  readonly clock: Clock;
  /** In [0, 1): election timeouts. */
  random(): number;
  readonly nodeId: string;
  readonly instance: string;
  readonly address: string;
  readonly credentials: ClusterCredentials;
  /** Of the state machine, when it started. */
  readonly position: SnapshotMetadata;
  /** For snapshots on their way in. */
  readonly snapshotDirectory: string;
  readonly network: PeerNetwork;
  readonly settings: ReplicaSettings;
  readonly logger: ReplicaLogger;
  readonly log: DurableLog;
  readonly recovery: Recovery;
};

export type SessionEvents = RaftEvents & {
  /** Peers are not to be accepted any more. */
  onStop(): void;
};

const TRANSFER_ATTEMPTS_MAX = 3;
/** What is kept of the log for a follower that gets a snapshot, in multiples of the usual bytes. */
const HELD_TRAILS_MAX = 4;

export class Session implements RunningRaft {
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #raft: Raft;
  readonly #driver: Driver;
  readonly #transport: Transport;
  readonly #sender: SnapshotSender;
  readonly #receiver: SnapshotReceiver;
  readonly #retention: Retention;
  readonly #hold: CatchUpHold;
  /** Of the last configuration that was applied since the start. */
  #configurationIndex = 0;
  readonly #observers = new Set<(status: RaftStatus) => void>();
  #hasCampaigned = false;
  #lastRole: RaftStatus['role'] = 'follower';
  #leaderId: string | null = null;
  /** When the leader was last heard of. */
  #leaderContactMs: number;
  #electionCount = 0;
  #configuration: Configuration = { servers: [] };
  #isReplaced = false;

  constructor(options: SessionOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    const { clock, position, settings, nodeId, logger } = options;
    this.#leaderContactMs = clock.nowMs();
    this.#retention = new Retention({
      entriesMax: settings.trailingLogs,
      bytesMax: settings.trailingBytesMax,
    });
    this.#raft = createRaft(options);
    this.#transport = this.#createTransport();
    this.#hold = new CatchUpHold(settings.trailingBytesMax * HELD_TRAILS_MAX);
    this.#sender = this.#createSender();
    this.#receiver = new SnapshotReceiver({
      ...{ clock, nodeId, logger },
      files: systemFileOperations,
      directory: options.snapshotDirectory,
      snapshotBytesMax: settings.snapshotBytesMax,
      onSnapshot: (message, file) =>
        new Promise((done) => this.#enqueue({ kind: 'snapshotReceived', message, file, done })),
    });
    this.#driver = this.#createDriver();
    this.#driver.start();
    this.#retention.add(this.#appliedEntries());
    this.#compact(this.#retention.forget(position.lastIncludedIndex));
    for (const { id } of position.configuration.servers) {
      if (id !== nodeId) this.#transport.greet(id);
    }
  }

  /** A connection of a peer. */
  accept(socket: Socket): void {
    this.#transport.accept(socket);
  }

  configure(input: ConfigureInput): void {
    this.#enqueue(input);
  }

  readIndex(id: number): void {
    this.#enqueue({ kind: 'readIndex', id });
  }

  wake(): void {
    this.#driver.wake();
  }

  status(): RaftStatus {
    return this.#raft.status();
  }

  statistics(): RaftStatistics {
    const { nodeId, clock } = this.#options;
    const { servers } = this.#configuration;
    const others = servers.filter(({ id }) => id !== nodeId);
    return {
      ...this.#driver.statistics(),
      electionCount: this.#electionCount,
      leaderContactMs: this.#lastRole === 'leader' ? 0 : clock.nowMs() - this.#leaderContactMs,
      peers: others.map(({ id }) => ({ id, backlogBytes: this.#transport.backlogBytes(id) })),
      snapshotsSent: this.#sender.statistics(),
      snapshotsReceived: this.#receiver.statistics(),
      mailbox: NO_DURATIONS,
    };
  }

  applied(entries: readonly Entry[]): void {
    const configured = entries.findLast((entry) => entry.kind === 'configuration');
    this.#configurationIndex = configured?.index ?? this.#configurationIndex;
    this.#hold.count(entries);
    this.#retention.add(entries);
  }

  restored(): void {
    this.#retention.reset();
  }

  durable(index: number): void {
    this.#enqueue({ kind: 'applied', index });
    this.#compact(this.#retention.forget(index));
  }

  /**
   * Rejects with `conflict` if nobody takes over. A target declines while a configuration that it
   * knows to be committed waits to be applied there; so that is waited for, and if there was
   * another reason, it is asked again.
   */
  async transferLeadership(term: number): Promise<void> {
    for (let attempt = 0; attempt < TRANSFER_ATTEMPTS_MAX; attempt += 1) {
      const target = mostAdvancedVoter(this.status());
      if (target === undefined) break;
      const isUpToDate = (status: RaftStatus): boolean =>
        this.#configurationIndex <= (status.progress.get(target)?.appliedIndex ?? Infinity);
      await this.#observed(isUpToDate, 3 * this.#options.settings.heartbeatMs);
      if (await this.#transferTo(target, term)) return;
    }
    throw new ServerError('conflict', 'cannot step down: no other voter is available');
  }

  /** Returns whether leadership ended before the core gave the transfer up. */
  async #transferTo(to: string, term: number): Promise<boolean> {
    const began = await new Promise<boolean>((answer) => {
      this.#enqueue({ kind: 'transfer', to, answer });
    });
    if (!began) return false;
    const { electionTimeoutMs } = this.#options.settings;
    const hasEnded = (status: RaftStatus): boolean =>
      status.role !== 'leader' || status.currentTerm !== term;
    return await this.#observed(hasEnded, electionTimeoutMs + 2 * TICK_MS);
  }

  /** Whether `condition` came to hold after a turn within `timeoutMs`. */
  #observed(condition: (status: RaftStatus) => boolean, timeoutMs: number): Promise<boolean> {
    if (condition(this.status())) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (holds: boolean): void => {
        cancel();
        this.#observers.delete(observer);
        resolve(holds);
      };
      const observer = (status: RaftStatus): void => {
        if (condition(status)) finish(true);
      };
      const cancel = this.#options.clock.after(timeoutMs, () => finish(false));
      this.#observers.add(observer);
    });
  }

  stop(): void {
    this.#events.onStop();
    this.#driver.stop();
    this.#sender.close();
    this.#receiver.close();
    this.#transport.close();
  }

  close(): Promise<void> {
    return this.#options.log.close();
  }

  #enqueue(input: DriverInput): void {
    this.#driver.enqueue(input);
  }

  #createTransport(): Transport {
    const { clock, network, nodeId, instance, address, logger, credentials } = this.#options;
    return new Transport({
      ...{ clock, nodeId, instance, address, network, logger },
      clusterId: clusterIdOf(credentials),
      membership: {
        serverOf: (id) => serverOf(this.#raft.status().configuration, id),
        appliedIndex: () => this.#raft.status().appliedIndex,
      },
      onMessage: (message) => this.#receive(message),
      onUnreachable: (id) => this.#enqueue({ kind: 'unreachable', id }),
      onReplaced: () => this.#endReplaced(),
      onSnapshotConnection: (connection) => this.#receiver.accept(connection),
    });
  }

  /** Entries that cannot be applied are as if they had been lost: the leader will send them again. */
  #receive(message: Message): void {
    if (message.from === this.#leaderId) this.#leaderContactMs = this.#options.clock.nowMs();
    const hasEntries = message.kind === 'appendEntries' && message.entries.length > 0;
    if (hasEntries && this.#events.isBacklogged()) return;
    this.#enqueue({ kind: 'message', message });
  }

  /** It could only wait for a leader that never comes, and answer from a state that grows old. */
  #endReplaced(): void {
    if (this.#isReplaced) return;
    this.#isReplaced = true;
    const { nodeId, instance, logger } = this.#options;
    // In the error, too: from a thread of its own, what is logged last may come too late.
    const reason = `this node was replaced: ${nodeId} joined anew with another disk`;
    logger.error({ nodeId, instance, reason }, 'node was replaced');
    this.#driver.stop();
    this.#events.onFatal(new ServerError('refused', reason));
  }

  #createSender(): SnapshotSender {
    const { clock, logger, settings } = this.#options;
    return new SnapshotSender({
      ...{ clock, logger },
      files: systemFileOperations,
      builder: { lease: this.#events.leaseSnapshot },
      bytesPerSecond: settings.snapshotBytesPerSecond,
      firstIndex: () => this.#raft.status().firstIndex,
      dial: (to) => this.#transport.dial(to, 'snapshot'),
      hold: (id, index) => this.#hold.begin(id, index),
      onDone: (id, isComplete) => this.#enqueue({ kind: 'snapshotSent', id, isComplete }),
    });
  }

  #createDriver(): Driver {
    const { clock, log, settings } = this.#options;
    const { proposals, applyEntries, installSnapshot, endReads, onFatal } = this.#events;
    return new Driver({
      clock,
      raft: this.#raft,
      log,
      proposals,
      heartbeatTicks: ticksOf(settings.heartbeatMs),
      send: (message) => this.#transport.send(message),
      flush: () => this.#transport.flush(),
      sendSnapshot: (message) => this.#sender.send(message),
      applyEntries,
      installSnapshot,
      // What cannot be removed now is removed at the next start.
      discardSnapshot: (file) => void systemFileOperations.remove(file).catch(() => undefined),
      endReads,
      observe: (status) => this.#observe(status),
      onFatal,
    });
  }

  #observe(status: RaftStatus): void {
    const { nodeId, logger } = this.#options;
    const { role, currentTerm: term } = status;
    if (role !== this.#lastRole) logger.info({ role, term, from: this.#lastRole }, 'role changed');
    if (role !== 'leader' && this.#lastRole === 'leader') this.#sender.abort();
    if (role !== 'follower' && this.#lastRole === 'follower') this.#electionCount += 1;
    this.#lastRole = role;
    this.#leaderId = status.leaderId;
    this.#compact(this.#hold.observe(status));
    const { voters } = new Quorum(status.configuration);
    const isAlone = voters.length === 1 && voters[0] === nodeId;
    if (isAlone && role === 'follower' && !this.#hasCampaigned) {
      // There is nobody whose heartbeat could be waited for.
      this.#hasCampaigned = true;
      this.#enqueue({ kind: 'campaign' });
    }
    this.#events.observe(status);
    for (const observer of this.#observers) observer(status);
    if (status.configuration === this.#configuration) return;
    this.#configuration = status.configuration;
    this.#transport.reconfigured();
  }

  #compact(upTo: number | undefined): void {
    const index = this.#hold.limit(upTo);
    if (index === undefined) return;
    this.#enqueue({ kind: 'compact', index });
    this.#options.log.compact(index);
  }

  #appliedEntries(): Recovery['entries'] {
    const { recovery, position } = this.#options;
    const { lastIncludedIndex } = position;
    return recovery.entries.filter((entry) => entry.index <= lastIncludedIndex);
  }
}

/** To hold the certificate is to be in the cluster; its digest says so in a hello. */
export function clusterIdOf({ certificatePem }: ClusterCredentials): string {
  const { raw } = new X509Certificate(certificatePem);
  return createHash('sha256').update(raw).digest('hex');
}

function serverOf({ servers }: Configuration, id: string): Server | undefined {
  return servers.find((each) => each.id === id);
}

function createRaft({ nodeId, position, settings, recovery, random }: SessionOptions): Raft {
  const { lastIncludedIndex, configuration } = position;
  const { appendBytesMax, inflightAppendsMax, uncommittedBytesMax, commitNotify } = settings;
  return new Raft({
    id: nodeId,
    hardState: recovery.hardState,
    snapshot: recovery.snapshot,
    entries: recovery.entries,
    appliedIndex: lastIncludedIndex,
    configuration,
    electionTicks: ticksOf(settings.electionTimeoutMs),
    heartbeatTicks: ticksOf(settings.heartbeatMs),
    leaseMs: settings.leaderLease ? leaseMsOf(ticksOf(settings.electionTimeoutMs), TICK_MS) : 0,
    random,
    commitNotify:
      commitNotify.kind === 'push'
        ? { kind: 'push', isGathered: true }
        : { kind: 'piggyback', timeoutTicks: ticksOf(commitNotify.timeoutMs) },
    limits: { appendBytesMax, inflightAppendsMax, uncommittedBytesMax },
  });
}

function ticksOf(ms: number): number {
  return Math.max(1, Math.round(ms / TICK_MS));
}

function mostAdvancedVoter({ id, configuration, progress }: RaftStatus): string | undefined {
  let best: { id: string; matchIndex: number } | undefined;
  for (const server of configuration.servers) {
    const peer = progress.get(server.id);
    if (server.suffrage !== 'voter' || server.id === id || peer === undefined) continue;
    // Activity is forgotten for a moment now and then; whoever replicates answered not long ago.
    if (!peer.recentActive && peer.kind !== 'replicate') continue;
    if (best !== undefined && peer.matchIndex <= best.matchIndex) continue;
    best = { id: server.id, matchIndex: peer.matchIndex };
  }
  return best?.id;
}
