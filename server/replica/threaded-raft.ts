/**
 * Raft in another thread, as its user sees it: a `RaftHost` whose every call is a message to the
 * `RaftServant` at the other end of a port.
 *
 * Writes of one turn travel together. What raft says arrives in the order in which it was said, so
 * the order that `RaftHost` promises is kept; it may only arrive late. While this thread is stuck,
 * raft goes on without it, up to what the servant's window allows to be handed out.
 */

import type { MessagePort } from 'node:worker_threads';
import { ServerError } from '../errors.ts';
import type { Configuration, Entry } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { Clock } from './clock.ts';
import type { ConfigureInput } from './driver-input.ts';
import { noLeaderError, overloadedError } from './proposals.ts';
import type { Proposal } from './proposals.ts';
import type { OpenedRaft, RaftEvents, RaftHost, RaftStart, RunningRaft } from './raft-host.ts';
import { Durations } from '../storage/durations.ts';
import { NO_STATISTICS } from './raft-statistics.ts';
import type { RaftStatistics } from './raft-statistics.ts';
import type { SnapshotLease } from './snapshot-builder.ts';
import { packError, unpackError } from '../threads/packed-error.ts';
import type { PackedError } from '../threads/packed-error.ts';
import { answerOf, Requests } from '../threads/requests.ts';
import { openTurnPort } from '../threads/turn-port.ts';
import type { TurnPort } from '../threads/turn-port.ts';
import { memoryOf, packCommands, unpackEntries } from './thread-protocol.ts';
import type { AnswerValue, FromRaft, ToRaft } from './thread-protocol.ts';

export type ThreadedRaftOptions = {
  readonly clock: Clock;
  /** Proposed, and not yet accepted or refused; more is `overloaded`. */
  readonly unansweredBytesMax: number;
};

export type ThreadedRaft = RaftHost & {
  /** The thread is gone: whoever waits for it hears so. */
  fail(error: unknown): void;
};

export function createThreadedRaft(port: MessagePort, options: ThreadedRaftOptions): ThreadedRaft {
  const requests = new Requests<AnswerValue>();
  let running: Remote | undefined;
  const turn: TurnPort<ToRaft> = openTurnPort<ToRaft, FromRaft>(
    port,
    (flush) => options.clock.nextTurn(flush),
    (message) => {
      if (message.kind === 'answer') requests.settle(message.request, message.answer);
      else running?.receive(message);
    },
  );
  const close = async (): Promise<void> => {
    await requests.ask((request) => turn.post({ kind: 'close', request }));
  };
  const start = async (place: RaftStart, events: RaftEvents): Promise<RunningRaft> => {
    const started = requests.ask((request) => turn.post({ kind: 'start', request, start: place }));
    const status = (await started) as RaftStatus;
    running = new Remote({ ...options, turn, events, requests }, status, () => {
      running = undefined;
    });
    return running;
  };
  return {
    open: async (position): Promise<OpenedRaft> => {
      const isEmpty = await requests.ask((request) =>
        turn.post({ kind: 'open', request, position }),
      );
      return { isEmpty: isEmpty === true, start, close };
    },
    fail: (error) => {
      requests.fail(unpackError(packError(error)));
      running?.receive({ kind: 'fatal', error: packError(error) });
    },
  };
}

type RemoteOptions = ThreadedRaftOptions & {
  readonly turn: TurnPort<ToRaft>;
  readonly events: RaftEvents;
  readonly requests: Requests<AnswerValue>;
};

type Configuring = { readonly input: ConfigureInput; readonly batch: readonly Proposal[] };

class Remote implements RunningRaft {
  readonly #options: RemoteOptions;
  readonly #onStop: () => void;
  #status: RaftStatus;
  #statistics: RaftStatistics = NO_STATISTICS;
  readonly #mailboxTimes = new Durations();
  /** What was proposed and is not answered, by the number it travels under. */
  readonly #batches = new Map<number, { readonly batch: readonly Proposal[]; bytes: number }>();
  readonly #configuring = new Map<number, Configuring>();
  readonly #leases = new Map<number, SnapshotLease>();
  #unansweredBytes = 0;
  #lastBatch = 0;
  #isAwake = false;
  #isStopped = false;
  /** Of the last entry that became visible. */
  #appliedTerm = 0;

  constructor(options: RemoteOptions, status: RaftStatus, onStop: () => void) {
    this.#options = options;
    this.#status = status;
    this.#onStop = onStop;
  }

  wake(): void {
    if (this.#isAwake || this.#isStopped) return;
    this.#isAwake = true;
    this.#options.clock.nextTurn(() => {
      this.#isAwake = false;
      if (!this.#isStopped) this.#propose();
    });
  }

  readIndex(id: number): void {
    this.#post({ kind: 'readIndex', id });
  }

  configure(input: ConfigureInput): void {
    if (this.#isStopped) input.refused({ kind: 'notLeader' });
    else this.#configure({ input, batch: [input.proposal] }, this.#status.configuration);
  }

  applied(entries: readonly Entry[]): void {
    const last = entries.at(-1);
    if (last === undefined) return;
    this.#post({ kind: 'applied', index: last.index });
    if (last.term === this.#appliedTerm) return;
    this.#appliedTerm = last.term;
    // Leadership counts from the first entry of its term; nobody should wait for the next status.
    this.#options.events.observe(this.#status);
  }

  restored(): void {
    this.#post({ kind: 'restored' });
  }

  durable(index: number): void {
    this.#post({ kind: 'durable', index });
  }

  status(): RaftStatus {
    return this.#status;
  }

  statistics(): RaftStatistics {
    return { ...this.#statistics, mailbox: this.#mailboxTimes.statistics() };
  }

  async transferLeadership(term: number): Promise<void> {
    if (this.#isStopped) throw noLeaderError();
    const { requests } = this.#options;
    await requests.ask((request) => this.#post({ kind: 'transfer', request, term }));
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#post({ kind: 'stop' });
    this.#isStopped = true;
    this.#onStop();
    const error = new ServerError('outcome-unknown', 'the node stopped');
    for (const { input } of this.#configuring.values()) input.proposal.reject(error);
    this.#configuring.clear();
    for (const lease of this.#leases.values()) lease.release();
  }

  async close(): Promise<void> {
    const { requests, turn } = this.#options;
    await requests.ask((request) => turn.post({ kind: 'close', request }));
  }

  /** Never called after `stop`. */
  receive(message: Exclude<FromRaft, { kind: 'answer' }>): void {
    const { events, clock } = this.#options;
    switch (message.kind) {
      case 'entries':
        return events.applyEntries(unpackEntries(message.entries));
      case 'accepted':
        return events.proposals.accepted(
          this.#takeBatch(message.batch),
          message.firstIndex,
          message.term,
        );
      case 'refused':
        return this.#onRefused(message.batch, message.error);
      case 'notConfigured':
        return this.#onNotConfigured(message);
      case 'leadershipLost':
        return events.proposals.leadershipLost(clock.nowMs());
      case 'status':
        this.#status = message.status;
        this.#statistics = message.statistics;
        this.#mailboxTimes.add(clock.nowMs() - message.postedMs);
        events.proposals.expire(clock.nowMs());
        return events.observe(message.status);
      case 'readStates':
        return events.endReads(message.states);
      case 'install':
        return this.#answer(message.request, () =>
          events.installSnapshot(message.snapshot, message.file).then(() => null),
        );
      case 'lease':
        return this.#answer(message.request, () => this.#lease(message));
      case 'release':
        this.#leases.get(message.request)?.release();
        this.#leases.delete(message.request);
        return undefined;
      case 'fatal':
        return events.onFatal(unpackError(message.error));
    }
  }

  #post(message: ToRaft): void {
    if (!this.#isStopped) this.#options.turn.post(message);
  }

  #propose(): void {
    const { events, turn, unansweredBytesMax } = this.#options;
    for (const batch of events.proposals.takeBatches()) {
      const commands = packCommands(batch.map((proposal) => proposal.command));
      const bytes = commands.bytes.length;
      if (this.#unansweredBytes > 0 && unansweredBytesMax < this.#unansweredBytes + bytes) {
        events.proposals.refused(batch, overloadedError('committed'));
        continue;
      }
      this.#lastBatch += 1;
      this.#batches.set(this.#lastBatch, { batch, bytes });
      this.#unansweredBytes += bytes;
      turn.post({ kind: 'propose', batch: this.#lastBatch, commands }, memoryOf(commands));
    }
  }

  #takeBatch(number: number): readonly Proposal[] {
    const configuring = this.#configuring.get(number);
    this.#configuring.delete(number);
    const taken = this.#batches.get(number);
    this.#batches.delete(number);
    this.#unansweredBytes -= taken?.bytes ?? 0;
    return taken?.batch ?? configuring?.batch ?? [];
  }

  #onRefused(number: number, error: PackedError): void {
    const refusal = unpackError(error);
    if (!(refusal instanceof ServerError)) throw refusal;
    this.#options.events.proposals.refused(this.#takeBatch(number), refusal);
  }

  #configure(configuring: Configuring, from: Configuration): void {
    const to = configuring.input.edit(from);
    if (to === undefined) {
      configuring.input.refused({ kind: 'unchanged' });
      return;
    }
    this.#lastBatch += 1;
    this.#configuring.set(this.#lastBatch, configuring);
    this.#post({ kind: 'configure', batch: this.#lastBatch, from, to });
  }

  #onNotConfigured({ batch, result }: FromRaft & { readonly kind: 'notConfigured' }): void {
    const configuring = this.#configuring.get(batch);
    this.#configuring.delete(batch);
    if (configuring === undefined) return;
    // Each time somebody else's change has taken effect meanwhile.
    if (result.kind === 'changed') this.#configure(configuring, result.inForce);
    else configuring.input.refused(result);
  }

  async #lease(message: FromRaft & { readonly kind: 'lease' }): Promise<AnswerValue> {
    const lease = await this.#options.events.leaseSnapshot(() => message.firstIndex);
    if (this.#isStopped) {
      lease.release();
      return null;
    }
    this.#leases.set(message.request, lease);
    const { snapshot, manifest, file } = lease;
    // Copies: what is sent of a slice is all of the pool that it is a slice of.
    const id = Buffer.from(new Uint8Array(manifest.id).buffer);
    const sha256 = Buffer.from(new Uint8Array(manifest.sha256).buffer);
    return { snapshot, manifest: { ...manifest, id, sha256 }, file };
  }

  /** `answerOf` never rejects. */
  #answer(request: number, act: () => Promise<AnswerValue>): void {
    void answerOf(act).then((answer) => this.#post({ kind: 'answer', request, answer }));
  }
}
