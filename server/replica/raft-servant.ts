/**
 * The thread of raft: carries out what arrives at a port on a `RaftHost` beside it, and sends back
 * what that says. The other end is `threaded-raft.ts`.
 *
 * Committed entries are handed out under a window: what the other thread has not applied is held
 * here, where it takes no memory beyond the log's own. With too much of it the node is backlogged:
 * it takes no writes and no entries, but votes, and hears and sends heartbeats as ever.
 */

import assert from 'node:assert/strict';
import type { MessagePort } from 'node:worker_threads';
import { encodeConfiguration } from '../raft/configuration.ts';
import type { Configuration } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import { BACKLOG_BYTES_MAX } from './applier.ts';
import type { Clock } from './clock.ts';
import { HandOut } from './hand-out.ts';
import { overloadedError } from './proposals.ts';
import type { OpenedRaft, RaftEvents, RaftHost, RunningRaft } from './raft-host.ts';
import { RelayedProposals } from './relayed-proposals.ts';
import type { BuiltSnapshot, SnapshotLease } from './snapshot-builder.ts';
import { packError } from '../threads/packed-error.ts';
import { answerOf, Requests } from '../threads/requests.ts';
import { openTurnPort } from '../threads/turn-port.ts';
import type { TurnPort } from '../threads/turn-port.ts';
import { memoryOf, packEntries, unpackCommands } from './thread-protocol.ts';
import type { AnswerValue, FromRaft, ToRaft } from './thread-protocol.ts';

/** Indexes move with every turn; the other thread need not know each time. */
const STATUS_INTERVAL_MS = 20;
/** Some groups of a busy state machine, which then never waits for the next one. */
const WINDOW_BYTES = 8 * 1024 * 1024;

/** Serves for as long as the port is open. */
export function serveRaft(port: MessagePort, host: RaftHost, clock: Clock): void {
  void new RaftServant(host, clock, (receive) =>
    // A turn of raft is one synchronous piece of work: what it said leaves when it ends.
    openTurnPort<FromRaft, ToRaft>(port, queueMicrotask, receive),
  );
}

class RaftServant {
  readonly #turn: TurnPort<FromRaft>;
  readonly #host: RaftHost;
  readonly #clock: Clock;
  readonly #requests = new Requests<AnswerValue>();
  #proposals = this.#createProposals();
  #handOut = this.#createHandOut();
  #opened: OpenedRaft | undefined;
  #raft: RunningRaft | undefined;
  #sentStatus: RaftStatus | undefined;
  #statusSentMs = -Infinity;

  constructor(
    host: RaftHost,
    clock: Clock,
    connect: (receive: (message: ToRaft) => void) => TurnPort<FromRaft>,
  ) {
    this.#host = host;
    this.#clock = clock;
    this.#turn = connect((message) => this.#receive(message));
  }

  #receive(message: ToRaft): void {
    switch (message.kind) {
      case 'open':
        return this.#answer(message.request, async () => {
          this.#opened = await this.#host.open(message.position);
          return this.#opened.isEmpty;
        });
      case 'start':
        return this.#answer(message.request, () => this.#start(message));
      case 'propose':
        return this.#propose(message);
      case 'configure':
        return this.#configure(message);
      case 'applied':
        return this.#raft?.applied(this.#handOut.applied(message.index));
      case 'readIndex':
        return this.#raft?.readIndex(message.id);
      case 'restored':
        return this.#raft?.restored();
      case 'durable':
        return this.#raft?.durable(message.index);
      case 'transfer':
        return this.#answer(message.request, async () => {
          await this.#raft?.transferLeadership(message.term);
          return null;
        });
      case 'answer':
        return this.#requests.settle(message.request, message.answer);
      case 'stop':
        return this.#raft?.stop();
      case 'close':
        return this.#answer(message.request, () => this.#close());
    }
  }

  #post(message: FromRaft, transfer?: readonly ArrayBuffer[]): void {
    this.#turn.post(message, transfer);
  }

  async #start({ start }: ToRaft & { readonly kind: 'start' }): Promise<RaftStatus> {
    const opened = this.#opened;
    assert(opened !== undefined, 'raft is opened before it starts');
    this.#opened = undefined;
    // What the last run left behind is settled, and its numbers mean nothing any more.
    this.#proposals = this.#createProposals();
    this.#handOut = this.#createHandOut();
    this.#sentStatus = undefined;
    this.#raft = await opened.start(start, this.#events());
    return this.#raft.status();
  }

  async #close(): Promise<null> {
    const raft = this.#raft;
    const opened = this.#opened;
    this.#raft = undefined;
    this.#opened = undefined;
    await raft?.close();
    await opened?.close();
    return null;
  }

  #events(): RaftEvents {
    return {
      proposals: this.#proposals,
      applyEntries: (entries) => this.#handOut.add(entries),
      isBacklogged: () => this.#handOut.isBacklogged(),
      installSnapshot: async (snapshot, file) => {
        // What is held back lies below it; what was handed out is applied or dropped before it.
        this.#handOut = this.#createHandOut();
        await this.#requests.ask((request) =>
          this.#post({ kind: 'install', request, snapshot, file }),
        );
      },
      leaseSnapshot: (firstIndex) => this.#lease(firstIndex()),
      endReads: (states) => this.#post({ kind: 'readStates', states }),
      observe: (status) => this.#observe(status),
      onFatal: (error) => this.#post({ kind: 'fatal', error: packError(error) }),
    };
  }

  #propose({ batch, commands }: ToRaft & { readonly kind: 'propose' }): void {
    if (this.#handOut.isBacklogged()) {
      this.#post({ kind: 'refused', batch, error: packError(overloadedError('applied')) });
      return;
    }
    this.#proposals.add(batch, unpackCommands(commands));
    this.#raft?.wake();
  }

  #configure({ batch, from, to }: ToRaft & { readonly kind: 'configure' }): void {
    let inForce = from;
    this.#raft?.configure({
      kind: 'configure',
      edit: (current) => {
        inForce = current;
        return isSame(current, from) ? to : undefined;
      },
      proposal: this.#proposals.claim(batch),
      refused: (result) => {
        const isChanged = result.kind === 'unchanged';
        const told = isChanged ? ({ kind: 'changed', inForce } as const) : result;
        this.#post({ kind: 'notConfigured', batch, result: told });
      },
    });
  }

  async #lease(firstIndex: number): Promise<SnapshotLease> {
    let asked = 0;
    const value = await this.#requests.ask((request) => {
      asked = request;
      this.#post({ kind: 'lease', request, firstIndex });
    });
    if (value === null) throw new Error('the node stops');
    const { snapshot, manifest, file } = value as BuiltSnapshot;
    // A clone of a `Buffer` is a plain array of bytes.
    const id = Buffer.from(manifest.id);
    const sha256 = Buffer.from(manifest.sha256);
    const release = (): void => this.#post({ kind: 'release', request: asked });
    return { snapshot, manifest: { ...manifest, id, sha256 }, file, release };
  }

  #observe(status: RaftStatus): void {
    const nowMs = this.#clock.nowMs();
    const isDue = STATUS_INTERVAL_MS <= nowMs - this.#statusSentMs;
    if (!isDue && !isNews(status, this.#sentStatus)) return;
    const statistics = this.#raft?.statistics();
    if (statistics === undefined) return;
    this.#statusSentMs = nowMs;
    this.#sentStatus = status;
    this.#post({ kind: 'status', status, statistics, postedMs: nowMs });
  }

  #createProposals(): RelayedProposals {
    return new RelayedProposals((message) => this.#post(message));
  }

  #createHandOut(): HandOut {
    const limits = { windowBytes: WINDOW_BYTES, backlogBytesMax: BACKLOG_BYTES_MAX };
    return new HandOut(limits, (entries) => {
      const packed = packEntries(entries);
      this.#post({ kind: 'entries', entries: packed }, memoryOf(packed));
    });
  }

  /** `answerOf` never rejects. */
  #answer(request: number, act: () => Promise<AnswerValue>): void {
    void answerOf(act).then((answer) => this.#post({ kind: 'answer', request, answer }));
  }
}

/** Whether something has changed that others wait for. */
function isNews(status: RaftStatus, sent: RaftStatus | undefined): boolean {
  return (
    sent === undefined ||
    status.role !== sent.role ||
    status.currentTerm !== sent.currentTerm ||
    status.leaderId !== sent.leaderId ||
    status.transferTarget !== sent.transferTarget ||
    status.freshness !== sent.freshness ||
    status.configuration !== sent.configuration
  );
}

function isSame(a: Configuration, b: Configuration): boolean {
  return a === b || Buffer.compare(encodeConfiguration(a), encodeConfiguration(b)) === 0;
}
