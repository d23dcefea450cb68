/**
 * The closed-loop driver: autocannon, for saturation and as a cross-check. A fixed number of
 * connections each send the next request when the last is answered.
 *
 * Its response times are properties of the number of connections (R = C / X once saturated), so
 * they never stand in for an open loop's. Only autocannon's engine is used: its histogram counts
 * whole milliseconds, its correction for coordinated omission is wrong by a factor of 1000, and its
 * rate limit sends each second's requests in one burst. All counts here are our own, taken from its
 * per-connection events.
 */

import assert from 'node:assert/strict';
import autocannon from 'autocannon';
import type { Request, Target } from './exchange.ts';
import { Histogram } from './histogram.ts';

const NS_PER_SECOND = 1_000_000_000;

/** autocannon looks at its stop flag only this often. */
const STOP_CHECK_MS = 100;

const VERIFY_EVERY = 16;
const NODE_ID_HEADER = 'X-Vault-Raft-Node-ID';

/** Each connection holds its requests as bytes in memory. */
const REQUESTS_PER_CONNECTION_MAX = 10_000;

export type ClosedLoopRequest = Request & {
  readonly operation: number;
  /** Whether a 2xx answer is right. Asked of every `VERIFY_EVERY`-th one: it is not for nothing. */
  readonly isRight?: (status: number, body: string) => boolean;
};

export type ClosedLoopOptions = {
  readonly targets: readonly Target[];
  readonly operationNames: readonly string[];
  readonly connectionsPerTarget: number;
  /** The requests of one connection, sent in order and over again. */
  readonly requestsOf: (target: number, connection: number) => readonly ClosedLoopRequest[];
  readonly durationMs: number;
  readonly timeoutMs: number;
  readonly nowNs: () => number;
  readonly intervalMs: number;
  /** Called every `intervalMs` with what was completed since the last call. */
  readonly onInterval: (interval: ClosedLoopInterval) => void;
  /** Ends the loop early; what was counted until then is the result. */
  readonly signal: AbortSignal;
};

/** Answers of one target and operation. */
export type Completions = {
  /** 2xx. */
  ok: number;
  /** By status, of everything else. */
  readonly failed: Map<number, number>;
  /** Answered by another node than the one asked, of all answers that name the node. */
  forwarded: number;
};

export type ClosedLoopInterval = {
  readonly startNs: number;
  readonly endNs: number;
  /** [target][operation] */
  readonly completions: readonly (readonly Completions[])[];
};

export type ClosedLoopResult = ClosedLoopInterval & {
  /** C: connections in all, each with one request in flight. */
  readonly connections: number;
  /** When the first request was sent: making requests and connections takes a while before. */
  readonly firstSentNs: number;
  /** X: 2xx answers per second, all targets together. */
  readonly throughputPerSecond: number;
  /**
   * Time that requests spent in flight, of all connections together: the response times of all
   * answers, and the age of what was in flight at the end.
   */
  readonly inFlightSeconds: number;
  /** Answers of any status. */
  readonly answerCount: number;
  /** [target][operation], response times of 2xx answers. The caller destroys them. */
  readonly responses: readonly (readonly Histogram[])[];
  /** Connections lost or refused, per target. */
  readonly connectionErrors: readonly number[];
  /** Requests without an answer within `timeoutMs`, per target. */
  readonly timeouts: readonly number[];
  /** Of the answers that were looked at, how many were 2xx and yet wrong. */
  readonly wrongAnswers: number;
  /** autocannon's own count of answers, for comparison with ours. */
  readonly engineCount: number;
};

export async function closedLoop(options: ClosedLoopOptions): Promise<ClosedLoopResult> {
  const { targets, connectionsPerTarget, nowNs, signal } = options;
  assert(0 < targets.length, 'a closed loop needs a target');
  assert(0 < connectionsPerTarget, `a target needs a connection: ${connectionsPerTarget}`);
  const tally = new Tally(targets.length, options.operationNames.length, nowNs());

  // A callback that throws, because a node is gone, ends the loop and not the process.
  const failure = new AbortController();
  const timer = setInterval(() => {
    try {
      options.onInterval(tally.takeInterval(nowNs()));
    } catch (error) {
      clearInterval(timer);
      failure.abort(error);
    }
  }, options.intervalMs);
  try {
    const either = AbortSignal.any([signal, failure.signal]);
    const engine = await runEngine({ ...options, signal: either }, tally);
    failure.signal.throwIfAborted();
    options.onInterval(tally.takeInterval(tally.endNs(nowNs())));
    return tally.result(connectionsPerTarget * targets.length, engine, signal.aborted);
  } finally {
    clearInterval(timer);
  }
}

async function runEngine(options: ClosedLoopOptions, tally: Tally): Promise<autocannon.Result> {
  const { targets, connectionsPerTarget, durationMs, timeoutMs, signal } = options;
  const connectionCounts = targets.map(() => 0);
  const engine = autocannon({
    // With a list, connections are dealt out in turn; the type knows only a single address.
    url: targets.map((target) => target.origin) as unknown as string,
    connections: connectionsPerTarget * targets.length,
    pipelining: 1,
    // Ended by our own clock; the duration is a backstop.
    duration: Math.ceil(durationMs / 1000) + 5,
    timeout: Math.ceil(timeoutMs / 1000),
    sampleInt: STOP_CHECK_MS,
    // No rate, hence no correction for coordinated omission: `ignoreCoordinatedOmission` is implied,
    // and refused as an option.
    setupClient: (client) => {
      const target = targetOf(client, targets);
      const connection = connectionCounts[target] ?? 0;
      connectionCounts[target] = connection + 1;
      attach({ client, options, tally, target, connection });
    },
  });
  // Without a callback autocannon returns its tracker, which is also a promise.
  const tracker = engine as typeof engine & { stop(): void };
  const stop = (): void => {
    tally.stop(options.nowNs());
    tracker.stop();
  };
  const timer = setTimeout(stop, durationMs);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await engine;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function attach(connectionOf: {
  client: autocannon.Client;
  options: ClosedLoopOptions;
  tally: Tally;
  target: number;
  connection: number;
}): void {
  const { client, options, tally, target, connection } = connectionOf;
  const requests = options.requestsOf(target, connection);
  assert(0 < requests.length, 'a connection needs a request');
  assert(requests.length <= REQUESTS_PER_CONNECTION_MAX, 'too many requests for one connection');
  const nodeId = options.targets[target]?.nodeId;

  let operation = 0;
  let isForwarded = false;
  let answers = 0;
  client.setRequests(
    requests.map((request) => ({
      method: request.method,
      path: request.path,
      headers: headerObject(request.headers),
      ...(request.body === undefined ? {} : { body: request.body }),
      // Called just before the connection's `response` event, which does not know the request.
      onResponse: (status, body, _context, headers) => {
        operation = request.operation;
        isForwarded = isServedByOther(headers, nodeId);
        const isOk = 200 <= status && status < 300;
        if (answers++ % VERIFY_EVERY !== 0 || !isOk) return;
        if (request.isRight?.(status, body) === false) tally.addWrongAnswer();
      },
    })),
  );
  client.on('response', (status: number, _bytes: number, durationMs: number) => {
    tally.add({ target, operation, status, durationMs, isForwarded });
    tally.answered(client, options.nowNs(), durationMs);
  });
  // Two events that autocannon emits and its types leave out.
  const emitter: NodeJS.EventEmitter = client;
  emitter.on('connError', () => tally.addConnectionError(target));
  emitter.on('timeout', () => tally.addTimeout(target));
}

class Tally {
  #total: Completions[][];
  #interval: Completions[][];
  readonly #responses: Histogram[][];
  readonly #connectionErrors: number[];
  readonly #timeouts: number[];
  readonly #startNs: number;
  #intervalStartNs: number;
  #stopNs: number | undefined;
  #firstSentNs: number | undefined;
  /** When each connection last had an answer. */
  readonly #answeredNs = new Map<object, number>();
  #responseMsSum = 0;
  #answerCount = 0;
  #wrongCount = 0;
  #lateCount = 0;
  #okCount = 0;

  constructor(targetCount: number, operationCount: number, startNs: number) {
    this.#total = noCompletions(targetCount, operationCount);
    this.#interval = noCompletions(targetCount, operationCount);
    this.#responses = this.#total.map((row) => row.map(() => new Histogram()));
    this.#connectionErrors = this.#total.map(() => 0);
    this.#timeouts = this.#total.map(() => 0);
    this.#startNs = startNs;
    this.#intervalStartNs = startNs;
  }

  add(answer: {
    target: number;
    operation: number;
    status: number;
    durationMs: number;
    isForwarded: boolean;
  }): void {
    // The engine goes on for up to STOP_CHECK_MS after the end of the window.
    if (this.#stopNs !== undefined) {
      this.#lateCount += 1;
      return;
    }
    const { target, operation, status, durationMs } = answer;
    const isOk = 200 <= status && status < 300;
    for (const table of [this.#total, this.#interval]) {
      const completions = table[target]?.[operation];
      assert(completions !== undefined);
      if (isOk) completions.ok += 1;
      else completions.failed.set(status, (completions.failed.get(status) ?? 0) + 1);
      if (answer.isForwarded) completions.forwarded += 1;
    }
    if (isOk) {
      this.#okCount += 1;
      this.#responses[target]?.[operation]?.recordUs(durationMs * 1000);
    }
    this.#answerCount += 1;
    this.#responseMsSum += durationMs;
  }

  addConnectionError(target: number): void {
    this.#connectionErrors[target] = (this.#connectionErrors[target] ?? 0) + 1;
  }

  addWrongAnswer(): void {
    this.#wrongCount += 1;
  }

  addTimeout(target: number): void {
    this.#timeouts[target] = (this.#timeouts[target] ?? 0) + 1;
  }

  /** A connection sends its next request as soon as the last is answered. */
  answered(connection: object, atNs: number, durationMs: number): void {
    if (this.#stopNs !== undefined) return;
    this.#firstSentNs ??= atNs - durationMs * 1e6;
    this.#answeredNs.set(connection, atNs);
  }

  stop(atNs: number): void {
    this.#stopNs ??= atNs;
  }

  endNs(nowNs: number): number {
    return this.#stopNs ?? nowNs;
  }

  takeInterval(nowNs: number): ClosedLoopInterval {
    const interval = {
      startNs: this.#intervalStartNs,
      endNs: this.endNs(nowNs),
      completions: this.#interval,
    };
    this.#intervalStartNs = interval.endNs;
    this.#interval = noCompletions(this.#total.length, this.#total[0]?.length ?? 0);
    return interval;
  }

  result(connections: number, engine: autocannon.Result, isAborted: boolean): ClosedLoopResult {
    assert(this.#stopNs !== undefined || isAborted, 'autocannon ended before it was stopped');
    const endNs = this.endNs(this.#startNs);
    const elapsedS = (endNs - this.#startNs) / NS_PER_SECOND;
    const firstSentNs = this.#firstSentNs ?? this.#startNs;
    let agesNs = (connections - this.#answeredNs.size) * (endNs - firstSentNs);
    for (const atNs of this.#answeredNs.values()) agesNs += endNs - atNs;
    return {
      startNs: this.#startNs,
      firstSentNs,
      endNs,
      completions: this.#total,
      connections,
      throughputPerSecond: elapsedS > 0 ? this.#okCount / elapsedS : 0,
      inFlightSeconds: this.#responseMsSum / 1e3 + agesNs / NS_PER_SECOND,
      answerCount: this.#answerCount,
      responses: this.#responses,
      connectionErrors: this.#connectionErrors,
      timeouts: this.#timeouts,
      wrongAnswers: this.#wrongCount,
      engineCount: engine['2xx'] + engine.non2xx - this.#lateCount,
    };
  }
}

function noCompletions(targetCount: number, operationCount: number): Completions[][] {
  return Array.from({ length: targetCount }, () =>
    Array.from({ length: operationCount }, () => ({ ok: 0, failed: new Map(), forwarded: 0 })),
  );
}

/** autocannon does not say which address it gave to a connection but in the options it copied. */
function targetOf(client: autocannon.Client, targets: readonly Target[]): number {
  const { opts } = client as unknown as { opts: { origin: string } };
  const found = targets.findIndex((target) => new URL(target.origin).origin === opts.origin);
  assert(found >= 0, `autocannon connects to an unknown target: ${opts.origin}`);
  return found;
}

function headerObject(flat: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let index = 0; index + 1 < flat.length; index += 2) {
    headers[flat[index] ?? ''] = flat[index + 1] ?? '';
  }
  return headers;
}

function isServedByOther(headers: unknown, nodeId: string | undefined): boolean {
  if (nodeId === undefined || typeof headers !== 'object' || headers === null) return false;
  // As OpenBao spells it, so that the common case looks at one header only.
  if (NODE_ID_HEADER in headers) return headers[NODE_ID_HEADER] !== nodeId;
  for (const [name, value] of Object.entries(headers)) {
    if (name.toLowerCase() === NODE_ID_HEADER.toLowerCase()) return value !== nodeId;
  }
  return false;
}
