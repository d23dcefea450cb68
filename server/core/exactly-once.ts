/**
 * A forwarded request takes effect once, however often its standby has to ask (raft.md 3.9). What
 * the standby sends along is a stamp; what is remembered of it is in replicated state, written in
 * the same command as the effect, so that no crash comes between the two:
 *
 * - If all that a request writes is one transaction, the stamp and the answer are part of it.
 * - Otherwise its beginning is recorded before anything else is written, and its answer after. In
 *   between nobody can tell how far it came: a repetition gets `response-lost`, not a second try.
 * - A repeated write that comes to nothing is recorded, too, before it is answered: only the log can
 *   say that the attempts before it never will take effect either.
 *
 * At most one execution is under way here: a repetition that arrives meanwhile gets the same
 * answer. An execution that outlives this node's office cannot record, hence not write, anything.
 *
 * The recorded answer is sealed by the barrier, as everything that is stored.
 */

import { ServerError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { LogicalResponse, Transaction } from './backend.ts';
import type { Barrier } from './barrier.ts';
import type { CommitOutcome, PhysicalStore, RequestStamp } from './ports.ts';
import { RefusedRequest } from './transaction.ts';
import type { OriginRequest } from './transaction.ts';
import type { OriginView } from './view.ts';

export type StampedRequest = {
  readonly stamp: RequestStamp;
  /** An earlier attempt was handed over, and nobody knows what became of it. */
  readonly isRepeated: boolean;
};

export type Execution = {
  /** A read that comes again is read again: nothing needs to be recorded of it. */
  readonly isWrite: boolean;
  readonly execute: (origin: RequestOrigin) => Promise<LogicalResponse | undefined>;
};

/** Longer answers are not kept; below what the state machine takes, with room for the seal. */
export const ANSWER_BYTES_MAX = 15 * 1024;

/** For which request something is done, and how that is answered. */
export type Asked<T> = {
  readonly origin: RequestOrigin | undefined;
  readonly answer: (result: T) => LogicalResponse | undefined;
};

type Answer =
  | { readonly response: LogicalResponse | null }
  | { readonly error: { readonly code: ErrorCode; readonly message: string } };

type Respond = () => Promise<LogicalResponse | undefined>;

const BEGUN = Buffer.of(0);
/** It took effect, and its answer was too long. */
const DONE = Buffer.of(1);
const ANSWERED = 2;

/** These say nothing of what the request would have come to. */
const UNDECIDED: readonly ErrorCode[] = [
  'no-leader',
  'outcome-unknown',
  'read-only',
  'standby-please-forward',
  'session-expired',
  'overloaded',
  'transaction-conflict',
  'not-current',
  'sealed',
  'internal',
];

export class RequestLedger {
  readonly #barrier: Barrier;
  readonly #physical: Pick<PhysicalStore, 'recorded'>;
  readonly #underWay = new Map<string, Promise<LogicalResponse | undefined>>();

  constructor(barrier: Barrier, physical: Pick<PhysicalStore, 'recorded'>) {
    this.#barrier = barrier;
    this.#physical = physical;
  }

  /** Executes the request unless it took effect before; then its answer is what it was. */
  async run(request: StampedRequest, execution: Execution): Promise<LogicalResponse | undefined> {
    const { session, sequence } = request.stamp;
    const name = `${session}/${sequence}`;
    const underWay = this.#underWay.get(name);
    if (underWay !== undefined) return underWay;
    const run = this.#run(request, execution);
    this.#underWay.set(name, run);
    try {
      return await run;
    } finally {
      this.#underWay.delete(name);
    }
  }

  async #run(
    { stamp, isRepeated }: StampedRequest,
    { isWrite, execute }: Execution,
  ): Promise<LogicalResponse | undefined> {
    const recorded = this.#physical.recorded(stamp);
    if (recorded.kind === 'expired') throw expiredError();
    if (recorded.kind === 'recorded') return this.#replay(stamp, recorded.result);
    const origin = new RequestOrigin(this.#barrier, stamp);
    const mustRecord = isRepeated && isWrite;
    try {
      const response = await execute(origin);
      if (mustRecord && !origin.isRecorded) await origin.record({ response: response ?? null });
      return response;
    } catch (error) {
      if (error instanceof RefusedRequest) return this.#refused(stamp, error);
      if (!mustRecord || origin.isRecorded || !isDecided(error)) throw error;
      return await this.#recordError(stamp, origin, error);
    }
  }

  async #recordError(
    stamp: RequestStamp,
    origin: RequestOrigin,
    error: ServerError,
  ): Promise<LogicalResponse | undefined> {
    try {
      await origin.record({ error: { code: error.code, message: error.message } });
    } catch (refusal) {
      if (refusal instanceof RefusedRequest) return this.#refused(stamp, refusal);
      throw refusal;
    }
    throw error;
  }

  /** The log knew better than this node did when it looked. */
  #refused(stamp: RequestStamp, { kind }: RefusedRequest): LogicalResponse | undefined {
    const recorded = this.#physical.recorded(stamp);
    if (kind === 'expired' || recorded.kind !== 'recorded') throw expiredError();
    return this.#replay(stamp, recorded.result);
  }

  #replay(stamp: RequestStamp, result: Uint8Array): LogicalResponse | undefined {
    if (result[0] === BEGUN[0]) {
      throw new ServerError(
        'response-lost',
        'the request began to take effect before it was interrupted',
      );
    }
    if (result[0] === DONE[0]) {
      throw new ServerError('response-lost', 'the request took effect and its response is lost');
    }
    const text = this.#barrier.open(pathOf(stamp), result.subarray(1)).toString('utf8');
    // Written by `RequestOrigin` only.
    const answer = JSON.parse(text) as Answer;
    if ('error' in answer) throw new ServerError(answer.error.code, answer.error.message);
    return answer.response ?? undefined;
  }
}

/** Through what one execution of a stamped request writes. */
export class RequestOrigin {
  readonly #barrier: Barrier;
  readonly #stamp: RequestStamp;
  readonly #tenure: number;
  #isRecorded = false;

  constructor(barrier: Barrier, stamp: RequestStamp) {
    this.#barrier = barrier;
    this.#stamp = stamp;
    this.#tenure = barrier.tenure;
  }

  get isRecorded(): boolean {
    return this.#isRecorded;
  }

  /** Commits `change` as what the request does, with `answer` of what it returns. */
  async transact<T>(
    view: Pick<OriginView, 'transact'>,
    change: (transaction: Transaction) => T | Promise<T>,
    answer: (result: T) => LogicalResponse | undefined,
  ): Promise<T> {
    if (this.#isRecorded) return view.transact(change);
    let isWritten = false;
    const result = await view.transact(change, (outcome) => {
      isWritten = true;
      return this.#request('once', this.#encode({ response: answer(outcome) ?? null }));
    });
    this.#isRecorded = isWritten;
    return result;
  }

  /** Runs what writes more than once, or by other ways than `transact`. */
  async bracket(respond: Respond): Promise<LogicalResponse | undefined> {
    if (this.#isRecorded) return respond();
    await this.#commit(this.#request('once', BEGUN));
    this.#isRecorded = true;
    let response: LogicalResponse | undefined;
    try {
      response = await respond();
    } catch (error) {
      // A bug is told, and logged, as one.
      if (!(error instanceof ServerError)) throw error;
      if (!isDecided(error)) throw interruptedError(error);
      await this.#finish({ error: { code: error.code, message: error.message } });
      throw error;
    }
    await this.#finish({ response: response ?? null });
    return response;
  }

  /** Records the answer of a request that wrote nothing. */
  async record(answer: Answer): Promise<void> {
    await this.#commit(this.#request('once', this.#encode(answer)));
    this.#isRecorded = true;
  }

  /** The answer is known and goes out; should this fail, a repetition learns that it began. */
  async #finish(answer: Answer): Promise<void> {
    try {
      await this.#barrier.recordRequest(this.#request('finish', this.#encode(answer)));
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
    }
  }

  async #commit(request: OriginRequest): Promise<void> {
    const outcome: CommitOutcome = await this.#barrier.recordRequest(request);
    if (outcome.kind === 'duplicate' || outcome.kind === 'expired') {
      throw new RefusedRequest(outcome.kind);
    }
  }

  #request(phase: OriginRequest['phase'], result: Uint8Array): OriginRequest {
    return { stamp: this.#stamp, phase, result, tenure: this.#tenure };
  }

  #encode(answer: Answer): Uint8Array {
    const text = Buffer.from(JSON.stringify(answer));
    if (ANSWER_BYTES_MAX < text.length) return DONE;
    return Buffer.concat([Buffer.of(ANSWERED), this.#barrier.sealFor(pathOf(this.#stamp), text)]);
  }
}

/** Binds an answer to its request, as a path binds what is stored. */
function pathOf({ session, sequence }: RequestStamp): string {
  return `core/request/${session}/${sequence}`;
}

/** Whether a refusal leaves open what the request would have come to, or did. */
export function isUndecided(code: ErrorCode): boolean {
  return UNDECIDED.includes(code);
}

function isDecided(error: unknown): error is ServerError {
  return error instanceof ServerError && !isUndecided(error.code);
}

/** Even where the last write is known to have come to nothing: it may not have been the first. */
function interruptedError(cause: unknown): ServerError {
  const message = 'the request was interrupted: it may or may not have taken effect';
  return new ServerError('outcome-unknown', message, { cause });
}

function expiredError(): ServerError {
  return new ServerError('session-expired', 'the request is too old to be told from a new one');
}
