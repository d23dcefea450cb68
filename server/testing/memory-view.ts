/**
 * A `View` in memory: what the tests of the core and its backends use in place of the barrier.
 * Writes become visible in a later turn, as they do above a replicated log, and in the same turn
 * every listener hears of each key.
 */

import type { View, ViewOperation } from '../core/backend.ts';
import { BufferedTransaction } from '../core/transaction.ts';
import { readOnlyError } from '../errors.ts';

export type MemoryView = Required<View> & {
  readonly entries: Map<string, Uint8Array>;
  /** What each write held, in order. */
  readonly writes: (readonly ViewOperation[])[];
  readonly listeners: ((key: string) => void)[];
  /** As on a standby: every write throws `read-only`. */
  isReadOnly: boolean;
  /** Set to make the next write fail with it. */
  failNext: Error | undefined;
};

export function createMemoryView(): MemoryView {
  const entries = new Map<string, Uint8Array>();
  const view: MemoryView = {
    entries,
    writes: [],
    listeners: [],
    isReadOnly: false,
    failNext: undefined,
    get: (key) => entries.get(key),
    async list(prefix, page) {
      const names = new Set<string>();
      for (const key of entries.keys()) {
        if (!key.startsWith(prefix)) continue;
        const slash = key.indexOf('/', prefix.length);
        names.add(slash === -1 ? key.slice(prefix.length) : key.slice(prefix.length, slash + 1));
      }
      const after = page?.after;
      const sorted = [...names].filter((name) => after === undefined || name > after).toSorted();
      return page?.limit === undefined || page.limit <= 0 ? sorted : sorted.slice(0, page.limit);
    },
    put: (key, value) => view.write([{ kind: 'put', key, value }]),
    delete: (key) => view.write([{ kind: 'delete', key }]),
    async write(operations) {
      view.requireWritable();
      view.writes.push(operations);
      const failure = view.failNext;
      view.failNext = undefined;
      await new Promise((resolve) => setImmediate(resolve));
      if (failure !== undefined) throw failure;
      for (const operation of operations) {
        if (operation.kind === 'put') entries.set(operation.key, operation.value);
        else entries.delete(operation.key);
      }
      for (const { key } of operations) for (const listener of view.listeners) listener(key);
    },
    async transact(change) {
      const transaction = new BufferedTransaction({
        get: (key) => entries.get(key),
        list: (prefix, page) => view.list(prefix, page),
        requireWritable: () => view.requireWritable(),
      });
      const result = await change(transaction);
      const { operations } = transaction.finish();
      if (operations.length > 0) await view.write(operations);
      return result;
    },
    requireWritable() {
      if (view.isReadOnly) throw readOnlyError();
    },
  };
  return view;
}
