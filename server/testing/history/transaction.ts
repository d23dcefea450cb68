/**
 * What transactions read and wrote, for the checker of their isolation (`serializability.ts`).
 *
 * A value is written once, so it names its writer; the order in which the values of a key took
 * effect is known (versions of kv version 2, or the log), so nothing has to be inferred.
 */

/** Null: the key had no value. */
export type TransactionRead = { readonly key: string; readonly value: string | null };
export type TransactionWrite = { readonly key: string; readonly value: string };

export type Transaction = {
  readonly name: string;
  /** `failed`: certainly without effect. An `unknown` one is judged by what it left. */
  readonly outcome: 'committed' | 'failed' | 'unknown';
  /** Of what other transactions wrote; what it reads of its own says nothing. */
  readonly reads: readonly TransactionRead[];
  /** In the order of the transaction; of several to one key the last one counts. */
  readonly writes: readonly TransactionWrite[];
};

/** By key: the values that took effect, the oldest first. */
export type ValueOrders = ReadonlyMap<string, readonly string[]>;
