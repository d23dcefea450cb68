/** What the pipeline answers where: on the active node, on a standby, on a plain standby. */

import { describe, expect, test } from 'vitest';
import {
  createCall,
  enableMount,
  startTestCluster,
  until,
  untilActive,
} from '../testing/core-node.ts';
import type { TestCluster, TestNode } from '../testing/core-node.ts';
import type { Operation } from './backend.ts';
import type { Core } from './core.ts';

/** Tokens by what they may do; all but `fresh` are known on both nodes. */
type Scene = {
  readonly cluster: TestCluster;
  readonly standby: TestNode;
  readonly tokens: { readonly [name: string]: string };
};

async function createToken(core: Core, policies: readonly string[], numUses = 0): Promise<string> {
  const { auth } = await core.services().tokens.create({
    id: '',
    type: 'service',
    policies,
    path: 'auth/token/create',
    meta: null,
    displayName: 'token',
    parent: '',
    role: '',
    numUses,
    renewable: true,
    ttlSeconds: 0,
    periodSeconds: 0,
    explicitMaxTtlSeconds: 0,
    rolePeriodSeconds: 0,
    roleExplicitMaxTtlSeconds: 0,
  });
  return auth.clientToken;
}

async function startScene(settings: Parameters<typeof startTestCluster>[0] = {}): Promise<Scene> {
  const cluster = await startTestCluster(settings);
  const { core } = cluster.active;
  await enableMount(core, 'users/', 'login');
  await core.services().policies.set('reader', {
    text: 'path "secret/*" { capabilities = ["read", "list"] }',
  });
  await core.services().policies.set('updater', {
    text: 'path "secret/*" { capabilities = ["update"] }',
  });
  const root = cluster.rootToken;
  await core.handleRequest(createCall('update', 'secret/a', root, { data: { value: 'x' } }));
  const tokens = {
    root,
    reader: await createToken(core, ['reader']),
    updater: await createToken(core, ['updater']),
    limited: await createToken(core, ['reader'], 2),
    none: '',
    unknown: 's.000000000000000000000000',
  };
  const standby = await cluster.standby(1);
  const fresh = await createToken(core, ['reader']);
  await core.handleRequest(createCall('update', 'secret/new', root, { data: { value: 'y' } }));
  return { cluster, standby, tokens: { ...tokens, fresh } };
}

/** `ok`, or the code of the refusal. */
async function outcome(core: Core, call: ReturnType<typeof createCall>): Promise<string> {
  try {
    await core.handleRequest(call);
    return 'ok';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

describe('decisions', () => {
  const FORWARD = 'standby-please-forward';
  const rows: readonly {
    what: string;
    token: string;
    operation: Operation;
    path: string;
    active: string;
    standby: string;
  }[] = [
    {
      what: 'a read',
      token: 'root',
      operation: 'read',
      path: 'secret/a',
      active: 'ok',
      standby: 'ok',
    },
    {
      what: 'a read of nothing',
      token: 'root',
      operation: 'read',
      path: 'secret/none',
      active: 'ok',
      standby: 'ok',
    },
    {
      what: 'a list',
      token: 'reader',
      operation: 'list',
      path: 'secret/',
      active: 'ok',
      standby: 'ok',
    },
    {
      what: 'a write',
      token: 'root',
      operation: 'update',
      path: 'secret/b',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a delete',
      token: 'root',
      operation: 'delete',
      path: 'secret/b',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a denied write',
      token: 'reader',
      operation: 'update',
      path: 'secret/a',
      active: 'permission-denied',
      standby: 'permission-denied',
    },
    {
      what: 'a denied read',
      token: 'updater',
      operation: 'read',
      path: 'secret/a',
      active: 'permission-denied',
      standby: 'permission-denied',
    },
    {
      what: 'an update of what this node has not seen',
      token: 'updater',
      operation: 'update',
      path: 'secret/new',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'no token',
      token: 'none',
      operation: 'read',
      path: 'secret/a',
      active: 'permission-denied',
      standby: 'permission-denied',
    },
    {
      what: 'an unknown token',
      token: 'unknown',
      operation: 'read',
      path: 'secret/a',
      active: 'permission-denied',
      standby: FORWARD,
    },
    {
      what: 'a token not yet here',
      token: 'fresh',
      operation: 'read',
      path: 'secret/a',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a token of few uses',
      token: 'limited',
      operation: 'read',
      path: 'secret/a',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a flagged path',
      token: 'root',
      operation: 'update',
      path: 'sys/step-down',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a flagged path without token',
      token: 'none',
      operation: 'update',
      path: 'sys/step-down',
      active: 'permission-denied',
      standby: FORWARD,
    },
    {
      what: 'an open path',
      token: 'none',
      operation: 'read',
      path: 'sys/open',
      active: 'ok',
      standby: 'ok',
    },
    {
      what: 'an open path with a token not yet here',
      token: 'fresh',
      operation: 'read',
      path: 'sys/open',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a login',
      token: 'none',
      operation: 'update',
      path: 'auth/users/login',
      active: 'ok',
      standby: FORWARD,
    },
    {
      what: 'a root path as root',
      token: 'root',
      operation: 'read',
      path: 'secret/config/x',
      active: 'ok',
      standby: 'ok',
    },
    {
      what: 'a root path without sudo',
      token: 'reader',
      operation: 'read',
      path: 'secret/config/x',
      active: 'permission-denied',
      standby: 'permission-denied',
    },
    {
      what: 'an unknown mount',
      token: 'root',
      operation: 'read',
      path: 'nowhere/a',
      active: 'unsupported-path',
      standby: 'unsupported-path',
    },
    {
      what: 'a relative path',
      token: 'root',
      operation: 'read',
      path: 'secret/../sys',
      active: 'invalid-request',
      standby: 'invalid-request',
    },
    {
      what: 'a write to a folder',
      token: 'root',
      operation: 'update',
      path: 'secret/a/',
      active: 'invalid-request',
      standby: 'invalid-request',
    },
  ];

  test.each(['early', 'late'])('%s forwarding', async (mode) => {
    const { cluster, standby, tokens } = await startScene({ earlyForward: mode === 'early' });
    for (const { what, token, operation, path, ...expected } of rows) {
      const call = createCall(operation, path, tokens[token] ?? '');
      expect(await outcome(standby.core, call), `standby: ${what}`).toBe(expected.standby);
      expect(await outcome(cluster.active.core, call), `active: ${what}`).toBe(expected.active);
    }
  });

  test('a plain standby forwards all of them at once', async () => {
    const { cluster, tokens } = await startScene();
    const plain = await cluster.standby(2, { disableStandbyReads: true });
    expect(plain.core.haState()).toBe('standby');
    for (const { operation, path, token } of rows) {
      const call = createCall(operation, path, tokens[token] ?? '');
      expect(await outcome(plain.core, call)).toBe(FORWARD);
    }
  });

  test('what was forwarded once is never forwarded again', async () => {
    const { cluster, standby, tokens } = await startScene();
    const plain = await cluster.standby(2, { disableStandbyReads: true });
    for (const node of [standby, plain]) {
      const call = createCall('update', 'secret/b', tokens['root'] ?? '', { forwarded: true });
      expect(await outcome(node.core, call)).toBe('no-leader');
    }
  });

  test('a sealed node answers nothing', async () => {
    const { standby, tokens } = await startScene();
    await standby.core.seal();
    for (const { operation, path, token } of rows) {
      const call = createCall(operation, path, tokens[token] ?? '');
      expect(await outcome(standby.core, call)).toBe('sealed');
    }
  });

  test('wrapping and other namespaces are refused clearly', async () => {
    const { cluster, tokens } = await startScene();
    const read = (others: object) => createCall('read', 'secret/a', tokens['root'] ?? '', others);
    const { core } = cluster.active;
    await expect(core.handleRequest(read({ wrapTtlSeconds: 60 }))).rejects.toThrow(
      'response wrapping is not supported',
    );
    await expect(core.handleRequest(read({ namespacePath: 'team/' }))).rejects.toThrow(
      'namespace not found',
    );
    expect(await outcome(core, read({ namespacePath: 'root' }))).toBe('ok');
  });

  test('texts are those of OpenBao', async () => {
    const { cluster, tokens } = await startScene();
    const texts: readonly [string, string, string][] = [
      ['unknown', 'secret/a', 'permission denied'],
      ['updater', 'secret/a', '1 error occurred:\n\t* permission denied\n\n'],
      ['updater', 'no/a', '1 error occurred:\n\t* permission denied\n\n'],
      ['unknown', 'no/a', 'permission denied'],
      ['root', 'no/a', 'no handler for route "no/a". route entry not found.'],
    ];
    for (const [token, path, text] of texts) {
      const call = createCall('read', path, tokens[token] ?? '');
      await expect(cluster.active.core.handleRequest(call)).rejects.toMatchObject({
        message: text,
      });
    }
  });
});

describe('a token of two uses', () => {
  test('is counted on the active node and ends with the second use, denied or not', async () => {
    const { cluster, tokens } = await startScene();
    const { core } = cluster.active;
    const call = (path: string) => createCall('read', path, tokens['limited'] ?? '');
    expect(await outcome(core, call('secret/a'))).toBe('ok');
    // Not even whether anything is mounted there, and that is no use.
    expect(await outcome(core, call('other/a'))).toBe('permission-denied');
    expect(await outcome(core, call('sys/x'))).toBe('permission-denied');
    expect(await outcome(core, call('secret/a'))).toBe('permission-denied');
    expect(core.services().tokens.lookupTainted(tokens['limited'] ?? '')).toBeUndefined();
  });
});

describe('changes reach a standby', () => {
  test('as soon as they are delivered, whatever was cached', async () => {
    const { cluster, standby, tokens } = await startScene();
    const { core } = cluster.active;
    const reader = createCall('read', 'secret/a', tokens['reader'] ?? '');
    const read = createCall('read', 'secret/a', tokens['root'] ?? '');
    expect(await standby.core.handleRequest(read)).toEqual({ data: { value: 'x' } });
    expect(await outcome(standby.core, reader)).toBe('ok');

    const root = tokens['root'] ?? '';
    await core.handleRequest(createCall('update', 'secret/a', root, { data: { value: 'z' } }));
    await core.services().policies.set('reader', { text: '' });
    await enableMount(core, 'later/');
    await core.services().tokens.revokeTree(tokens['updater'] ?? '');
    const later = createCall('read', 'later/a', root);
    const updater = createCall('update', 'secret/a', tokens['updater'] ?? '');
    expect(await outcome(standby.core, later)).toBe('unsupported-path');
    standby.memory.deliver();
    expect(await standby.core.handleRequest(read)).toEqual({ data: { value: 'z' } });
    expect(await outcome(standby.core, reader)).toBe('permission-denied');
    expect(await outcome(standby.core, later)).toBe('ok');
    expect(await outcome(standby.core, updater)).toBe('standby-please-forward');
    expect(await outcome(core, updater)).toBe('permission-denied');
  });

  test('all at once when a snapshot is installed, before any further request', async () => {
    const { cluster, standby, tokens } = await startScene();
    const root = tokens['root'] ?? '';
    await standby.core.handleRequest(createCall('read', 'secret/a', root));
    const write = createCall('update', 'secret/a', root, { data: { value: 'z' } });
    await cluster.active.core.handleRequest(write);
    await enableMount(cluster.active.core, 'later/');
    const [namespace] = standby.core.services().namespaces.list();
    if (namespace === undefined) throw new Error('no namespace');
    await cluster.active.core.services().mounts.disable(namespace, 'auth', 'users/');
    standby.memory.deliverSnapshot();
    const answers = await Promise.all([
      standby.core.handleRequest(createCall('read', 'secret/a', root)),
      outcome(standby.core, createCall('read', 'later/a', root)),
      outcome(standby.core, createCall('update', 'auth/users/login', root)),
    ]);
    expect(answers).toEqual([{ data: { value: 'z' } }, 'ok', 'unsupported-path']);
  });
});

describe('leadership lost under a request', () => {
  test('before it wrote: handed on; after something was written: nobody may repeat it', async () => {
    const { cluster, standby, tokens } = await startScene();
    const { core } = cluster.active;
    const root = tokens['root'] ?? '';
    const write = createCall('update', 'secret/b', root, { data: { value: 'x' } });
    cluster.memory.elect('standby-1');
    await until(() => core.standby());
    expect(await outcome(core, write)).toBe('standby-please-forward');
    await untilActive(standby.core);
    expect(await outcome(standby.core, write)).toBe('ok');
    expect(await outcome(core, createCall('read', 'secret/b', root))).toBe('ok');

    // The token's use is written, and leadership ends before the value is.
    const limited = await createToken(standby.core, ['updater'], 2);
    const unsubscribe = standby.memory.changeFeed.subscribe(() => {
      unsubscribe();
      cluster.memory.depose();
    });
    expect(await outcome(standby.core, createCall('update', 'secret/a', limited))).toBe(
      'outcome-unknown',
    );
  });
});
