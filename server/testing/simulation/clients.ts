/**
 * Clients of a simulated cluster, and the history of what they were told. Each has one request
 * under way. A write whose outcome it does not learn it sends again, under the same stamp, to some
 * other node: it must not take effect twice. What it knows in the end goes to the checkers of
 * `testing/history`.
 */

import { ServerError } from '../../errors.ts';
import type { NodeId } from '../../raft/message.ts';
import type { Operation as Record, Outcome, ReadLevel } from '../history/operation.ts';
import type { TransactionRead } from '../history/transaction.ts';
import { ClientTransactions, readOf } from './client-transactions.ts';
import type { EventQueue } from './event-queue.ts';
import type { NodeProcess } from './node-process.ts';
import type { Workload } from './matrix.ts';
import type { Operation } from './plan.ts';

const KEYS = 6;
const ALL_KEYS = Array.from({ length: KEYS }, (_, number) => `k${number}`);
const READ_TIMEOUT_MS = 500;
/** The client gives up waiting for an answer; the server may yet do what was asked. */
const CLIENT_TIMEOUT_MS = 1_500;
const ATTEMPTS_MAX = 4;
const RETRY_US = 30_000;
const WOKEN_CLIENT = 50;

export type Asked = { readonly process: NodeProcess; readonly id: NodeId };

export type ClientWorld = {
  readonly queue: EventQueue;
  /** Whom an operation goes to, if a client can reach anybody. */
  choose(operation: Operation, attempt: number): Asked | undefined;
  /** Runs a request on that node: later if it is paused, and never if it dies before. */
  ask(id: NodeId, run: () => void): void;
  /** Calls back when that node dies. */
  onDeath(id: NodeId, run: () => void): void;
  onFailure(error: unknown): void;
};

/** `client` is the process of the history. */
type ReadAsk = {
  readonly client: number;
  readonly key: string;
  readonly level: ReadLevel;
  readonly boundMs: number;
};

type Client = {
  readonly session: string;
  sequence: number;
  openedIndex: number | undefined;
  token: number;
  isBusy: boolean;
};

export class Clients {
  readonly #world: ClientWorld;
  readonly #workload: Workload;
  readonly #clients = new Map<number, Client>();
  readonly history: Record[] = [];
  readonly #transactions = new ClientTransactions();
  readonly counts: { [name: string]: number } = {};
  #serial = 0;
  #process = 0;
  underWay = 0;

  constructor(world: ClientWorld, workload: Workload) {
    this.#world = world;
    this.#workload = workload;
  }

  get transactions(): ClientTransactions['transactions'] {
    return this.#transactions.transactions;
  }

  operate(operation: Operation): void {
    const client = this.#client(operation.client);
    if (client.isBusy) return;
    client.isBusy = true;
    this.underWay += 1;
    const done = operation.isRead ? this.#read(client, operation) : this.#write(client, operation);
    done
      .then(
        () => undefined,
        (error: unknown) => this.#world.onFailure(error),
      )
      .finally(() => {
        client.isBusy = false;
        this.underWay -= 1;
      });
  }

  /** What a node is asked first when its host wakes up: nobody else knows how long it slept. */
  askWoken(asked: Asked): void {
    const key = keyOf({ pick: 0 }, 0);
    const ask = { client: WOKEN_CLIENT, key, level: 'bounded', boundMs: 60 } as const;
    this.#readFrom(asked, this.#client(WOKEN_CLIENT), ask).catch((error: unknown) =>
      this.#world.onFailure(error),
    );
  }

  async #read(client: Client, operation: Operation): Promise<void> {
    const asked = this.#world.choose(operation, 0);
    if (asked === undefined) return;
    const { levels } = this.#workload;
    const level = levels[Math.floor(operation.pick * 97) % levels.length] ?? 'stale';
    const boundMs = 50 + Math.floor(operation.pick * 500);
    const ask = { client: operation.client, key: keyOf(operation, 0), level, boundMs };
    await this.#readFrom(asked, client, ask);
  }

  async #readFrom(
    asked: Asked,
    client: Client,
    { client: process, key, level, boundMs }: ReadAsk,
  ): Promise<void> {
    const invokedNs = this.#nowNs();
    const { token } = client;
    const outcome = await this.#attempt(asked, () => {
      const { physical } = asked.process;
      this.#transactions.sawState(ALL_KEYS, (each) => physical.get(each));
      return readAt(asked.process, { level, key, boundMs, token });
    });
    this.#count(`read ${level} ${outcome.kind}`);
    if (level === 'session' && outcome.kind === 'ok') {
      client.token = Math.max(client.token, outcome.index ?? 0);
    }
    this.history.push({
      process,
      key,
      call: {
        kind: 'read',
        level,
        token: level === 'session' ? token : undefined,
        boundNs: level === 'bounded' ? boundMs * 1e6 : undefined,
      },
      outcome,
      node: asked.id,
      invokedNs,
      completedNs: outcome.kind === 'unknown' ? Infinity : this.#nowNs(),
    });
  }

  async #write(client: Client, operation: Operation): Promise<void> {
    this.#serial += 1;
    client.sequence += 1;
    const { sequence } = client;
    const value = `v${this.#serial}`.padEnd(operation.sizes[0] ?? 8, '.');
    const keys = [...new Set(operation.sizes.map((_, offset) => keyOf(operation, offset)))];
    const invokedNs = this.#nowNs();
    const isConditional = operation.pick > 1 - this.#workload.conditionalShare;
    let outcome: Outcome = { kind: 'fail', reason: 'nobody was reached' };
    let mayHaveHappened = false;
    let reads: readonly TransactionRead[] = [];
    const onApplied = (seen: readonly TransactionRead[]): void => void (reads = seen);
    let node: NodeId | undefined;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const asked = this.#world.choose(operation, attempt);
      if (asked !== undefined) {
        node = asked.id;
        client.openedIndex ??= asked.process.physical.appliedIndex();
        const { openedIndex } = client;
        const stamp = { session: client.session, openedIndex, sequence, acknowledgedBelow: 0 };
        outcome = await this.#attempt(asked, () =>
          writeAt(asked.process, { keys, value, stamp, isConditional, onApplied }),
        );
        mayHaveHappened ||= outcome.kind === 'unknown';
        if (outcome.kind === 'ok') break;
        if (outcome.kind === 'fail' && outcome.reason === 'conflict') break;
      }
      await this.#later(RETRY_US);
    }
    // A refusal of the last attempt says nothing about those before it.
    if (outcome.kind === 'fail' && mayHaveHappened) {
      outcome = { kind: 'unknown', reason: outcome.reason };
    }
    this.#count(`write ${outcome.kind}${outcome.kind === 'fail' ? ` ${outcome.reason}` : ''}`);
    const completedNs = outcome.kind === 'unknown' ? Infinity : this.#nowNs();
    if (outcome.kind === 'ok') client.token = Math.max(client.token, outcome.index ?? 0);
    this.#transactions.wrote({ keys, value, outcome, reads });
    // Behind an unknown outcome a process has none: it may still take effect.
    const process = outcome.kind === 'unknown' ? this.#newProcess() : operation.client;
    for (const key of keys) {
      const call = { kind: 'write', value } as const;
      this.history.push({ process, key, call, outcome, node, invokedNs, completedNs });
    }
  }

  /** Races the answer with the client's patience and the death of the node. */
  #attempt(asked: Asked, run: () => Promise<Outcome>): Promise<Outcome> {
    return new Promise((resolve) => {
      this.#world.queue.after(CLIENT_TIMEOUT_MS * 1000, () =>
        resolve({ kind: 'unknown', reason: 'timeout' }),
      );
      this.#world.onDeath(asked.id, () => resolve({ kind: 'unknown', reason: 'connection lost' }));
      this.#world.ask(asked.id, () => {
        run().then(resolve, (error: unknown) => {
          if (error instanceof ServerError) resolve(outcomeOf(error));
          else this.#world.onFailure(error);
        });
      });
    });
  }

  #later(delayUs: number): Promise<void> {
    return new Promise((resolve) => this.#world.queue.after(delayUs, resolve));
  }

  #client(number: number): Client {
    let client = this.#clients.get(number);
    if (client === undefined) {
      const session = number.toString(16).padStart(32, '0');
      client = { session, sequence: 0, openedIndex: undefined, token: 0, isBusy: false };
      this.#clients.set(number, client);
    }
    return client;
  }

  #newProcess(): number {
    this.#process += 1;
    return 1000 + this.#process;
  }

  #nowNs(): number {
    return this.#world.queue.nowUs * 1000;
  }

  #count(name: string): void {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }
}

function keyOf({ pick }: Pick<Operation, 'pick'>, offset: number): string {
  return ALL_KEYS[(Math.floor(pick * 1009) + offset) % KEYS] ?? '';
}

async function readAt(
  { physical, reads }: NodeProcess,
  asked: { level: ReadLevel; key: string; boundMs: number; token: number },
): Promise<Outcome> {
  const { level, key, boundMs, token } = asked;
  if (level === 'linearizable') await reads.linearize(READ_TIMEOUT_MS);
  if (level === 'session' && !(await physical.awaitApplied(token, READ_TIMEOUT_MS))) {
    return { kind: 'fail', reason: 'not current' };
  }
  if (level === 'bounded') {
    const stalenessMs = reads.stalenessMs();
    if (stalenessMs === undefined || boundMs < stalenessMs)
      return { kind: 'fail', reason: 'stale' };
  }
  const found = physical.get(key);
  const value = found === undefined ? null : Buffer.from(found).toString('latin1');
  return {
    kind: 'ok',
    answer: { kind: 'seen', value, version: 0 },
    index: physical.appliedIndex(),
  };
}

async function writeAt(
  { physical }: NodeProcess,
  asked: {
    readonly keys: readonly string[];
    readonly value: string;
    readonly stamp: {
      session: string;
      openedIndex: number;
      sequence: number;
      acknowledgedBelow: number;
    };
    readonly isConditional: boolean;
    /** With what it read, if this is the attempt that took effect. */
    readonly onApplied: (seen: readonly TransactionRead[]) => void;
  },
): Promise<Outcome> {
  const { keys, value, stamp, isConditional, onApplied } = asked;
  const operations = keys.map((key) => ({
    kind: 'put' as const,
    key,
    value: Buffer.from(value, 'latin1'),
  }));
  const reads = isConditional ? keys.map((key) => ({ key, value: physical.get(key) })) : [];
  const request = { stamp, phase: 'once' as const, result: Buffer.alloc(0) };
  const outcome = await physical.commit({ reads, lists: [], operations, request });
  const answer = { kind: 'written', version: 0 } as const;
  switch (outcome.kind) {
    case 'applied':
      onApplied(reads.map((read) => readOf(read.key, read.value)));
      return { kind: 'ok', answer, index: outcome.index };
    case 'duplicate':
      return { kind: 'ok', answer };
    case 'conflict':
      return { kind: 'fail', reason: 'conflict' };
    case 'expired':
      return { kind: 'unknown', reason: 'expired' };
  }
}

function outcomeOf(error: ServerError): Outcome {
  if (error.code === 'outcome-unknown') return { kind: 'unknown', reason: error.code };
  return { kind: 'fail', reason: error.code };
}
