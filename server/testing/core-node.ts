/**
 * Cores over the in-memory twin of replicated storage, with the smallest backends that show what
 * the core does. Standbys see what the active node wrote only after `deliver()`.
 */

import assert from 'node:assert/strict';
import type { Backend, JsonObject, LogicalResponse, Operation } from '../core/backend.ts';
import type { CoreOptions, CoreSettings } from '../core/core-options.ts';
import { Core } from '../core/core.ts';
import type { LogicalCall } from '../core/request-handling.ts';
import { createMemoryCluster } from './memory-physical.ts';
import type { MemoryCluster, MemoryNode } from './memory-physical.ts';

export type TestNode = { readonly core: Core; readonly memory: MemoryNode };

export type TestCluster = {
  readonly memory: MemoryCluster;
  readonly keys: readonly Buffer[];
  readonly rootToken: string;
  readonly active: TestNode;
  /** An unsealed standby that has applied everything so far. */
  standby(number: number, settings?: Partial<CoreSettings>): Promise<TestNode>;
};

export const TEST_SETTINGS: CoreSettings = {
  clusterName: 'test',
  apiAddress: 'http://127.0.0.1:8200',
  clusterAddress: '127.0.0.1:8201',
  earlyForward: true,
  promotion: 'reuse',
  disableStandbyReads: false,
  cache: { entriesMax: 1000, bytesMax: 1_000_000 },
  defaultLeaseTtlSeconds: 3600,
  maxLeaseTtlSeconds: 7200,
  drainMsMax: 1000,
  joinMsMax: 1000,
};

export function createTestCore(
  memory: MemoryNode,
  settings: Partial<CoreSettings> = {},
  options: Partial<CoreOptions> = {},
): Core {
  return new Core({
    physical: memory.physical,
    changeFeed: memory.changeFeed,
    leadership: memory.leadership,
    replication: memory.replication,
    snapshots: {
      save: () => Promise.reject(new Error('no snapshots here')),
      receive: () => Promise.reject(new Error('no snapshots here')),
    },
    joinClient: {
      challenge: () => Promise.reject(new Error('no network')),
      answer: () => Promise.reject(new Error('no network')),
    },
    createCredentials: async () => ({
      certificatePem: 'CERTIFICATE',
      privateKeyPem: 'PRIVATE KEY',
    }),
    backends: {
      kv: { kind: 'secret', create: createTestKv },
      cubbyhole: { kind: 'secret', create: createTestKv },
      system: { kind: 'secret', create: createTestSystem },
      token: { kind: 'auth', create: createTestSystem },
      login: { kind: 'auth', create: createTestLogin },
    },
    settings: { ...TEST_SETTINGS, ...settings },
    logger: { info: () => undefined, warn: () => undefined, error: () => undefined },
    clock: () => 1_700_000_000_000,
    ...options,
  });
}

/** One active node with a `secret/` mount; two of three shares unseal. */
export async function startTestCluster(settings: Partial<CoreSettings> = {}): Promise<TestCluster> {
  const memory = createMemoryCluster();
  const active = { core: createTestCore(memory.leader(), settings), memory: memory.leader() };
  const { keys, rootToken } = await active.core.initialize({ shares: 3, threshold: 2 });
  await unseal(active.core, keys);
  await untilActive(active.core);
  await enableMount(active.core, 'secret/');
  return {
    memory,
    keys,
    rootToken,
    active,
    standby: async (number, overrides = {}) => {
      const node = memory.standby(number);
      node.deliver();
      const core = createTestCore(node, { ...settings, ...overrides });
      await unseal(core, keys);
      return { core, memory: node };
    },
  };
}

export async function unseal(core: Core, keys: readonly Buffer[]): Promise<void> {
  for (const key of keys.slice(0, core.sealStatus().t)) await core.unseal(key);
  assert(!core.isSealed(), 'the shares did not unseal');
}

export async function untilActive(core: Core): Promise<void> {
  await until(() => core.haState() === 'active');
}

/** Far longer than anything takes that a test waits for, timers of two seconds included. */
const UNTIL_MS = 20_000;

/** Lets pending work run until `condition` holds. */
export async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + UNTIL_MS;
  while (!condition()) {
    assert(performance.now() < endMs, 'it never happens');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export async function enableMount(core: Core, path: string, type = 'kv'): Promise<void> {
  const { mounts, namespaces } = core.services();
  const [root] = namespaces.list();
  assert(root !== undefined);
  await mounts.enable(root, {
    kind: type === 'login' ? 'auth' : 'secret',
    path,
    type,
    description: '',
    local: false,
    sealWrap: false,
    externalEntropyAccess: false,
    defaultLeaseTtlSeconds: 0,
    maxLeaseTtlSeconds: 0,
    forceNoCache: false,
    listingVisibility: '',
    tokenType: 'default-service',
    options: {},
    auditNonHmacRequestKeys: [],
    auditNonHmacResponseKeys: [],
    passthroughRequestHeaders: [],
    allowedResponseHeaders: [],
  });
}

export function createCall(
  operation: Operation,
  path: string,
  clientToken: string,
  others: Partial<LogicalCall> = {},
): LogicalCall {
  return {
    id: 'request',
    operation,
    path,
    namespacePath: '',
    data: {},
    clientToken,
    remoteAddress: '127.0.0.1',
    forwarded: false,
    ...others,
  };
}

/** Stores `data` as it comes. */
function createTestKv(): Backend {
  return {
    type: 'kv',
    specialPaths: { root: ['config/*'], unauthenticated: [], forward: ['flagged'] },
    exists: async ({ view, path }) => view.get(path) !== undefined,
    handle: async ({ operation, path, view, data }) => {
      if (operation === 'list') return { data: { keys: await view.list(path) } };
      if (operation === 'delete') await view.delete(path);
      if (operation === 'create' || operation === 'update') {
        await view.put(path, Buffer.from(JSON.stringify(data)));
      }
      if (operation !== 'read') return undefined;
      const stored = view.get(path);
      if (stored === undefined) return undefined;
      const parsed: JsonObject = JSON.parse(Buffer.from(stored).toString());
      return { data: parsed };
    },
  };
}

function createTestSystem(): Backend {
  const echo = ({ path }: { path: string }): LogicalResponse => ({ data: { path } });
  return {
    type: 'system',
    specialPaths: { root: ['raw/*'], unauthenticated: ['open'], forward: ['step-down'] },
    handle: async (request) => echo(request),
  };
}

function createTestLogin(): Backend {
  return {
    type: 'login',
    specialPaths: { root: [], unauthenticated: ['login'], forward: [] },
    handle: async ({ view }) => {
      await view.put('user', Buffer.from('seen'));
      return undefined;
    },
  };
}
