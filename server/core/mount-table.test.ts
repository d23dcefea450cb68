import { describe, expect, test } from 'vitest';
import { startTestCluster } from '../testing/core-node.ts';
import type { TestCluster } from '../testing/core-node.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import { UNTUNED } from './mount-entry.ts';
import type { MountSpec } from './mount-entry.ts';
import type { MountTable } from './mount-table.ts';

const FLAGS = { local: false, sealWrap: false, externalEntropyAccess: false };

function spec(path: string, others: Partial<MountSpec> = {}): MountSpec {
  return { ...UNTUNED, ...FLAGS, kind: 'secret', path, type: 'kv', ...others };
}

async function start(): Promise<{ cluster: TestCluster; mounts: MountTable }> {
  const cluster = await startTestCluster();
  return { cluster, mounts: cluster.active.core.services().mounts };
}

describe('MountTable', () => {
  test('begins with what every namespace needs', async () => {
    const { mounts } = await start();
    const paths = (kind: 'secret' | 'auth'): string[] =>
      mounts.list(ROOT_NAMESPACE, kind).map((entry) => `${entry.path} ${entry.type}`);
    expect(paths('secret')).toEqual(['cubbyhole/ cubbyhole', 'secret/ kv', 'sys/ system']);
    expect(paths('auth')).toEqual(['token/ token']);
  });

  const refused: readonly [MountSpec, string, string][] = [
    [spec('secret/'), 'invalid-request', 'path is already in use at secret/'],
    [spec('secret/deeper/'), 'invalid-request', 'path is already in use at secret/'],
    [spec('sys/x/'), 'permission-denied', 'cannot mount "sys/x/"'],
    [spec('auth/x/'), 'permission-denied', 'cannot mount "auth/x/"'],
    [
      spec('x/', { type: 'system' }),
      'permission-denied',
      'mount type of "system" is not mountable',
    ],
    [spec('x/', { type: 'nope' }), 'invalid-request', 'plugin not found in the catalog: nope'],
    [spec('x/', { type: 'constructor' }), 'invalid-request', 'plugin not found in the catalog'],
    [spec('x/', { type: 'login' }), 'invalid-request', 'as a secret backend'],
    [spec('x/', { kind: 'auth' }), 'invalid-request', 'as a auth backend'],
    [
      spec('x/', { kind: 'auth', type: 'token' }),
      'invalid-request',
      'token credential backend cannot be instantiated',
    ],
    [
      spec('x/', { defaultLeaseTtlSeconds: 10, maxLeaseTtlSeconds: 5 }),
      'invalid-request',
      'given default lease TTL greater than given max lease TTL',
    ],
  ];
  test.each(refused)('enable %o: %s', async (mount, code, message) => {
    const { mounts, cluster } = await start();
    const before = cluster.memory.committed().length;
    const enabling = mounts.enable(ROOT_NAMESPACE, mount);
    await expect(enabling).rejects.toMatchObject({ code });
    await expect(enabling).rejects.toThrow(message);
    expect(cluster.memory.committed()).toHaveLength(before);
  });

  test('of two that want one path at once, one gets it', async () => {
    const { mounts } = await start();
    const both = [
      mounts.enable(ROOT_NAMESPACE, spec('x/')),
      mounts.enable(ROOT_NAMESPACE, spec('x/')),
    ];
    const results = await Promise.allSettled(both);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  test('disable takes the storage along, on every node', async () => {
    const { mounts, cluster } = await start();
    const standby = await cluster.standby(1);
    const entry = mounts.find(ROOT_NAMESPACE, 'secret', 'secret/');
    const { view } = cluster.active.core.services().router.match(ROOT_NAMESPACE, 'secret/') ?? {};
    await view?.put('a/b', Buffer.from('1'));
    await mounts.disable(ROOT_NAMESPACE, 'secret', 'secret/');
    standby.memory.deliver();
    for (const { memory, core } of [cluster.active, standby]) {
      expect(await memory.physical.list(`logical/${entry?.uuid}/`)).toEqual([]);
      expect(memory.physical.get(`core/mounts/${entry?.uuid}`)).toBeUndefined();
      expect(core.services().router.match(ROOT_NAMESPACE, 'secret/a/b')).toBeUndefined();
    }
    await mounts.disable(ROOT_NAMESPACE, 'secret', 'secret/');
    await mounts.enable(ROOT_NAMESPACE, spec('secret/'));
  });

  test('disable refuses what must stay', async () => {
    const { mounts } = await start();
    const rows: readonly ['secret' | 'auth', string, string][] = [
      ['secret', 'sys/', 'cannot unmount "sys/"'],
      ['secret', 'cubbyhole/', 'cannot unmount "cubbyhole/"'],
      ['auth', 'token/', 'token credential backend cannot be disabled'],
    ];
    for (const [kind, path, message] of rows) {
      await expect(mounts.disable(ROOT_NAMESPACE, kind, path)).rejects.toThrow(message);
    }
  });

  test('tune changes what is given, keeps the rest, and the backend', async () => {
    const { mounts, cluster } = await start();
    const { router } = cluster.active.core.services();
    const before = router.match(ROOT_NAMESPACE, 'secret/');
    const mount = { kind: 'secret', path: 'secret/' } as const;
    await mounts.tune(ROOT_NAMESPACE, mount, { description: 'new', maxLeaseTtlSeconds: 60 });
    const after = router.match(ROOT_NAMESPACE, 'secret/');
    expect(after?.entry).toEqual({ ...before?.entry, description: 'new', maxLeaseTtlSeconds: 60 });
    expect(after?.backend).toBe(before?.backend);
    const failures: readonly [string, object, string][] = [
      ['none/', {}, 'tune of path "none/" failed: no mount entry found'],
      ['sys/', {}, 'cannot tune "sys/"'],
      ['secret/', { options: { version: '2' } }, 'cannot change the version'],
    ];
    for (const [path, change, message] of failures) {
      const tuning = mounts.tune(ROOT_NAMESPACE, { kind: 'secret', path }, change);
      await expect(tuning).rejects.toThrow(message);
    }
  });

  test('a standby judges nothing: it forwards even what would be refused', async () => {
    const { cluster } = await start();
    const { mounts } = (await cluster.standby(1)).core.services();
    const changes = [
      mounts.enable(ROOT_NAMESPACE, spec('secret/')),
      mounts.disable(ROOT_NAMESPACE, 'secret', 'none/'),
      mounts.tune(ROOT_NAMESPACE, { kind: 'secret', path: 'none/' }, {}),
    ];
    for (const change of changes) await expect(change).rejects.toMatchObject({ code: 'read-only' });
  });
});
