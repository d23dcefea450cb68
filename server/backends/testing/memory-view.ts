/** A `View` over a map, and requests to a backend over it, for the tests of backends. */

import type {
  Backend,
  JsonObject,
  LogicalRequest,
  LogicalResponse,
  Operation,
  TokenEntry,
  Transaction,
  View,
  ViewOperation,
} from '../../core/backend.ts';
import { ROOT_NAMESPACE } from '../../core/backend.ts';
import { readOnlyError } from '../../errors.ts';

export type MemoryView = Required<View> & {
  readonly values: ReadonlyMap<string, Uint8Array>;
  /** Every batch that was written, oldest first. */
  readonly batches: readonly (readonly ViewOperation[])[];
  /** Whether the node is a standby. */
  isReadOnly: boolean;
};

export function createMemoryView(): MemoryView {
  const values = new Map<string, Uint8Array>();
  const batches: (readonly ViewOperation[])[] = [];
  const requireWritable = (): void => {
    if (view.isReadOnly) throw readOnlyError();
  };
  const write = async (operations: readonly ViewOperation[]): Promise<void> => {
    requireWritable();
    const copied = operations.map((operation) =>
      operation.kind === 'put'
        ? { ...operation, value: Uint8Array.from(operation.value) }
        : operation,
    );
    // Replication takes a while: others run before the batch is visible.
    await new Promise((resolve) => setImmediate(resolve));
    batches.push(copied);
    for (const operation of copied) {
      if (operation.kind === 'put') values.set(operation.key, operation.value);
      else values.delete(operation.key);
    }
  };
  const view: MemoryView = {
    values,
    batches,
    isReadOnly: false,
    requireWritable,
    write,
    get: (key) => values.get(key),
    list: async (prefix, { after = '', limit = 0 } = {}) => {
      const children = new Set<string>();
      for (const key of values.keys()) {
        if (!key.startsWith(prefix) || key === prefix) continue;
        const rest = key.slice(prefix.length);
        children.add(rest.includes('/') ? rest.slice(0, rest.indexOf('/') + 1) : rest);
      }
      const sorted = [...children].toSorted(compareBytes);
      const page = after === '' ? sorted : sorted.filter((key) => compareBytes(key, after) > 0);
      return limit <= 0 ? page : page.slice(0, limit);
    },
    put: (key, value) => write([{ kind: 'put', key, value }]),
    delete: (key) => write([{ kind: 'delete', key }]),
    transact: (change) => transactOn(view, change),
  };
  return view;
}

/** Commits without a condition: nobody writes to the view of a test at the same time. */
async function transactOn<T>(
  view: Required<View>,
  change: (transaction: Transaction) => T | Promise<T>,
): Promise<T> {
  const operations: ViewOperation[] = [];
  const result = await change({
    get: (key) => {
      const own = operations.findLast((operation) => operation.key === key);
      if (own === undefined) return view.get(key);
      return own.kind === 'put' ? own.value : undefined;
    },
    list: (prefix, page) => view.list(prefix, page),
    write: (more) => {
      view.requireWritable();
      operations.push(...more);
    },
  });
  if (operations.length > 0) await view.write(operations);
  return result;
}

export function compareBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

export type Send = (
  operation: Operation,
  path: string,
  data?: JsonObject,
  overrides?: Partial<LogicalRequest>,
) => Promise<LogicalResponse | undefined>;

/** Sends requests to `backend` as the core would; `dataJson` comes back as `data`, too. */
export function sender(backend: Backend, view: View): Send {
  return async (operation, path, data = {}, overrides = {}) => {
    const response = await backend.handle(
      logicalRequest({ operation, path, data, view, ...overrides }),
    );
    if (response?.dataJson === undefined) return response;
    const parsed: JsonObject = JSON.parse(response.dataJson);
    return { ...response, data: parsed };
  };
}

export function logicalRequest(
  fields: Pick<LogicalRequest, 'operation' | 'path' | 'view'> & Partial<LogicalRequest>,
): LogicalRequest {
  return {
    id: 'request-1',
    mountPoint: 'mount/',
    mountAccessor: 'kv_00000001',
    mountOptions: {},
    namespace: ROOT_NAMESPACE,
    data: {},
    clientToken: 's.token',
    token: serviceToken(),
    transact: (change) => fields.view.transact(change),
    remoteAddress: '127.0.0.1',
    ...fields,
  };
}

export function serviceToken(fields: Partial<TokenEntry> = {}): TokenEntry {
  return {
    id: 's.token',
    accessor: 'accessor-1',
    namespaceId: ROOT_NAMESPACE.id,
    type: 'service',
    policies: ['default'],
    path: 'auth/token/create',
    meta: null,
    displayName: 'token',
    parent: '',
    orphan: true,
    numUses: 0,
    creationTimeMs: 0,
    creationTtlSeconds: 0,
    explicitMaxTtlSeconds: 0,
    periodSeconds: 0,
    renewable: false,
    lastRenewalMs: null,
    expireTimeMs: null,
    ...fields,
  };
}
