/** The backends below a real core: mounted, authorized, on an active node and on a standby. */

import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import type { JsonObject, LogicalResponse, Operation } from '../core/backend.ts';
import type { Core } from '../core/core.ts';
import type { BackendFactories } from '../core/mount-table.ts';
import { CAPABILITY, parsePolicy } from '../core/policy.ts';
import { standbyPleaseForwardError } from '../errors.ts';
import { createCall, createTestCore, unseal, untilActive } from '../testing/core-node.ts';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryNode } from '../testing/memory-physical.ts';
import { createCubbyhole } from './cubbyhole.ts';
import { createKvV1 } from './kv-v1.ts';
import { createKvV2 } from './kv-v2.ts';
import { createSystem } from './system.ts';
import type { AclRule, SystemPorts } from './system-ports.ts';

const NOW_MS = 1_700_000_000_000;

type Node = {
  readonly core: Core;
  readonly memory: MemoryNode;
  call(operation: Operation, path: string, data?: JsonObject, token?: string): Promise<unknown>;
};

function createNode(memory: MemoryNode, tokenOf: () => string): Node {
  const factories: BackendFactories = {
    kv: {
      kind: 'secret',
      create: ({ options }) =>
        options['version'] === '2' ? createKvV2(() => NOW_MS) : createKvV1(),
    },
    cubbyhole: { kind: 'secret', create: () => createCubbyhole() },
    system: { kind: 'secret', create: () => createSystem(systemPorts(() => core, memory)) },
    token: {
      kind: 'auth',
      create: () => ({
        type: 'token',
        specialPaths: { root: [], unauthenticated: [], forward: [] },
        handle: async () => undefined,
      }),
    },
  };
  const core = createTestCore(memory, {}, { backends: factories });
  return {
    core,
    memory,
    call: async (operation, path, data = {}, token = tokenOf()) => {
      const response = await core.handleRequest(createCall(operation, path, token, { data }));
      return dataOf(response);
    },
  };
}

function dataOf(response: LogicalResponse | undefined): unknown {
  if (response?.dataJson !== undefined) return JSON.parse(response.dataJson);
  return response?.data;
}

/** The core's own stores are the ports; only what has no store is put together here. */
function systemPorts(core: () => Core, memory: MemoryNode): SystemPorts {
  const unlessStandby = <T>(value: T | undefined): T | undefined => {
    if (value === undefined && core().standby()) throw standbyPleaseForwardError();
    return value;
  };
  return {
    mounts: {
      list: (...parameters) =>
        core()
          .services()
          .mounts.list(...parameters),
      match: (...parameters) =>
        core()
          .services()
          .mounts.match(...parameters),
      enable: (...parameters) =>
        core()
          .services()
          .mounts.enable(...parameters),
      disable: (...parameters) =>
        core()
          .services()
          .mounts.disable(...parameters),
      tune: (...parameters) =>
        core()
          .services()
          .mounts.tune(...parameters),
    },
    leaseTtl: { defaultSeconds: 3600, maxSeconds: 7200 },
    policies: () => core().services().policies,
    access: {
      token: (id) => unlessStandby(core().services().tokens.lookup(id)),
      tokenByAccessor: (accessor) =>
        unlessStandby(core().services().tokens.lookupAccessor(accessor)),
      acl: (token) => core().services().policies.acl(token.policies),
      rules: (token) => token.policies.flatMap((name) => rulesOf(core(), name)),
    },
    ha: {
      nodes: async () => [],
      seal: () => core().seal(),
      stepDown: () => core().stepDown(),
    },
    raft: {
      configuration: () => memory.replication.configuration(),
      challenge: (nodeId) => core().bootstrapChallenge(nodeId),
      answer: (answer) => core().bootstrapAnswer(answer),
      removeServer: (id) => memory.replication.removeServer(id),
      promoteServer: (id) => memory.replication.promoteServer(id),
      demoteServer: (id) => memory.replication.demoteServer(id),
      autopilot: {
        state: () => memory.replication.autopilotState(),
        configuration: () => memory.replication.autopilotConfiguration(),
        set: (change) => memory.replication.setAutopilotConfiguration(change),
      },
    },
    snapshots: {
      save: async () => core().saveSnapshot(),
      restore: (archive, options) => core().restoreSnapshot(archive, options),
    },
    keyStatus: () => core().keyStatus(),
    metrics: async () => '',
    hostInfo: () => ({}),
    isStandby: () => core().standby(),
    version: '0.1.0',
    clock: () => NOW_MS,
  };
}

function rulesOf(core: Core, name: string): AclRule[] {
  const stored = core.services().policies.get(name);
  if (stored === undefined) return [];
  return parsePolicy(name, stored.text)
    .paths.filter((rule) => !rule.hasSegmentWildcards)
    .map(({ path, isPrefix, capabilities }) => ({
      path,
      isPrefix,
      capabilities: Object.entries(CAPABILITY)
        .filter(([, bit]) => (capabilities & bit) !== 0)
        .map(([capability]) => capability),
    }));
}

async function startCluster(): Promise<{
  active: Node;
  standby: Node;
  /** How many batches were committed. */
  committed(): number;
  createToken(policies: readonly string[]): Promise<string>;
}> {
  const cluster = createMemoryCluster();
  let rootToken = '';
  const active = createNode(cluster.leader(), () => rootToken);
  const initialized = await active.core.initialize({ shares: 1, threshold: 1 });
  rootToken = initialized.rootToken;
  await unseal(active.core, initialized.keys);
  await untilActive(active.core);
  await active.call('update', 'sys/mounts/kv', { type: 'kv' });
  await active.call('update', 'sys/mounts/secret', { type: 'kv-v2' });
  const memory = cluster.standby();
  memory.deliver();
  const standby = createNode(memory, () => rootToken);
  await unseal(standby.core, initialized.keys);
  return {
    active,
    standby,
    committed: () => cluster.committed().length,
    createToken: async (policies) => {
      const { tokens } = active.core.services();
      const { auth } = await tokens.create({
        id: '',
        type: 'service',
        policies,
        path: 'auth/token/create',
        meta: null,
        displayName: 'token',
        parent: '',
        role: '',
        numUses: 0,
        renewable: true,
        ttlSeconds: 0,
        periodSeconds: 0,
        explicitMaxTtlSeconds: 0,
        rolePeriodSeconds: 0,
        roleExplicitMaxTtlSeconds: 0,
      });
      return auth.clientToken;
    },
  };
}

const FORWARD = expect.objectContaining({ code: 'standby-please-forward' });

test('what the active node writes, a standby reads as soon as it is applied there', async () => {
  const { active, standby } = await startCluster();
  await active.call('update', 'kv/a', { x: 1 });
  await active.call('update', 'secret/data/a', { data: { x: 1 } });
  await active.call('patch', 'secret/data/a', { data: { y: 2 } });
  await active.call('update', 'cubbyhole/a', { x: 1 });
  expect(await standby.call('read', 'kv/a')).toBeUndefined();
  standby.memory.deliver();
  for (const node of [active, standby]) {
    expect(await node.call('read', 'kv/a')).toEqual({ x: 1 });
    expect(await node.call('list', 'kv/')).toEqual({ keys: ['a'] });
    expect(await node.call('read', 'secret/data/a')).toMatchObject({ data: { x: 1, y: 2 } });
    expect(await node.call('scan', 'secret/metadata/')).toEqual({ keys: ['a'] });
    expect(await node.call('read', 'cubbyhole/a')).toEqual({ x: 1 });
    expect(await node.call('read', 'sys/mounts')).toHaveProperty('secret/');
  }
});

describe('a standby', () => {
  test.each<[Operation, string, JsonObject]>([
    ['update', 'kv/a', { x: 1 }],
    ['delete', 'kv/absent', {}],
    ['update', 'secret/data/a', { data: {}, options: { cas: 9 } }],
    ['patch', 'secret/data/absent', { data: {} }],
    ['delete', 'secret/data/absent', {}],
    ['update', 'secret/destroy/absent', { versions: [1] }],
    ['delete', 'secret/metadata/absent', {}],
    ['update', 'secret/config', { max_versions: 1 }],
    ['update', 'cubbyhole/a', { x: 1 }],
    ['delete', 'cubbyhole/absent', {}],
    ['update', 'sys/mounts/new', { type: 'kv' }],
    ['delete', 'sys/mounts/absent', {}],
    ['update', 'sys/mounts/kv/tune', { description: 'd' }],
    ['update', 'sys/policies/acl/a', { policy: 'path "a" { capabilities = ["read"] }' }],
    ['delete', 'sys/policies/acl/absent', {}],
    ['update', 'sys/step-down', {}],
    ['read', 'sys/ha-status', {}],
    ['update', 'sys/storage/raft/bootstrap/challenge', { server_id: 'n' }],
    ['update', 'sys/capabilities', { token: 's.unknown', paths: ['a'] }],
    ['read', 'sys/internal/ui/mounts/absent', {}],
  ])('leaves %s %s to the active node', async (operation, path, data) => {
    const { standby, committed } = await startCluster();
    const before = committed();
    await expect(standby.call(operation, path, data)).rejects.toThrow(FORWARD);
    expect(committed()).toBe(before);
  });

  test.each<[Operation, string, JsonObject]>([
    ['read', 'kv/absent', {}],
    ['list', 'secret/metadata/', {}],
    ['read', 'secret/config', {}],
    ['read', 'sys/auth', {}],
    ['read', 'sys/mounts/kv/tune', {}],
    ['list', 'sys/policies/acl', {}],
    ['read', 'sys/policies/acl/default', {}],
    ['update', 'sys/capabilities-self', { paths: ['kv/a'] }],
    ['read', 'sys/internal/ui/mounts', {}],
    ['read', 'sys/internal/ui/mounts/kv/a', {}],
    ['read', 'sys/internal/ui/resultant-acl', {}],
    ['read', 'sys/storage/raft/configuration', {}],
    ['read', 'sys/host-info', {}],
  ])('answers %s %s itself, as the active node would', async (operation, path, data) => {
    const { active, standby, committed } = await startCluster();
    const before = committed();
    expect(await standby.call(operation, path, data)).toEqual(
      await active.call(operation, path, data),
    );
    expect(committed()).toBe(before);
  });
});

test('policies decide, and the system backend says how', async () => {
  const { active, standby, createToken } = await startCluster();
  const policy = `
    path "secret/data/team/*" { capabilities = ["create", "read"] }
    path "secret/data/team/locked" { capabilities = ["deny"] }
  `;
  await active.call('update', 'sys/policies/acl/team', { policy });
  const token = await createToken(['default', 'team']);
  standby.memory.deliver();
  for (const { call } of [active, standby]) {
    const paths = ['secret/data/team/a', 'secret/data/team/locked'];
    expect(await call('update', 'sys/capabilities', { token, paths })).toEqual({
      'secret/data/team/a': ['create', 'read'],
      'secret/data/team/locked': ['deny'],
    });
    expect(await call('read', 'sys/internal/ui/resultant-acl', {}, token)).toMatchObject({
      root: false,
      exact_paths: { 'secret/data/team/locked': { capabilities: ['deny'] } },
      glob_paths: { 'secret/data/team/': { capabilities: ['create', 'read'] } },
    });
  }
  const written = await active.call('update', 'secret/data/team/a', { data: { x: 1 } }, token);
  expect(written).toMatchObject({ version: 1 });
  const again = active.call('update', 'secret/data/team/a', { data: { x: 2 } }, token);
  await expect(again).rejects.toThrow(expect.objectContaining({ code: 'permission-denied' }));
  const preflight = await active.call('read', 'sys/internal/ui/mounts/secret/team', {}, token);
  expect(preflight).toMatchObject({ path: 'secret/', options: { version: '2' } });
  await expect(active.call('read', 'sys/internal/ui/mounts/kv/a', {}, token)).rejects.toThrow(
    'preflight capability check returned 403',
  );
});

test('what a token put into its cubbyhole is gone when it is revoked', async () => {
  const { active, createToken } = await startCluster();
  const token = await createToken(['default']);
  await active.call('update', 'cubbyhole/a', { x: 1 }, token);
  expect(await active.call('list', 'cubbyhole/', {}, token)).toEqual({ keys: ['a'] });
  const { mounts, namespaces, router, tokens } = active.core.services();
  await tokens.revokeTree(token);
  const [root] = namespaces.list();
  assert(root !== undefined);
  expect(mounts.match(root, 'cubbyhole/')).toBeDefined();
  const route = router.match(root, 'cubbyhole/a');
  expect(await route?.view.list('')).toEqual([]);
});

test('disabling a mount removes what it stored', async () => {
  const { active } = await startCluster();
  await active.call('update', 'secret/data/a', { data: { x: 1 } });
  await active.call('delete', 'sys/mounts/secret');
  await expect(active.call('read', 'secret/data/a')).rejects.toThrow('no handler for route');
  await active.call('update', 'sys/mounts/secret', { type: 'kv-v2' });
  expect(await active.call('read', 'secret/data/a')).toBeUndefined();
});
