/**
 * Linearizable reads of this node, whether it leads or follows. Requests ask; rounds of the core
 * answer (`raft/read-index.ts`); then the request waits until the index is applied here.
 *
 * ```
 *   requests ──▶ waiting ──▶ one round under way ──▶ index ──▶ applied here ──▶ served
 *                   ▲                │ lost, or the leader changed
 *                   └────────────────┘ (again, under a new id)
 * ```
 *
 * - One round at a time. Who comes meanwhile joins the next: the index of a round is taken before
 *   it comes, and need not cover what was acknowledged since.
 * - Every round has an id of its own, so that an answer to a lost one is nobody's.
 * - Without a leader requests wait for one as long as an election may take; after that they are
 *   refused at once, and never hang until the client gives up.
 */

import { randomInt } from 'node:crypto';
import type { Reads } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import type { Freshness, NodeId, ReadState } from '../raft/message.ts';
import type { Clock } from './clock.ts';
import { FreshnessClock } from './freshness-clock.ts';

/** As many as a listener takes connections by default. */
export const READS_MAX = 10_000;
/** Ids begin anywhere below, so that no process repeats those of the one before it. */
const FIRST_ID_MAX = 2 ** 47;
/** How often deadlines are looked at while somebody waits. */
const CHECK_MS = 20;

export type ReadsParts = {
  readonly clock: Clock;
  /** Instead of chance, in simulations. */
  readonly firstId?: number;
  readonly heartbeatMs: number;
  readonly electionTimeoutMs: number;
  /** Hands the question to the core; false if none is running. */
  ask(id: number): boolean;
  appliedIndex(): number;
  awaitApplied(index: number, timeoutMs: number): Promise<boolean>;
};

export type ReadStatistics = {
  /** Questions asked, those that were confirmed, and requests that this served. */
  readonly roundCount: number;
  readonly confirmedCount: number;
  readonly requestCount: number;
  readonly failureCount: number;
  readonly lastRoundMs: number;
};

type Request = {
  readonly deadlineMs: number;
  readonly resolve: (index: number) => void;
  readonly reject: (error: ServerError) => void;
};

type Round = {
  readonly id: number;
  readonly startMs: number;
  readonly requests: Request[];
};

export class ReadRounds implements Reads {
  readonly #parts: ReadsParts;
  readonly #freshness: FreshnessClock;
  #nextId: number;
  #waiting: Request[] = [];
  #round: Round | undefined;
  #leaderId: NodeId | null = null;
  #term = 0;
  #lastFreshness: Freshness | undefined;
  #leaderlessSinceMs: number;
  /** A leader that refused is not asked again before this moment. */
  #nextRoundMs = -Infinity;
  #cancelTimer: (() => void) | undefined;
  #statistics = {
    roundCount: 0,
    confirmedCount: 0,
    requestCount: 0,
    failureCount: 0,
    lastRoundMs: 0,
  };

  constructor(parts: ReadsParts) {
    this.#parts = parts;
    this.#nextId = parts.firstId ?? randomInt(FIRST_ID_MAX);
    this.#freshness = new FreshnessClock(parts.clock, parts.appliedIndex);
    this.#leaderlessSinceMs = parts.clock.nowMs();
  }

  statistics(): ReadStatistics {
    return this.#statistics;
  }

  stalenessMs(): number | undefined {
    return this.#freshness.stalenessMs();
  }

  async linearize(timeoutMs: number): Promise<void> {
    const deadlineMs = this.#parts.clock.nowMs() + timeoutMs;
    try {
      const index = await this.#readIndex(deadlineMs);
      if (index <= this.#parts.appliedIndex()) return;
      const leftMs = deadlineMs - this.#parts.clock.nowMs();
      if (await this.#parts.awaitApplied(index, leftMs)) return;
      throw new ServerError('not-current', `index ${index} was not applied here in time`);
    } catch (error) {
      this.#statistics.failureCount += 1;
      throw error;
    }
  }

  #readIndex(deadlineMs: number): Promise<number> {
    const count = this.#waiting.length + (this.#round?.requests.length ?? 0);
    if (READS_MAX <= count) {
      return Promise.reject(new ServerError('overloaded', `${READS_MAX} reads are waiting`));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ deadlineMs, resolve, reject });
      this.#statistics.requestCount += 1;
      this.#advance();
    });
  }

  /** Begins a round if there is a reason to and none under way. */
  #advance(): void {
    if (this.#waiting.length === 0) return;
    this.#watch();
    if (this.#round !== undefined) return;
    const { clock, electionTimeoutMs } = this.#parts;
    const nowMs = clock.nowMs();
    if (this.#leaderId === null) {
      if (electionTimeoutMs < nowMs - this.#leaderlessSinceMs) this.#refuse(noLeader());
      return;
    }
    if (nowMs < this.#nextRoundMs) return;
    this.#begin(nowMs);
  }

  #begin(startMs: number): void {
    const round = { id: this.#nextId, startMs, requests: this.#waiting };
    this.#nextId += 1;
    this.#waiting = [];
    this.#round = round;
    this.#statistics.roundCount += 1;
    if (!this.#parts.ask(round.id)) this.stop();
  }

  /** What the core has to say. */
  onReadStates(states: readonly ReadState[]): void {
    for (const state of states) {
      const round = this.#round;
      if (round === undefined || state.id !== round.id) continue;
      if (state.kind === 'confirmed') this.#confirm(round, state.index);
      else {
        // Unless the leader has changed, it is asked again in a while only.
        this.#giveUp(round);
        this.#nextRoundMs = this.#parts.clock.nowMs() + this.#parts.heartbeatMs;
      }
    }
    this.#advance();
  }

  #confirm(round: Round, index: number): void {
    this.#round = undefined;
    this.#statistics.confirmedCount += 1;
    this.#statistics.lastRoundMs = this.#parts.clock.nowMs() - round.startMs;
    this.#freshness.learn({ asOfMs: round.startMs, index });
    for (const { resolve } of round.requests) resolve(index);
  }

  #giveUp(round: Round): void {
    this.#round = undefined;
    this.#waiting = [...round.requests, ...this.#waiting];
  }

  /** After each turn of the core. */
  observe(status: {
    readonly leaderId: NodeId | null;
    readonly currentTerm: number;
    readonly freshness: Freshness | undefined;
  }): void {
    const { leaderId, currentTerm, freshness } = status;
    if (freshness !== undefined && freshness !== this.#lastFreshness) {
      this.#lastFreshness = freshness;
      this.#freshness.learn(freshness);
    }
    if (leaderId !== this.#leaderId || currentTerm !== this.#term) {
      this.#term = currentTerm;
      this.#follow(leaderId);
    }
    this.#advance();
  }

  #follow(leaderId: NodeId | null): void {
    const wasLed = this.#leaderId !== null;
    if (leaderId === null && wasLed) this.#leaderlessSinceMs = this.#parts.clock.nowMs();
    this.#leaderId = leaderId;
    this.#nextRoundMs = -Infinity;
    if (this.#round !== undefined) this.#giveUp(this.#round);
  }

  #watch(): void {
    this.#cancelTimer ??= this.#parts.clock.every(CHECK_MS, () => this.#check());
  }

  #check(): void {
    const { clock, heartbeatMs } = this.#parts;
    const nowMs = clock.nowMs();
    const round = this.#round;
    // The core repeats a round of its own with every heartbeat; a question on its way may be lost.
    if (round !== undefined && 2 * heartbeatMs < nowMs - round.startMs) {
      this.#giveUp(round);
    }
    if (this.#waiting.some(({ deadlineMs }) => deadlineMs <= nowMs)) this.#expire(nowMs);
    this.#advance();
    if (this.#round !== undefined || this.#waiting.length > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #expire(nowMs: number): void {
    const isDue = ({ deadlineMs }: Request): boolean => deadlineMs <= nowMs;
    const due = this.#waiting.filter(isDue);
    this.#waiting = this.#waiting.filter((request) => !isDue(request));
    for (const { reject } of due) reject(unconfirmed());
  }

  #refuse(error: ServerError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { reject } of waiting) reject(error);
  }

  /** A core runs: it may take as long as an election until it knows of a leader. */
  start(): void {
    this.#leaderlessSinceMs = this.#parts.clock.nowMs();
  }

  /** The core has stopped: nobody answers any more. */
  stop(): void {
    if (this.#round !== undefined) this.#giveUp(this.#round);
    this.#follow(null);
    this.#leaderlessSinceMs = -Infinity;
    this.#refuse(noLeader());
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}

function noLeader(): ServerError {
  return new ServerError('no-leader', 'no leader is known who could confirm the read');
}

function unconfirmed(): ServerError {
  return new ServerError('not-current', 'no quorum has confirmed the leader in time');
}
