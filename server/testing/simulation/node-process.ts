/**
 * One run of a whole node, from start to crash: the real driver, proposals, reads, state machine,
 * physical store, durable log and recovery, on a simulated clock, network and disk.
 *
 * What the process was told to be durable is kept beside the disk (`disk`, `hardState`): the next
 * process must find at least that (I19).
 */

import { Applier } from '../../replica/applier.ts';
import { Driver } from '../../replica/driver.ts';
import { createPhysical } from '../../replica/physical.ts';
import { Proposals } from '../../replica/proposals.ts';
import { ReadRounds } from '../../replica/reads.ts';
import { recover, type Recovery } from '../../replica/recovery.ts';
import { findSnapshotFiles } from '../../replica/snapshot-files.ts';
import type { FileOperations } from '../../replica/file-operations.ts';
import type { PeerSocket } from '../../replica/peer-socket.ts';
import type { PhysicalStore } from '../../core/ports.ts';
import type { Entry, HardState, InstallSnapshot, Message, NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { SALT_BYTES } from '../../storage/segment.ts';
import { openDurableLogOn, type DurableLog, type LogAppend } from '../../storage/durable-log.ts';
import type { Store } from '../../storage/store.ts';
import { chainDigest, LogImage } from '../simulated-node.ts';
import type { Random } from '../random.ts';
import { openSimulatedStore } from './durable-store.ts';
import { startSimulatedSink, type LogDevice } from './log-device.ts';
import type { NodeClock } from './node-clock.ts';
import type { NodeDisks } from './node-disks.ts';
import { NodePeers, SNAPSHOT_DIRECTORY } from './node-peers.ts';
import { ObservedRaft } from './observed-raft.ts';
import { TICK_US, type Plan } from './plan.ts';
import { simulatedFiles } from './simulated-files.ts';
import type { TransferChecker } from './transfer-checker.ts';
import type { TransferPoint } from './transfer-plan.ts';
import type { WholeNodeChecker } from './whole-node-checker.ts';

const LOG_DIRECTORY = '/log';
/** Segments end often, so that their ends and beginnings meet crashes. */
const SEGMENT_BYTES = 2048;
const PROPOSALS_MAX = 64;
const ENTRY_BYTES_MAX = 4096;
const TICK_MS = 20;

export type ProcessWorld = {
  readonly plan: Plan;
  readonly checker: WholeNodeChecker;
  readonly clock: NodeClock;
  readonly jitter: Random;
  readonly device: LogDevice;
  readonly transfers: TransferChecker;
  /** Instead of chance: salts, and ids of snapshots and reads. */
  readonly ids: Random;
  /** Undefined where messages travel on peer lanes. */
  readonly sendPacket: ((message: Message) => void) | undefined;
  dial(to: NodeId): Promise<PeerSocket>;
  /** A transfer that it takes part in has come so far. */
  reached(point: TransferPoint): void;
  onInstalled(message: InstallSnapshot): void;
  /** It learns something about how another one is doing. */
  onNews(about: NodeId): void;
  onTick(status: RaftStatus): void;
  onMessage(before: RaftStatus, message: Message, after: RaftStatus): void;
  onTurn(status: RaftStatus): void;
  /** The process must end: its disk failed, or an invariant does not hold. */
  onFatal(error: unknown): void;
};

export class NodeProcess {
  readonly id: NodeId;
  readonly #world: ProcessWorld;
  readonly #disks: NodeDisks;
  readonly view = new LogImage();
  state: { index: number; digest: number };
  readonly #log: DurableLog;
  readonly #store: Store;
  readonly #applier: Applier;
  readonly #driver: Driver;
  readonly raft: ObservedRaft;
  readonly proposals: Proposals;
  readonly reads: ReadRounds;
  readonly physical: PhysicalStore;
  readonly peers: NodePeers;
  readonly #files: FileOperations;
  /** What raft was told to be applied: it forgets nothing beyond. */
  #reportedIndex: number;
  #compactedIndex = 0;

  /** Opens what the disks hold. Rejects if it cannot be believed, or does not read. */
  static async start(id: NodeId, disks: NodeDisks, world: ProcessWorld): Promise<NodeProcess> {
    const { device } = world;
    const { log, recovered } = await openDurableLogOn(
      disks.log,
      LOG_DIRECTORY,
      { thread: 'inline', segmentBytes: SEGMENT_BYTES, identity: id },
      startSimulatedSink(device, () => world.ids.bytes(SALT_BYTES)),
    );
    world.checker.onRecovered(id, disks, recovered);
    const store = await openSimulatedStore(disks.store, world.plan.storeMode, device);
    const files = simulatedFiles(disks.snapshots, device, world.plan.transfers);
    const snapshots = await findSnapshotFiles(files, SNAPSHOT_DIRECTORY);
    const recovery = recover(recovered, store.position(), snapshots);
    const { reset, hardState } = recovery;
    if (reset !== undefined) {
      await log.append({ hardState, reset, entries: [] });
      disks.promise({ hardState, reset, entries: [] });
    }
    for (const { file } of snapshots) await files.remove(file);
    return new NodeProcess(id, { disks, world, log, store, files, recovery });
  }

  private constructor(
    id: NodeId,
    parts: {
      readonly disks: NodeDisks;
      readonly world: ProcessWorld;
      readonly log: DurableLog;
      readonly store: Store;
      readonly files: FileOperations;
      readonly recovery: Recovery;
    },
  ) {
    const { disks, world, log, store, files, recovery } = parts;
    const { clock, plan } = world;
    this.id = id;
    this.#world = world;
    this.#disks = disks;
    this.#log = this.#promising(log);
    this.#store = store;
    this.state = world.checker.stateOf(disks.store);
    this.#reportedIndex = this.state.index;
    this.view.reset(recovery.snapshot.lastIncludedIndex, recovery.snapshot.lastIncludedTerm);
    for (const entry of recovery.entries) this.view.put(entry);
    this.proposals = new Proposals({
      proposalsMax: PROPOSALS_MAX,
      entryBytesMax: ENTRY_BYTES_MAX,
      transactionBytesMax: ENTRY_BYTES_MAX,
      chunkBytes: plan.chunkBytes,
      fateTimeoutMs: 2 * plan.electionTicks * TICK_MS,
    });
    this.raft = this.#createRaft(recovery);
    this.#applier = this.#createApplier();
    this.reads = new ReadRounds({
      clock,
      firstId: world.ids.between(1, 2 ** 40),
      heartbeatMs: plan.heartbeatTicks * TICK_MS,
      electionTimeoutMs: plan.electionTicks * TICK_MS,
      ask: (question) => {
        this.#driver.enqueue({ kind: 'readIndex', id: question });
        return true;
      },
      appliedIndex: () => this.#applier.appliedIndex(),
      awaitApplied: (index, timeoutMs) => this.#applier.awaitApplied(index, timeoutMs),
    });
    this.physical = createPhysical({
      store,
      propose: (command, operations) => {
        const settled = this.proposals.submit(command, operations);
        this.#driver.wake();
        return settled;
      },
      appliedIndex: () => this.#applier.appliedIndex(),
      awaitApplied: (index, timeoutMs) => this.#applier.awaitApplied(index, timeoutMs),
    });
    this.#files = files;
    this.peers = this.#createPeers();
    this.#driver = this.#createDriver();
  }

  get hardState(): HardState {
    return this.#disks.hardState;
  }

  get disk(): LogImage {
    return this.#disks.promised;
  }

  /** After the world has made itself known to the checker. */
  run(): void {
    this.reads.start();
    this.#driver.start();
    this.peers.greet(this.#store.position());
  }

  kill(): void {
    this.#driver.stop();
  }

  receive(message: Message): void {
    this.#driver.enqueue({ kind: 'message', message });
  }

  enqueue(input: Parameters<Driver['enqueue']>[0]): void {
    this.#driver.enqueue(input);
  }

  stateHash(): Promise<string> {
    return this.#store.stateHash();
  }

  get durableIndex(): number {
    return this.#store.durablePosition().lastIncludedIndex;
  }

  compact(index: number): void {
    const target = this.peers.hold.limit(Math.min(index, this.#reportedIndex)) ?? 0;
    if (target <= this.#compactedIndex) return;
    this.#compactedIndex = target;
    this.#driver.enqueue({ kind: 'compact', index: target });
    this.#log.compact(target);
  }

  /** Remembers what was reported as durable, before anybody acts on it. */
  #promising(log: DurableLog): DurableLog {
    return {
      append: async (write: LogAppend): Promise<void> => {
        this.#disks.underWay.push(write);
        await log.append(write);
        this.#disks.promise(write);
        this.#world.checker.onPromise(this);
        if (write.reset !== undefined) this.#world.reached('log is reset');
      },
      compact: (index) => log.compact(index),
      close: () => log.close(),
    };
  }

  #createRaft(recovery: Recovery): ObservedRaft {
    const { plan, jitter, checker } = this.#world;
    const { electionTicks, heartbeatTicks, commitNotify, limits } = plan;
    const { lastIncludedIndex, configuration } = this.#store.position();
    return new ObservedRaft(
      {
        id: this.id,
        hardState: recovery.hardState,
        snapshot: recovery.snapshot,
        entries: recovery.entries,
        appliedIndex: lastIncludedIndex,
        configuration,
        electionTicks,
        heartbeatTicks,
        // The plan's tick is another one.
        leaseMs: plan.leaseMs * (TICK_MS / (TICK_US / 1000)),
        random: () => jitter.next(),
        // As `session.ts` has it.
        commitNotify:
          commitNotify.kind === 'push' ? { ...commitNotify, isGathered: true } : commitNotify,
        limits,
      },
      {
        onStep: (status) => {
          checker.safety.onStep(this, status);
          checker.safety.checkLease(status);
        },
        onTick: (status) => this.#world.onTick(status),
        onMessage: (before, message, after) => this.#world.onMessage(before, message, after),
        onReady: (ready) => {
          const { snapshot } = ready;
          if (snapshot !== undefined) {
            this.view.reset(snapshot.lastIncludedIndex, snapshot.lastIncludedTerm);
          }
          for (const entry of ready.entries) this.view.put(entry);
          checker.safety.onReady(this, ready);
          checker.safety.onChange(this, this.raft.status());
          checker.onCommitted();
          checker.reads.onReadStates(this.id, ready.readStates);
        },
      },
    );
  }

  #createApplier(): Applier {
    const { clock, checker, onFatal } = this.#world;
    return new Applier({
      clock,
      store: this.#store,
      onApplied: ({ entries, refusals, position }) => {
        for (const { index, term } of entries) {
          this.proposals.applied(index, term, refusals.get(index));
        }
        if (entries.length === 0) {
          this.proposals.skippedTo(position.lastIncludedIndex);
          this.state = checker.stateAt(position.lastIncludedIndex);
          checker.onInstalled(this);
          return;
        }
        this.#advance(entries);
        this.peers.hold.count(entries);
        checker.onApplied(this, entries, refusals);
      },
      onDurable: (index) => {
        this.#reportedIndex = index;
        this.#driver.enqueue({ kind: 'applied', index });
        const { trailingEntries, compactsBySize } = this.#world.plan;
        const isDue = this.view.index + 2 * trailingEntries < index;
        if (compactsBySize && isDue) this.compact(index - trailingEntries);
      },
      onFatal,
    });
  }

  #advance(entries: readonly Entry[]): void {
    let { index, digest } = this.state;
    for (const entry of entries) {
      index = entry.index;
      digest = chainDigest(digest, entry);
    }
    this.state = { index, digest };
  }

  #createDriver(): Driver {
    const { clock, plan, sendPacket, onTurn, onFatal } = this.#world;
    const send = sendPacket ?? ((message: Message) => this.peers.send(message));
    return new Driver({
      clock,
      raft: this.raft,
      log: this.#log,
      proposals: this.proposals,
      heartbeatTicks: plan.heartbeatTicks,
      chunkBytes: plan.chunkBytes,
      send: (message) => {
        this.#world.checker.safety.onSend(this, message);
        send(message);
      },
      flush: () => this.peers.flush(),
      sendSnapshot: (message) => {
        this.#world.checker.safety.onSend(this, message);
        this.peers.sendSnapshot(message);
      },
      applyEntries: (entries) => this.#applier.enqueue(entries),
      installSnapshot: async (snapshot, file) => {
        await this.#applier.install(snapshot, this.peers.chunksOf(file));
        this.#world.reached('store is replaced');
      },
      discardSnapshot: (file) => this.peers.discard(file),
      endReads: (states) => this.reads.onReadStates(states),
      observe: (status) => {
        this.reads.observe(status);
        const released = this.peers.hold.observe(status);
        if (released !== undefined) this.compact(released);
        this.peers.observe(status);
        this.#world.checker.onTurn(this, status);
        onTurn(status);
      },
      onFatal,
    });
  }

  #createPeers(): NodePeers {
    const { plan, clock, transfers, ids, dial, reached, onInstalled, onNews, onFatal } =
      this.#world;
    return new NodePeers(this.id, this.#store, {
      world: {
        ...{ plan: plan.transfers, clock, files: this.#files, ids, checker: transfers },
        ...{ dial, reached, onInstalled, onFatal },
        read: (file) => this.#disks.snapshots.read(file),
      },
      port: {
        status: () => this.raft.status(),
        receive: (message) => this.receive(message),
        unreachable: (id) => {
          onNews(id);
          this.#driver.enqueue({ kind: 'unreachable', id });
        },
        snapshotReceived: (message, file) =>
          new Promise((done) =>
            this.#driver.enqueue({ kind: 'snapshotReceived', message, file, done }),
          ),
        snapshotSent: (id, isComplete) => {
          onNews(id);
          this.#driver.enqueue({ kind: 'snapshotSent', id, isComplete });
        },
      },
    });
  }
}
