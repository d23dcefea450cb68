/**
 * What clients did, as transactions: each write with what its condition read, and at each read the
 * whole state at that moment. A serial order must explain it, stale or not, on whatever node; half
 * of a write must be seen nowhere.
 */

import type { Outcome } from '../history/operation.ts';
import type { StoredVersion } from '../history/durability.ts';
import type { Transaction, TransactionRead, ValueOrders } from '../history/transaction.ts';

type Write = {
  readonly keys: readonly string[];
  readonly value: string;
  readonly outcome: Outcome;
  /** What it depended on, where it is known to have taken effect; empty if it had no condition. */
  readonly reads: readonly TransactionRead[];
};

/** Of so many reads one looks at everything: the checker pays for every key of it. */
const SNAPSHOT_INTERVAL = 4;

export class ClientTransactions {
  readonly transactions: Transaction[] = [];
  #readCount = 0;

  wrote({ keys, value, outcome, reads }: Write): void {
    const outcomes = { ok: 'committed', fail: 'failed', unknown: 'unknown' } as const;
    this.#add('write', {
      outcome: outcomes[outcome.kind],
      reads,
      writes: keys.map((key) => ({ key, value: nameOf(key, value) })),
    });
  }

  /** In one turn: `get` tells of one state. */
  sawState(keys: readonly string[], get: (key: string) => Uint8Array | undefined): void {
    this.#readCount += 1;
    if (this.#readCount % SNAPSHOT_INTERVAL !== 0) return;
    const reads = keys.map((key) => readOf(key, get(key)));
    this.#add('snapshot', { outcome: 'committed', reads, writes: [] });
  }

  #add(kind: string, transaction: Omit<Transaction, 'name'>): void {
    this.transactions.push({ ...transaction, name: `${kind} ${this.transactions.length + 1}` });
  }
}

export function readOf(key: string, value: Uint8Array | undefined): TransactionRead {
  const text = value === undefined ? null : Buffer.from(value).toString('latin1');
  return { key, value: text === null ? null : nameOf(key, text) };
}

/** By the log. */
export function valueOrdersOf(stored: readonly StoredVersion[]): ValueOrders {
  const orders = new Map<string, string[]>();
  for (const { key, value } of stored) {
    const order = orders.get(key) ?? [];
    orders.set(key, order);
    order.push(nameOf(key, value));
  }
  return orders;
}

/** A client writes one value to several keys. */
function nameOf(key: string, value: string): string {
  return `${key}: ${value}`;
}
