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
import type { PhysicalStore } from '../../core/ports.ts';
import type { Entry, HardState, InstallSnapshot, Message, NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { openDurableLogOn, type DurableLog, type LogAppend } from '../../storage/durable-log.ts';
import type { Store } from '../../storage/store.ts';
import { chainDigest, LogImage } from '../simulated-node.ts';
import type { Random } from '../random.ts';
import { openSimulatedStore } from './durable-store.ts';
import { startSimulatedSink, type LogDevice } from './log-device.ts';
import type { NodeClock } from './node-clock.ts';
import type { NodeDisks } from './node-disks.ts';
import { ObservedRaft } from './observed-raft.ts';
import { TICK_US, type Plan } from './plan.ts';
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
  send(message: Message): void;
  sendSnapshot(message: InstallSnapshot, bytes: Buffer): void;
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
      startSimulatedSink(device),
    );
    world.checker.onRecovered(id, disks, recovered);
    const store = await openSimulatedStore(disks.store, world.plan.storeMode, device);
    const files = [...disks.snapshots.keys()].map((file) => {
      const [index = 0, term = 0] = file.split('-').map(Number);
      return { index, term };
    });
    const recovery = recover(recovered, store.position(), files);
    const { reset, hardState } = recovery;
    if (reset !== undefined) {
      await log.append({ hardState, reset, entries: [] });
      disks.promise({ hardState, reset, entries: [] });
    }
    disks.snapshots.clear();
    return new NodeProcess(id, { disks, world, log, store, recovery });
  }

  private constructor(
    id: NodeId,
    parts: {
      readonly disks: NodeDisks;
      readonly world: ProcessWorld;
      readonly log: DurableLog;
      readonly store: Store;
      readonly recovery: Recovery;
    },
  ) {
    const { disks, world, log, store, recovery } = parts;
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
  }

  kill(): void {
    this.#driver.stop();
  }

  receive(message: Message): void {
    this.#driver.enqueue({ kind: 'message', message });
  }

  receiveSnapshot(message: InstallSnapshot, bytes: Buffer, done: () => void): void {
    const { lastIncludedIndex, lastIncludedTerm } = message.snapshot;
    const file = `${lastIncludedIndex}-${lastIncludedTerm}`;
    this.#disks.snapshots.set(file, bytes);
    this.#driver.enqueue({ kind: 'snapshotReceived', message, file, done });
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
    const target = Math.min(index, this.#reportedIndex);
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
        onStep: (status) => checker.safety.onStep(this, status),
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
    const { clock, plan, send, sendSnapshot, onTurn, onFatal } = this.#world;
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
      flush: () => undefined,
      sendSnapshot: (message) => {
        this.#world.checker.safety.onSend(this, message);
        // Chunks come as promises; all of them are there before the next event.
        void this.#export(message).then(
          (bytes) => sendSnapshot(bytes.message, bytes.bytes),
          onFatal,
        );
      },
      applyEntries: (entries) => this.#applier.enqueue(entries),
      installSnapshot: (snapshot, file) => {
        const bytes = this.#disks.snapshots.get(file);
        return this.#applier.install(snapshot, chunksOf(bytes));
      },
      discardSnapshot: (file) => void this.#disks.snapshots.delete(file),
      endReads: (states) => this.reads.onReadStates(states),
      observe: (status) => {
        this.reads.observe(status);
        this.#world.checker.onTurn(this, status);
        onTurn(status);
      },
      onFatal,
    });
  }

  /** As new as the state machine, and never older than what raft announced. */
  async #export(message: InstallSnapshot): Promise<{ message: InstallSnapshot; bytes: Buffer }> {
    const exported = this.#store.exportSnapshot();
    const chunks: Uint8Array[] = [];
    for await (const chunk of exported.chunks) chunks.push(chunk);
    await exported.close();
    return { message: { ...message, snapshot: exported.position }, bytes: Buffer.concat(chunks) };
  }
}

async function* chunksOf(bytes: Buffer | undefined): AsyncIterable<Uint8Array> {
  if (bytes === undefined) throw new Error('the file of a snapshot is gone');
  for (let start = 0; start < bytes.length; start += 100) yield bytes.subarray(start, start + 100);
}
