/**
 * One transaction above whatever it reads from: remembers what was read, keeps what is written to
 * itself, and shows the one through the other. Nothing is locked. That the reads still hold
 * is found out when it is committed, in the log's order, by every node alike (OpenBao
 * internal/physical/raft/transaction.go).
 *
 * The reads of one turn are of one state. Those of several turns may not be: whoever acts on them
 * may only do so through the commit, which then fails.
 */

import assert from 'node:assert/strict';
import { ServerError } from '../errors.ts';
import type { Transaction, ViewOperation } from './backend.ts';
import type { Commit, ListCondition, ListPage } from './ports.ts';

/** Behind key locks a conflict is rare, and each attempt is a round trip: then give up. */
export const TRANSACTION_ATTEMPTS_MAX = 8;

export type TransactionReader = {
  /** Told of each key that is read from below, once or more. */
  get(key: string): Uint8Array | undefined;
  list(prefix: string, page?: ListPage): Promise<string[]>;
  /** Throws `read-only` on a standby. */
  requireWritable(): void;
};

/** What a transaction comes to: to be sealed, and committed. */
export type Effects = {
  readonly reads: ReadonlyMap<string, Uint8Array | undefined>;
  readonly lists: readonly ListCondition[];
  readonly operations: readonly ViewOperation[];
};

/** The request that a transaction is made for, as it is recorded with it. */
export type OriginRequest = NonNullable<Commit['request']> & {
  /** Of the barrier, when the request began. */
  readonly tenure: number;
};

/** The request that a transaction was made for took effect before, or may have. */
export class RefusedRequest extends Error {
  readonly kind: 'duplicate' | 'expired';

  constructor(kind: 'duplicate' | 'expired') {
    super(`the request is ${kind}`);
    this.kind = kind;
  }
}

export class BufferedTransaction implements Transaction {
  readonly #reader: TransactionReader;
  /** Undefined: deleted. */
  readonly #written = new Map<string, Uint8Array | undefined>();
  readonly #lists: ListCondition[] = [];
  #isOver = false;

  constructor(reader: TransactionReader) {
    this.#reader = reader;
  }

  get(key: string): Uint8Array | undefined {
    this.#requireOpen();
    return this.#written.has(key) ? this.#written.get(key) : this.#reader.get(key);
  }

  async list(prefix: string, page: ListPage = {}): Promise<string[]> {
    this.#requireOpen();
    const touched = [...this.#written.keys()].some((key) => key.startsWith(prefix));
    if (!touched) return this.#listBelow(prefix, page);
    // A page of what is there may be shorter or longer with what was written here.
    const children = new Set(await this.#listBelow(prefix, {}));
    for (const [key, value] of this.#written) {
      if (!key.startsWith(prefix) || key === prefix) continue;
      const child = childOf(prefix, key);
      if (value !== undefined) children.add(child);
      else if (child === key.slice(prefix.length)) children.delete(child);
      else if (!(await this.#hasAny(prefix + child))) children.delete(child);
    }
    const after = page.after ?? '';
    const rest = [...children].filter((child) => compare(after, child) < 0).toSorted(compare);
    return page.limit === undefined || page.limit <= 0 ? rest : rest.slice(0, page.limit);
  }

  write(operations: readonly ViewOperation[]): void {
    this.#requireOpen();
    this.#reader.requireWritable();
    for (const operation of operations) {
      this.#written.set(operation.key, operation.kind === 'put' ? operation.value : undefined);
    }
  }

  /** Ends it. */
  finish(): Omit<Effects, 'reads'> {
    this.#isOver = true;
    const operations = [...this.#written].map(([key, value]): ViewOperation =>
      value === undefined ? { kind: 'delete', key } : { kind: 'put', key, value },
    );
    return { operations, lists: this.#lists };
  }

  async #listBelow(prefix: string, page: ListPage): Promise<string[]> {
    const children = await this.#reader.list(prefix, page);
    this.#lists.push({ prefix, page, children });
    return children;
  }

  /** Whether anything is left below a directory of which something was deleted here. */
  async #hasAny(directory: string): Promise<boolean> {
    for (const child of await this.#listBelow(directory, {})) {
      const path = directory + child;
      const isLeft = child.endsWith('/')
        ? await this.#hasAny(path)
        : !this.#written.has(path) || this.#written.get(path) !== undefined;
      if (isLeft) return true;
    }
    return [...this.#written].some(
      ([key, value]) => value !== undefined && key.startsWith(directory),
    );
  }

  #requireOpen(): void {
    // OpenBao's ErrTransactionAlreadyCommitted.
    assert(!this.#isOver, 'transaction has been committed or rolled back');
  }
}

/** OpenBao's ErrTransactionCommitFailure: every attempt met a change by somebody else. */
export function commitFailedError(): ServerError {
  return new ServerError('transaction-conflict', 'transaction commit failed');
}

function childOf(prefix: string, key: string): string {
  const slash = key.indexOf('/', prefix.length);
  return slash === -1 ? key.slice(prefix.length) : key.slice(prefix.length, slash + 1);
}

function compare(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
