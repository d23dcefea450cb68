/**
 * Who has to come before whom (Adya's direct serialization graph, as Elle builds it).
 *
 * - `ww`: it wrote the value that the other one replaced;
 * - `wr`: it wrote the value that the other one read;
 * - `rw`: it read the value that the other one replaced.
 */

import type { Transaction, ValueOrders } from './transaction.ts';

export type DependencyKind = 'ww' | 'wr' | 'rw';

/** Positions in the list of transactions. */
export type Dependency = {
  readonly from: number;
  readonly to: number;
  readonly kind: DependencyKind;
  readonly key: string;
};

/** By value: who wrote it. */
export type Writers = ReadonlyMap<string, number>;

/** `orders` hold the last value that each transaction wrote to a key, and no others. */
export function dependenciesOf(
  transactions: readonly Transaction[],
  orders: ValueOrders,
  writers: Writers,
): Dependency[] {
  const dependencies: Dependency[] = [];
  const add = (
    from: number | undefined,
    to: number | undefined,
    kind: DependencyKind,
    key: string,
  ): void => {
    if (from === undefined || to === undefined || from === to) return;
    dependencies.push({ from, to, kind, key });
  };
  const nextOf = new Map<string, number>();
  for (const [key, values] of orders) {
    values.forEach((value, position) => {
      const writer = writers.get(value);
      const before = values[position - 1];
      if (writer !== undefined) nextOf.set(placeOf(key, before ?? null), writer);
      if (before !== undefined) add(writers.get(before), writer, 'ww', key);
    });
  }
  transactions.forEach(({ reads }, reader) => {
    for (const { key, value } of reads) {
      if (value !== null) add(writers.get(value), reader, 'wr', key);
      add(reader, nextOf.get(placeOf(key, value)), 'rw', key);
    }
  });
  return dependencies;
}

function placeOf(key: string, value: string | null): string {
  return value === null ? key : `${key} = ${value}`;
}
