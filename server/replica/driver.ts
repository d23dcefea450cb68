/**
 * The one loop around the raft core. Sockets, timers, the disk, the state machine, and callers
 * only enqueue; a turn drains all that waits, steps the core, and then does I/O once. So writes
 * that arrive together share one append per peer and one sync of the disk.
 *
 * The order of a turn is the law that the core's promises rest on:
 *
 * ```
 *   inputs, proposals, ticks ──▶ core ──▶ Ready
 *                                          ├─ entries, hard state ──▶ durable log ─┐ in parallel
 *                                          ├─ messages ──▶ transport               ┘
 *                                          ├─ committed entries ──▶ applier
 *   (log has synced) ──▶ storageAppendDone, and only now messagesAfterAppend ──▶ transport
 *   (applier has published) ──▶ storageApplied
 * ```
 *
 * A snapshot that the core accepts is installed in the store before the log forgets what led up to
 * the old state; writes behind it wait for both.
 *
 * Time is what the `Clock` says (`clock.ts`), and how a stall counts `tick-schedule.ts`; there is no
 * other timer in here, so the simulator runs this very loop.
 *
 * Whatever throws in here, a broken invariant or a failing disk, ends the node.
 */

import assert from 'node:assert/strict';
import type {
  InstallSnapshot,
  Message,
  ReadState,
  Ready,
  SnapshotMetadata,
} from '../raft/message.ts';
import type { Raft, RaftStatus } from '../raft/raft.ts';
import { splitCommand } from '../storage/chunking.ts';
import type { DurableLog, LogAppend } from '../storage/durable-log.ts';
import type { Clock } from './clock.ts';
import type { ConfigureInput, DriverInput } from './driver-input.ts';
import { noLeaderError, overloadedError } from './proposals.ts';
import type { Proposals } from './proposals.ts';
import { SleepWatch } from './sleep-watch.ts';
import { Durations } from '../storage/durations.ts';
import { CommitTimes } from './raft-statistics.ts';
import type { DriverStatistics } from './raft-statistics.ts';
import { TICK_MS, TickSchedule } from './tick-schedule.ts';

/** Where proposals come from, and where it is told what became of them. */
export type DriverProposals = Pick<
  Proposals,
  'takeBatches' | 'accepted' | 'refused' | 'leadershipLost' | 'expire'
>;

export type DriverOptions = {
  readonly clock: Clock;
  readonly raft: Raft;
  readonly log: DurableLog;
  readonly proposals: DriverProposals;
  readonly heartbeatTicks: number;
  /** Larger commands travel in chunks: `CHUNK_BYTES` but in simulations. */
  readonly chunkBytes?: number;
  send(message: Message): void;
  /** Ends a turn: everything sent since the last call goes out. */
  flush(): void;
  sendSnapshot(message: InstallSnapshot): void;
  applyEntries(entries: Ready['committedEntries']): void;
  /** Replaces the store; resolves when that is durable. */
  installSnapshot(snapshot: SnapshotMetadata, file: string): Promise<void>;
  /** The file of a snapshot that is of no use any more. */
  discardSnapshot(file: string): void;
  endReads(states: readonly ReadState[]): void;
  /** After each turn. */
  observe(status: RaftStatus): void;
  onFatal(error: unknown): void;
};

/** A turn that asks for ever more work is a bug, not a load. */
const READY_ROUNDS_MAX = 1_000;

type Append = {
  readonly token: number;
  readonly messages: readonly Message[];
  isDurable: boolean;
};

type ReceivedSnapshot = { readonly file: string; readonly done: () => void };

/**
 * Invariants:
 * - `#appends` holds the writes under way in the order of their tokens; they are reported to the
 *   core in that order, whichever finishes first.
 * - Nothing happens after `stop()` or a fatal error.
 */
export class Driver {
  readonly #options: DriverOptions;
  #inputs: DriverInput[] = [];
  #isScheduled = false;
  #isStopped = true;
  readonly #appends: Append[] = [];
  /** The last installation, with its reset of the log, while it is under way: writes queue behind. */
  #installation: Promise<void> | undefined;
  /** Snapshots that arrived, by position, until the core wants or ignores them. */
  readonly #snapshots = new Map<string, ReceivedSnapshot>();
  #stopTimer: () => void = () => undefined;
  #ticks: TickSchedule;
  #wasLeader = false;
  readonly #appendTimes = new Durations();
  readonly #commitTimes = new CommitTimes();
  readonly #sleep: SleepWatch;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#ticks = new TickSchedule(options.clock.nowMs(), options.heartbeatTicks);
    this.#sleep = new SleepWatch(options.clock);
  }

  start(): void {
    const { clock, heartbeatTicks } = this.#options;
    this.#isStopped = false;
    this.#ticks = new TickSchedule(clock.nowMs(), heartbeatTicks);
    this.#stopTimer = clock.every(TICK_MS, () => this.wake());
    this.wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#stopTimer();
    for (const input of this.#inputs) refuse(input);
    this.#inputs = [];
  }

  enqueue(input: DriverInput): void {
    if (this.#isStopped) {
      refuse(input);
      return;
    }
    this.#inputs.push(input);
    this.wake();
  }

  /** Sees to it that a turn comes; also for what waits in `proposals`. */
  wake(): void {
    if (this.#isScheduled || this.#isStopped) return;
    this.#isScheduled = true;
    this.#options.clock.nextTurn(() => {
      this.#isScheduled = false;
      if (this.#isStopped) return;
      try {
        this.#turn();
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  statistics(): DriverStatistics {
    return {
      appends: this.#appendTimes.statistics(),
      commits: this.#commitTimes.statistics(),
      tickLatenessMsMax: this.#ticks.latenessMsMax,
    };
  }

  #fail(error: unknown): void {
    if (this.#isStopped) return;
    this.stop();
    this.#options.onFatal(error);
  }

  #turn(): void {
    const { clock, raft, flush, applyEntries, observe } = this.#options;
    const inputs = this.#inputs;
    this.#inputs = [];
    // After the inputs were drained and before the core has them: leases rest on this order.
    raft.advanceTime(clock.nowMs());
    if (this.#sleep.hasSlept()) raft.distrustTime();
    // Of the last turn: those who heard of it have proposed what this one takes.
    raft.pushCommit();
    for (const input of inputs) this.#take(input);
    this.#tick(inputs.some(({ kind }) => kind === 'message' || kind === 'snapshotReceived'));
    this.#propose();
    const committed: Ready['committedEntries'][] = [];
    for (let rounds = 0; raft.hasReady(); rounds += 1) {
      assert(rounds < READY_ROUNDS_MAX, 'the core never comes to rest');
      const ready = raft.ready();
      this.#carryOut(ready);
      if (ready.committedEntries.length > 0) committed.push(ready.committedEntries);
      this.#reportAppends();
    }
    this.#watchLeadership();
    this.#dropUnwantedSnapshots();
    flush();
    // Peers do not wait while they are applied here.
    for (const entries of committed) applyEntries(entries);
    const last = committed.at(-1)?.at(-1);
    if (last !== undefined) this.#commitTimes.committed(last.index, clock.nowMs());
    if (raft.isCommitHeld) this.wake();
    observe(raft.status());
  }

  #take(input: DriverInput): void {
    const { raft } = this.#options;
    switch (input.kind) {
      case 'message':
        return raft.step(input.message);
      case 'snapshotReceived':
        return this.#receiveSnapshot(input);
      case 'appendDone':
        return this.#reportAppends();
      case 'applied':
        return raft.storageApplied(input.index);
      case 'compact':
        return raft.compact(input.index);
      case 'unreachable':
        return raft.reportUnreachable(input.id);
      case 'snapshotSent':
        return raft.reportSnapshot(input.id, input.isComplete);
      case 'campaign':
        return raft.campaign();
      case 'readIndex':
        return raft.readIndex(input.id);
      case 'configure':
        return this.#configure(input);
      case 'transfer':
        return input.answer(raft.transferLeadership(input.to));
    }
  }

  #receiveSnapshot(input: DriverInput & { readonly kind: 'snapshotReceived' }): void {
    const key = positionKey(input.message.snapshot);
    // Two leaders may send the same state, under the same name: the first one need not wait on.
    this.#snapshots.get(key)?.done();
    this.#snapshots.set(key, input);
    this.#options.raft.step(input.message);
  }

  #configure({ edit, proposal, refused }: ConfigureInput): void {
    const { raft, proposals } = this.#options;
    const configuration = edit(raft.status().configuration);
    if (configuration === undefined) {
      refused({ kind: 'unchanged' });
      return;
    }
    const result = raft.proposeConfiguration(configuration);
    if (result.kind === 'accepted') proposals.accepted([proposal], result.index, result.term);
    else refused(result);
  }

  #tick(isHeard: boolean): void {
    const { raft, proposals, clock } = this.#options;
    const nowMs = clock.nowMs();
    const ticks = this.#ticks.take(nowMs, { isLeader: this.#wasLeader, isHeard });
    if (ticks === undefined) {
      // The next turn comes after the event loop has read what is in the sockets.
      this.wake();
      return;
    }
    if (ticks === 0) return;
    for (let tick = 0; tick < ticks; tick += 1) raft.tick();
    proposals.expire(nowMs);
  }

  #propose(): void {
    const { raft, proposals, clock, chunkBytes } = this.#options;
    for (const batch of proposals.takeBatches()) {
      const commands = batch.flatMap(({ command }) => splitCommand(command, chunkBytes));
      const result = raft.propose(commands);
      if (result.kind === 'accepted') {
        this.#commitTimes.proposed(result.firstIndex + commands.length - 1, clock.nowMs());
        proposals.accepted(batch, result.firstIndex, result.term);
        continue;
      }
      const { kind } = result;
      proposals.refused(
        batch,
        kind === 'notLeader' ? noLeaderError() : overloadedError('committed'),
      );
    }
  }

  #carryOut(ready: Ready): void {
    const { send, sendSnapshot } = this.#options;
    if (ready.appendToken !== 0) this.#append(ready);
    for (const message of ready.messages) {
      if (message.kind === 'installSnapshot') sendSnapshot(message);
      else send(message);
    }
    if (ready.readStates.length > 0) this.#options.endReads(ready.readStates);
  }

  /** A leader may step down without anything to write or to say. */
  #watchLeadership(): void {
    const { raft, proposals, clock } = this.#options;
    const isLeader = raft.status().role === 'leader';
    if (this.#wasLeader && !isLeader) {
      proposals.leadershipLost(clock.nowMs());
      this.#commitTimes.leadershipLost();
    }
    this.#wasLeader = isLeader;
  }

  #append(ready: Ready): void {
    const { appendToken: token, messagesAfterAppend: messages } = ready;
    const { hardState, snapshot, entries } = ready;
    const append: Append = { token, messages, isDurable: false };
    this.#appends.push(append);
    const isEmpty = hardState === undefined && snapshot === undefined && entries.length === 0;
    if (isEmpty) {
      // Nothing to write: durable as soon as everything before it is.
      append.isDurable = true;
      return;
    }
    const position = snapshot && {
      index: snapshot.lastIncludedIndex,
      term: snapshot.lastIncludedTerm,
    };
    void this.#write({ hardState, reset: position, entries }, snapshot, append);
  }

  /** Reports its failure to `#fail` and never rejects. */
  async #write(
    write: LogAppend,
    snapshot: SnapshotMetadata | undefined,
    append: Append,
  ): Promise<void> {
    try {
      if (snapshot === undefined && this.#installation === undefined) {
        const { clock, log } = this.#options;
        const startMs = clock.nowMs();
        await log.append(write);
        this.#appendTimes.add(clock.nowMs() - startMs);
      } else {
        const written = this.#writeBehind(this.#installation, write, snapshot);
        // What only queues behind it does not prolong it, or steady writes would for ever.
        if (snapshot !== undefined) this.#installation = written;
        await written;
        if (this.#installation === written) this.#installation = undefined;
      }
      append.isDurable = true;
      this.enqueue({ kind: 'appendDone' });
    } catch (error) {
      this.#fail(error);
    }
  }

  async #writeBehind(
    before: Promise<void> | undefined,
    write: LogAppend,
    snapshot: SnapshotMetadata | undefined,
  ): Promise<void> {
    await before;
    if (snapshot !== undefined) await this.#install(snapshot);
    await this.#options.log.append(write);
  }

  async #install(snapshot: SnapshotMetadata): Promise<void> {
    const received = this.#snapshots.get(positionKey(snapshot));
    assert(received !== undefined, 'the core accepted a snapshot that has not arrived');
    await this.#options.installSnapshot(snapshot, received.file);
  }

  #reportAppends(): void {
    const { raft, send } = this.#options;
    while (this.#appends[0]?.isDurable === true) {
      const append = this.#appends.shift();
      assert(append !== undefined);
      raft.storageAppendDone(append.token);
      for (const message of append.messages) {
        assert(message.kind !== 'installSnapshot', 'a snapshot is sent by the leader');
        send(message);
      }
    }
  }

  /** The file is also the record of an installation under way: it goes when the log is reset. */
  #dropUnwantedSnapshots(): void {
    if (this.#snapshots.size === 0 || this.#installation !== undefined) return;
    for (const { file, done } of this.#snapshots.values()) {
      this.#options.discardSnapshot(file);
      done();
    }
    this.#snapshots.clear();
  }
}

/** Nobody must wait for an answer that a stopped loop never gives. */
function refuse(input: DriverInput): void {
  if (input.kind === 'configure') input.refused({ kind: 'notLeader' });
  if (input.kind === 'transfer') input.answer(false);
}

function positionKey(snapshot: SnapshotMetadata): string {
  return `${snapshot.lastIncludedIndex}-${snapshot.lastIncludedTerm}`;
}
