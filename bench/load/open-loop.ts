/**
 * The open-loop driver: starts every request of a plan when it is due, whatever the server does.
 *
 * Four clocks are kept for each request, and they add up:
 *
 *     intended start    actual start        written           completion
 *          |---- lag ---------|---- wait -------|--- service -----|
 *          |------------------------ response --------------------|
 *
 * - *lag* (start delay): the generator was late to its own plan.
 * - *wait*: no socket was free, or it had to reconnect.
 * - *service*: from the first byte written to the last byte of the answer.
 * - *response*: what a user who meant to start at that moment would have seen.
 *
 * Rules that keep the numbers honest:
 * - After a stall all due requests start at once with the start times they were meant to have.
 * - At `inFlightMax` a request is dropped and counted; the plan never blocks.
 * - A request without an answer `timeoutMs` after its actual start is a right-censored sample: its
 *   response time is known only to be longer than what is recorded.
 * - Each row of the plan ends in exactly one `Outcome`.
 *
 * Samples are raw columns, one row per request, allocated before the phase: nothing is encoded,
 * resized, or merged while the load runs. `recorder.ts` turns them into histograms afterwards.
 */

import assert from 'node:assert/strict';
import type { Clock } from './clock.ts';
import {
  ROUTES,
  routeOf,
  type Answer,
  type Request,
  type Sender,
  type Target,
} from './exchange.ts';
import type { Plan } from './plan.ts';

const NS_PER_MS = 1_000_000;

/** How a request ended. */
export const OUTCOMES = [
  /** Never due: the run was aborted first. */
  'unstarted',
  'ok',
  /** No answer, or an answer with an error status; see `failureClasses`. */
  'failed',
  /** Answered with success, but the answer is wrong. */
  'invalid',
  'timedOut',
  /** Due while `inFlightMax` requests were in flight: never started. */
  'dropped',
  /** In flight when the run was aborted. */
  'abandoned',
] as const;

export type Outcome = (typeof OUTCOMES)[number];

/** Row i belongs to row i of the plan. Times in ns; NaN where there is none. */
export type Samples = {
  readonly length: number;
  /** Index into `OUTCOMES`. */
  readonly outcome: Uint8Array;
  /** Index into `ROUTES`. */
  readonly route: Uint8Array;
  /** Index into `failureClasses`; meaningful where the outcome is `failed`. */
  readonly failure: Uint8Array;
  readonly lagNs: Float64Array;
  readonly waitNs: Float64Array;
  readonly serviceNs: Float64Array;
  /** A lower bound where the outcome is `timedOut` or `abandoned`. */
  readonly responseNs: Float64Array;
  /** From the start of the phase. */
  readonly completionNs: Float64Array;
  /** `http-503`, `reset`, ...: in order of first occurrence. */
  readonly failureClasses: readonly string[];
};

export type OpenLoopResult = {
  readonly samples: Samples;
  readonly counts: Readonly<Record<Outcome, number>>;
  /** Clock reading at the plan's zero. */
  readonly startNs: number;
  readonly endNs: number;
  /** Time integral of requests in flight over the phase, in request-seconds: Little's L times T. */
  readonly inFlightSeconds: number;
  readonly inFlightPeak: number;
};

export type OpenLoopOptions = {
  readonly plan: Plan;
  readonly targets: readonly Target[];
  readonly sender: Sender;
  readonly clock: Clock;
  /** Builds the request of a row of the plan, just before it starts. */
  readonly requestOf: (index: number) => Request;
  /** Whether an answer with status 2xx or 404 is the right one for a row of the plan. */
  readonly verify: (index: number, status: number, body: Buffer) => boolean;
  readonly inFlightMax: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
};

/** Runs `plan` to its end: until each request has ended, at most `timeoutMs` after the last. */
export function openLoop(options: OpenLoopOptions): Promise<OpenLoopResult> {
  assert(0 < options.inFlightMax, `in-flight limit must be positive: ${options.inFlightMax}`);
  assert(0 < options.timeoutMs, `timeout must be positive: ${options.timeoutMs}`);
  return new Promise((resolve, reject) => {
    new OpenLoop(options, resolve, reject).start();
  });
}

type InFlight = {
  readonly index: number;
  readonly actualStartNs: number;
  isSettled: boolean;
  abort: () => void;
};

/**
 * Invariants:
 * - `#next` rows have been started, dropped, or neither because of an abort; later rows wait.
 * - `#oldest` is in order of actual start, hence of deadline.
 * - `#inFlight` counts the rows of `#oldest` that are not settled.
 */
class OpenLoop {
  readonly #options: OpenLoopOptions;
  readonly #resolve: (result: OpenLoopResult) => void;
  readonly #reject: (error: unknown) => void;
  readonly #columns: Samples;
  readonly #failureClasses: string[] = [];
  readonly #timeoutNs: number;
  readonly #onAbort = (): void => this.#abandon();

  #startNs = 0;
  #next = 0;
  #inFlight = 0;
  #inFlightPeak = 0;
  #inFlightNs = 0;
  #inFlightSinceNs = 0;
  #oldest: InFlight[] = [];
  #oldestStart = 0;
  #wakeAtNs = Number.POSITIVE_INFINITY;
  #cancelWake: (() => void) | undefined;
  #isPumping = false;
  #isDone = false;

  constructor(
    options: OpenLoopOptions,
    resolve: (result: OpenLoopResult) => void,
    reject: (error: unknown) => void,
  ) {
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timeoutNs = options.timeoutMs * NS_PER_MS;
    this.#columns = emptySamples(options.plan.length, this.#failureClasses);
  }

  start(): void {
    const { clock, signal } = this.#options;
    this.#startNs = clock.nowNs();
    this.#inFlightSinceNs = this.#startNs;
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#abandon();
    else this.#pump();
  }

  /** Starts what is due, expires what is overdue, and asks to be woken for what comes next. */
  #pump(): void {
    // A sender may settle before `send` returns: the outer call goes on with the work.
    if (this.#isPumping || this.#isDone) return;
    this.#isPumping = true;
    try {
      const { plan, clock } = this.#options;
      const nowNs = clock.nowNs();
      this.#expire(nowNs);
      // Due by one reading: requests that fall due meanwhile wait for the next turn of the event
      // loop, or a generator slower than its plan would never come to read an answer.
      const elapsedNs = nowNs - this.#startNs;
      while (this.#next < plan.length && (plan.intendedStartNs[this.#next] ?? 0) <= elapsedNs) {
        this.#startRequest(this.#next++);
      }
      if (this.#next === plan.length && this.#inFlight === 0) this.#finish();
      else this.#wakeForNext();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isPumping = false;
    }
  }

  #wakeForNext(): void {
    const { plan, clock } = this.#options;
    const nextStartNs = plan.intendedStartNs[this.#next] ?? Number.POSITIVE_INFINITY;
    const oldest = this.#oldestInFlight();
    const deadlineNs =
      oldest === undefined ? Number.POSITIVE_INFINITY : oldest.actualStartNs + this.#timeoutNs;
    const wakeAtNs = Math.min(this.#startNs + nextStartNs, deadlineNs);
    // A wake that comes too early is harmless; a new timer for each answer is not.
    if (this.#wakeAtNs <= wakeAtNs) return;

    this.#cancelWake?.();
    this.#wakeAtNs = wakeAtNs;
    this.#cancelWake = clock.wakeAt(wakeAtNs, () => {
      this.#wakeAtNs = Number.POSITIVE_INFINITY;
      this.#cancelWake = undefined;
      this.#pump();
    });
  }

  #startRequest(index: number): void {
    const { plan, sender, clock, requestOf, inFlightMax } = this.#options;
    if (this.#inFlight >= inFlightMax) {
      this.#columns.outcome[index] = OUTCOME.dropped;
      return;
    }
    const request = requestOf(index);
    const actualStartNs = clock.nowNs();
    this.#columns.lagNs[index] = actualStartNs - this.#startNs - (plan.intendedStartNs[index] ?? 0);

    const inFlight: InFlight = { index, actualStartNs, isSettled: false, abort: () => {} };
    this.#oldest.push(inFlight);
    this.#changeInFlight(1, actualStartNs);
    this.#inFlightPeak = Math.max(this.#inFlightPeak, this.#inFlight);
    const handle = sender.send(plan.target[index] ?? 0, request, (answer) => {
      this.#settle(inFlight, answer);
    });
    inFlight.abort = () => handle.abort();
  }

  #settle(inFlight: InFlight, answer: Answer): void {
    // Expired or abandoned: its sample is written.
    if (inFlight.isSettled) return;
    const { index, actualStartNs } = inFlight;
    this.#end(inFlight, answer.completionNs);

    const writtenNs = answer.writtenNs ?? answer.completionNs;
    this.#columns.waitNs[index] = writtenNs - actualStartNs;
    this.#columns.serviceNs[index] = answer.completionNs - writtenNs;
    try {
      this.#columns.outcome[index] = this.#judge(index, answer);
    } catch (error) {
      this.#fail(error);
    }
    // Catching up here is free: the timer may be a millisecond late, this callback is not.
    this.#pump();
  }

  #judge(index: number, answer: Answer): number {
    if (answer.kind === 'failed') return this.#failedAs(index, answer.failure);

    const { plan, targets, verify } = this.#options;
    const target = targets[plan.target[index] ?? 0];
    assert(target !== undefined, 'plan names a target that is not there');
    this.#columns.route[index] = ROUTES.indexOf(routeOf(target, answer.servedBy));

    const { status, body } = answer;
    if ((status < 200 || 300 <= status) && status !== 404) {
      return this.#failedAs(index, `http-${status}`);
    }
    return verify(index, status, body) ? OUTCOME.ok : OUTCOME.invalid;
  }

  #failedAs(index: number, failureClass: string): number {
    let found = this.#failureClasses.indexOf(failureClass);
    if (found < 0) found = this.#failureClasses.push(failureClass) - 1;
    assert(found < 256, 'more failure classes than a byte holds');
    this.#columns.failure[index] = found;
    return OUTCOME.failed;
  }

  #expire(nowNs: number): void {
    for (
      let oldest = this.#oldestInFlight();
      oldest !== undefined && oldest.actualStartNs + this.#timeoutNs <= nowNs;
      oldest = this.#oldestInFlight()
    ) {
      this.#end(oldest, nowNs);
      this.#columns.outcome[oldest.index] = OUTCOME.timedOut;
      oldest.abort();
    }
  }

  #abandon(): void {
    if (this.#isDone) return;
    const nowNs = this.#options.clock.nowNs();
    const { length } = this.#options.plan;
    // From here on no row starts; `outcome` of the rest stays `unstarted`.
    this.#next = length;
    for (
      let oldest = this.#oldestInFlight();
      oldest !== undefined;
      oldest = this.#oldestInFlight()
    ) {
      this.#end(oldest, nowNs);
      this.#columns.outcome[oldest.index] = OUTCOME.abandoned;
      oldest.abort();
    }
    this.#finish();
  }

  /** Returns the request that was started first among those in flight. */
  #oldestInFlight(): InFlight | undefined {
    while (this.#oldest[this.#oldestStart]?.isSettled === true) this.#oldestStart += 1;
    if (this.#oldestStart > 1024 && this.#oldestStart * 2 > this.#oldest.length) {
      this.#oldest = this.#oldest.slice(this.#oldestStart);
      this.#oldestStart = 0;
    }
    return this.#oldest[this.#oldestStart];
  }

  #end(inFlight: InFlight, completionNs: number): void {
    const { index } = inFlight;
    assert(!inFlight.isSettled);
    // oxlint-disable-next-line no-param-reassign -- the object is this class's own bookkeeping
    inFlight.isSettled = true;
    this.#changeInFlight(-1, completionNs);
    const completedNs = completionNs - this.#startNs;
    this.#columns.completionNs[index] = completedNs;
    this.#columns.responseNs[index] =
      completedNs - (this.#options.plan.intendedStartNs[index] ?? 0);
  }

  /** Integrates requests in flight over time, apart from the samples, so that Little's law is a check. */
  #changeInFlight(change: 1 | -1, atNs: number): void {
    this.#inFlightNs += this.#inFlight * (atNs - this.#inFlightSinceNs);
    this.#inFlightSinceNs = atNs;
    this.#inFlight += change;
  }

  #finish(): void {
    if (this.#isDone) return;
    this.#stop();
    this.#resolve({
      samples: this.#columns,
      counts: countOutcomes(this.#columns),
      startNs: this.#startNs,
      endNs: this.#options.clock.nowNs(),
      inFlightSeconds: this.#inFlightNs / 1e9,
      inFlightPeak: this.#inFlightPeak,
    });
  }

  /** A bug in `requestOf`, `verify`, or the sender ends the run. */
  #fail(error: unknown): void {
    if (this.#isDone) return;
    this.#stop();
    for (const inFlight of this.#oldest.slice(this.#oldestStart)) {
      if (!inFlight.isSettled) inFlight.abort();
    }
    this.#reject(error);
  }

  #stop(): void {
    this.#isDone = true;
    this.#cancelWake?.();
    this.#options.signal.removeEventListener('abort', this.#onAbort);
  }
}

const OUTCOME = Object.fromEntries(OUTCOMES.map((outcome, index) => [outcome, index])) as Record<
  Outcome,
  number
>;

function emptySamples(length: number, failureClasses: readonly string[]): Samples {
  const noTimes = (): Float64Array => new Float64Array(length).fill(Number.NaN);
  return {
    length,
    outcome: new Uint8Array(length),
    route: new Uint8Array(length),
    failure: new Uint8Array(length),
    lagNs: noTimes(),
    waitNs: noTimes(),
    serviceNs: noTimes(),
    responseNs: noTimes(),
    completionNs: noTimes(),
    failureClasses,
  };
}

function countOutcomes(samples: Samples): Record<Outcome, number> {
  const counts = OUTCOMES.map(() => 0);
  for (const outcome of samples.outcome) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return Object.fromEntries(
    OUTCOMES.map((outcome, index) => [outcome, counts[index] ?? 0]),
  ) as Record<Outcome, number>;
}
