/**
 * The barrier below one prefix. Whoever holds a view can name nothing outside of it.
 */

import assert from 'node:assert/strict';
import type { Namespace, Transaction, View, ViewOperation } from './backend.ts';
import type { Barrier } from './barrier.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { ListPage } from './ports.ts';
import type { OriginRequest } from './transaction.ts';

/**
 * Where a namespace keeps its storage: the root namespace at the top, others below
 * `namespaces/<uuid>/` (OpenBao `NamespaceStoragePathPrefix`).
 */
export function namespacePrefix(namespace: Namespace): string {
  return namespace.uuid === ROOT_NAMESPACE.uuid ? '' : `namespaces/${namespace.uuid}/`;
}

/** As a backend sees it, but that a transaction may say for which request it is made. */
export type OriginView = Omit<Required<View>, 'transact'> & {
  transact<T>(
    change: (transaction: Transaction) => T | Promise<T>,
    origin?: (result: T) => OriginRequest,
  ): Promise<T>;
};

/** `prefix` is below the namespace, and empty (all of it) or ends in a slash. */
export function createView(barrier: Barrier, namespace: Namespace, prefix: string): OriginView {
  assert(prefix === '' || prefix.endsWith('/'), `view prefix must end in a slash: ${prefix}`);
  const root = namespacePrefix(namespace) + prefix;
  return {
    get: (key: string) => barrier.get(root + key),
    list: (below: string, page?: ListPage) => barrier.list(root + below, page),
    put: (key: string, value: Uint8Array) => barrier.put(root + key, value),
    delete: (key: string) => barrier.delete(root + key),
    write: async (operations: readonly ViewOperation[]) => {
      await barrier.write(
        operations.map((operation) => ({ ...operation, key: root + operation.key })),
      );
    },
    transact: (change, origin) =>
      barrier.transact((transaction) => change(transactionBelow(transaction, root)), origin),
    requireWritable: () => barrier.requireWritable(),
  };
}

/** A transaction of the barrier, as seen below one prefix. */
function transactionBelow(transaction: Transaction, root: string): Transaction {
  return {
    get: (key) => transaction.get(root + key),
    list: (prefix, page) => transaction.list(root + prefix, page),
    write: (operations) => {
      transaction.write(operations.map((each) => ({ ...each, key: root + each.key })));
    },
  };
}

/** Far below what one log entry may hold, with the longest of paths; and the size of a page. */
const DELETES_PER_WRITE = 256;

/** Deletes every key below `prefix`, in batches. */
export async function clearPrefix(barrier: Barrier, prefix: string): Promise<void> {
  const directories = [prefix];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for await (const children of pages(barrier, directory)) {
      const deletes: ViewOperation[] = [];
      for (const child of children) {
        if (child.endsWith('/')) directories.push(directory + child);
        else deletes.push({ kind: 'delete', key: directory + child });
      }
      if (deletes.length > 0) await barrier.write(deletes);
    }
  }
}

async function* pages(barrier: Barrier, directory: string): AsyncGenerator<readonly string[]> {
  let after: string | undefined;
  for (;;) {
    const children = await barrier.list(directory, { after, limit: DELETES_PER_WRITE });
    yield children;
    if (children.length < DELETES_PER_WRITE) return;
    after = children.at(-1);
  }
}
