/**
 * The choke point, with every backend there is: whatever is asked of a standby, nothing reaches
 * its physical storage but what was replicated to it.
 */

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createBackends } from '../backend-wiring.ts';
import { ServerError } from '../errors.ts';
import {
  createCall,
  createTestCore,
  enableMount,
  unseal,
  untilActive,
} from '../testing/core-node.ts';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryNode } from '../testing/memory-physical.ts';
import type { JsonObject, Operation } from './backend.ts';
import type { CoreSettings } from './core-options.ts';
import type { Core } from './core.ts';

function createFullCore(
  memory: MemoryNode,
  settings: Partial<CoreSettings>,
  onWrite: () => void,
): Core {
  const clock = (): number => 1_700_000_000_000;
  const physical = {
    ...memory.physical,
    write: (operations: Parameters<typeof memory.physical.write>[0]) => {
      onWrite();
      return memory.physical.write(operations);
    },
    commit: (commit: Parameters<typeof memory.physical.commit>[0]) => {
      onWrite();
      return memory.physical.commit(commit);
    },
  };
  const core: Core = createTestCore(memory, settings, {
    physical,
    backends: createBackends({
      core: () => core,
      replication: memory.replication,
      version: 'test',
      leaseTtl: { defaultSeconds: 3600, maxSeconds: 7200 },
      metrics: async () => '',
      stateHash: undefined,
      clock,
    }),
    clock,
  });
  return core;
}

const OPERATIONS: readonly Operation[] = [
  'create',
  'read',
  'update',
  'patch',
  'delete',
  'list',
  'scan',
  'help',
];

const PATHS = [
  'v1/a',
  'v1/',
  'v2/data/a',
  'v2/metadata/a',
  'v2/delete/a',
  'v2/undelete/a',
  'v2/destroy/a',
  'v2/config',
  'v2/subkeys/a',
  'cubbyhole/a',
  'auth/token/create',
  'auth/token/create-orphan',
  'auth/token/lookup',
  'auth/token/lookup-self',
  'auth/token/renew-self',
  'auth/token/revoke-self',
  'auth/token/accessors',
  'auth/token/roles/r',
  'auth/token/tidy',
  'sys/mounts',
  'sys/mounts/v1',
  'sys/mounts/new',
  'sys/mounts/v1/tune',
  'sys/auth/x',
  'sys/policies/acl/p',
  'sys/policy/p',
  'sys/capabilities-self',
  'sys/internal/ui/mounts',
  'sys/internal/ui/mounts/v1',
  'sys/storage/raft/configuration',
  'sys/storage/raft/bootstrap/challenge',
  'sys/storage/raft/bootstrap/answer',
  'sys/key-status',
  'sys/step-down',
  'sys/ha-status',
  'sys/nothing',
  'nowhere/a',
];

const DATA: readonly JsonObject[] = [
  {},
  { value: 'x' },
  { data: { value: 'x' }, options: { cas: 0 } },
  { versions: [1] },
  { type: 'kv', policy: '', paths: ['v1/a'] },
  { policies: ['default'], num_uses: 1, server_id: 'n', answer: 'a' },
];

test.each([{ earlyForward: true }, { earlyForward: false }, { cache: undefined }])(
  'no request of any kind writes on a standby: %o',
  async (settings) => {
    const memory = createMemoryCluster();
    const active = createFullCore(memory.leader(), settings, () => undefined);
    const { keys, rootToken } = await active.initialize({ shares: 1, threshold: 1 });
    await unseal(active, keys);
    await untilActive(active);
    await enableMount(active, 'v1/');
    const mounted = await active.handleRequest(
      createCall('update', 'sys/mounts/v2', rootToken, {
        data: { type: 'kv', options: { version: '2' } },
      }),
    );
    expect(mounted).toBeUndefined();
    for (const path of ['v1/a', 'cubbyhole/a']) {
      await active.handleRequest(createCall('update', path, rootToken, { data: { value: '1' } }));
    }
    const data = { data: { value: '1' } };
    await active.handleRequest(createCall('update', 'v2/data/a', rootToken, { data }));
    const limited = await active.handleRequest(
      createCall('update', 'auth/token/create', rootToken, { data: { num_uses: 3 } }),
    );
    const tokens = [rootToken, limited?.auth?.clientToken ?? '', '', 's.unknown', 'b.unknown'];

    const node = memory.standby(1);
    node.deliver();
    let writes = 0;
    const standby = createFullCore(node, settings, () => {
      writes += 1;
    });
    await unseal(standby, keys);
    const committed = memory.committed().length;
    const call = fc.record({
      operation: fc.constantFrom(...OPERATIONS),
      path: fc.constantFrom(...PATHS),
      data: fc.constantFrom(...DATA),
      token: fc.constantFrom(...tokens),
    });
    await fc.assert(
      fc.asyncProperty(call, async ({ operation, path, data: body, token }) => {
        const request = createCall(operation, path, token, { data: body });
        // A refusal, not a bug; and never the barrier's own word.
        const failure = await standby.handleRequest(request).then(
          () => undefined,
          (error: unknown) => (error instanceof ServerError ? error.code : error),
        );
        expect(['undefined', 'string'], `${operation} ${path}`).toContain(typeof failure);
        expect(failure).not.toBe('read-only');
        expect(writes).toBe(0);
      }),
      { numRuns: 1500 },
    );
    expect(memory.committed()).toHaveLength(committed);
    expect(standby.standby()).toBe(true);
  },
);
