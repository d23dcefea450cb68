/**
 * Reads and writes at a given rate, whatever the cluster does (an open loop), each recorded with
 * its times on one monotonic clock and with what came of it.
 *
 * An operation is done by a process that has none under way. Where all are waiting it is dropped
 * and counted; after an unknown outcome a process goes on under another number.
 */

import type { Call, Operation, ReadLevel } from '../../server/testing/history/operation.ts';
import type { Random } from '../../server/testing/random.ts';
import { Keyspace } from './keyspace.ts';
import { indexOf, type KvClient } from './kv-client.ts';

export type LoadOptions = {
  readonly client: KvClient;
  readonly random: Random;
  readonly operationsPerSecond: number;
  /** Levels of reads, each as likely as any other. */
  readonly levels: readonly ReadLevel[];
  /** Of the reads, those that are linearizable whatever `levels` says. */
  readonly linearizableShare?: number | undefined;
  readonly boundMs: number;
  /** Nodes that requests are sent to, dead or alive. */
  nodes(): readonly { readonly id: string; readonly address: string }[];
};

/** One of so many may be under way at a time. */
const PROCESSES_MAX = 256;
const WRITE_SHARE = 0.4;
const CAS_SHARE = 0.1;
const DELETE_SHARE = 0.03;
/** Arrivals that are due are started together, so seldom. */
const TICK_MS = 5;
/** An operation that is later than that for its arrival is dropped: this process was stopped. */
const LATE_MS_MAX = 1_000;

type Worker = {
  process: number;
  /** Of the newest answer of its session. */
  token: string | undefined;
  index: number;
  versions: Map<string, number>;
};

export class Load {
  readonly keyspace: Keyspace;
  readonly operations: Operation[] = [];
  droppedCount = 0;
  readonly #options: LoadOptions;
  readonly #startNs = process.hrtime.bigint();
  readonly #idle: Worker[] = [];
  #processCount = 0;
  #serial = 0;
  #inFlight = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #nextArrivalMs = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.keyspace = new Keyspace(options.random);
    for (let count = 0; count < PROCESSES_MAX; count += 1) this.#idle.push(this.#newWorker());
  }

  /** Nanoseconds since this load was made. */
  nowNs(): number {
    return Number(process.hrtime.bigint() - this.#startNs);
  }

  start(): void {
    this.#nextArrivalMs = this.nowNs() / 1e6;
    this.#timer = setInterval(() => this.#startDue(), TICK_MS);
  }

  /** Resolves when everything that was started has been answered or given up. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
  }

  /** Poisson arrivals: the gaps are exponential. */
  #startDue(): void {
    const { random, operationsPerSecond } = this.#options;
    const nowMs = this.nowNs() / 1e6;
    while (this.#nextArrivalMs <= nowMs) {
      const isLate = nowMs - this.#nextArrivalMs > LATE_MS_MAX;
      this.#nextArrivalMs += (-Math.log(1 - random.next()) * 1000) / operationsPerSecond;
      const worker = isLate ? undefined : this.#idle.pop();
      if (worker === undefined) this.droppedCount += 1;
      else this.#track(this.#run(worker));
    }
  }

  #track(running: Promise<void>): void {
    const tracked = running.finally(() => this.#inFlight.delete(tracked));
    this.#inFlight.add(tracked);
  }

  async #run(worker: Worker): Promise<void> {
    const { client, random, nodes } = this.#options;
    const node = random.pick(nodes());
    const { key, call } = this.#next(worker);
    const invokedNs = this.nowNs();
    const { outcome, token } = await client.call(node.address, key, call, worker.token);
    const completedNs = outcome.kind === 'unknown' ? Infinity : this.nowNs();
    const { process } = worker;
    this.operations.push({ process, key, call, outcome, invokedNs, completedNs, node: node.id });
    if (outcome.kind === 'unknown') {
      this.#idle.push(this.#newWorker());
      return;
    }
    learn(worker, { key, call, outcome }, token);
    this.#idle.push(worker);
  }

  #newWorker(): Worker {
    const process = this.#processCount++;
    return { process, token: undefined, index: 0, versions: new Map() };
  }

  #next(worker: Worker): { readonly key: string; readonly call: Call } {
    const { random, boundMs } = this.#options;
    if (random.chance(WRITE_SHARE)) {
      const key = this.keyspace.keyToWrite();
      if (random.chance(DELETE_SHARE)) return { key, call: { kind: 'delete' } };
      const cas = random.chance(CAS_SHARE) ? (worker.versions.get(key) ?? 0) : undefined;
      this.#serial += 1;
      return { key, call: { kind: 'write', value: `v${this.#serial}`, cas } };
    }
    const level = this.#readLevel();
    const key = this.keyspace.keyToRead();
    switch (level) {
      case 'session': {
        if (worker.token === undefined) return { key, call: { kind: 'read', level: 'stale' } };
        return { key, call: { kind: 'read', level, token: worker.index } };
      }
      case 'bounded':
        return { key, call: { kind: 'read', level, boundNs: boundMs * 1e6 } };
      case 'stale':
      case 'linearizable':
      case 'leader':
        return { key, call: { kind: 'read', level } };
    }
  }

  #readLevel(): ReadLevel {
    const { random, levels, linearizableShare } = this.#options;
    if (linearizableShare === undefined) return random.pick(levels);
    if (random.chance(linearizableShare)) return 'linearizable';
    return random.pick(levels.filter((level) => level !== 'linearizable'));
  }
}

/** A session begins with any answer, and goes by those of its writes and of its session reads. */
function learn(
  worker: Worker,
  { key, call, outcome }: Pick<Operation, 'key' | 'call' | 'outcome'>,
  token: string | undefined,
): void {
  if (outcome.kind !== 'ok') return;
  const { answer } = outcome;
  if (answer.kind === 'seen' || answer.kind === 'written') {
    worker.versions.set(key, answer.version);
  }
  const isOfSession = call.kind !== 'read' || call.level === 'session';
  if (token === undefined || (worker.token !== undefined && !isOfSession)) return;
  const index = indexOf(token);
  if (index < worker.index) return;
  worker.index = index;
  worker.token = token;
}
