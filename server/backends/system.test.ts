import { describe, expect, test } from 'vitest';
import type { JsonObject, LogicalRequest } from '../core/backend.ts';
import { serviceToken } from './testing/memory-view.ts';
import { createSystemNode, mount } from './testing/system-ports.ts';
import type { SystemNodeOptions } from './testing/system-ports.ts';

const NO_TOKEN = { clientToken: '', token: undefined };
/** As core hands over requests to paths that need no token. */
const UNCHECKED = { token: undefined };

describe('capabilities', () => {
  test.each<[string, JsonObject, object]>([
    ['capabilities', { token: 's.token', paths: ['secret/a'] }, { 'secret/a': ['read'] }],
    ['capabilities-self', { paths: 'secret/a' }, { 'secret/a': ['read'] }],
    ['capabilities-self', { path: ['secret/a'] }, { 'secret/a': ['read'] }],
    [
      'capabilities-accessor',
      { accessor: 'accessor-1', paths: ['secret/a'] },
      { 'secret/a': ['read'] },
    ],
  ])('POST %s %j of one path says it twice', async (path, data, expected) => {
    const { send } = createSystemNode();
    expect(await send('update', path, data)).toEqual({
      data: { ...expected, capabilities: ['read'] },
    });
  });

  test('of several paths come by path', async () => {
    const paths = ['secret/a', 'other'];
    const response = await createSystemNode().send('update', 'capabilities-self', { paths });
    expect(response).toEqual({ data: { 'secret/a': ['read'], other: ['deny'] } });
  });

  test.each<[string, JsonObject, string]>([
    ['capabilities', { paths: ['a'] }, 'no token found'],
    ['capabilities', { token: 's.none', paths: ['a'] }, 'invalid token'],
    ['capabilities', { token: 's.token' }, 'paths must be supplied'],
    ['capabilities-self', { paths: [] }, 'paths must be supplied'],
    ['capabilities-self', { paths: [{}] }, 'field "paths"'],
    ['capabilities-accessor', { paths: ['a'] }, 'missing accessor'],
    ['capabilities-accessor', { accessor: 'none', paths: ['a'] }, 'invalid accessor'],
  ])('POST %s %j is refused', async (path, data, message) => {
    await expect(createSystemNode().send('update', path, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
  });

  test('of a token that a standby does not know are asked of the active node', async () => {
    const { send } = createSystemNode({ isStandby: true });
    await expect(send('update', 'capabilities', { token: 's.none', paths: ['a'] })).rejects.toThrow(
      expect.objectContaining({ code: 'standby-please-forward' }),
    );
  });
});

describe('internal/ui/mounts', () => {
  test('shows what the token can see', async () => {
    const { send } = createSystemNode();
    const response = await send('read', 'internal/ui/mounts', {}, UNCHECKED);
    expect(response?.data).toMatchObject({
      secret: { 'secret/': { type: 'kv', accessor: 'kv_1' } },
      auth: {},
    });
    expect(Object.keys(response?.data?.['secret'] ?? {})).toEqual(['secret/']);
  });

  test('shows anyone what is listed to anyone', async () => {
    const { send, mounts } = createSystemNode();
    const listed = { listingVisibility: 'unauth', description: 'd' } as const;
    mounts.push(mount({ kind: 'auth', path: 'userpass/', type: 'userpass', ...listed }));
    expect((await send('read', 'internal/ui/mounts', {}, NO_TOKEN))?.data).toEqual({
      secret: {},
      auth: { 'userpass/': { type: 'userpass', description: 'd', options: {} } },
    });
  });

  test('answers the preflight of the CLI', async () => {
    const { send } = createSystemNode();
    const response = await send('read', 'internal/ui/mounts/secret/a/b', {}, UNCHECKED);
    expect(response?.data).toMatchObject({ path: 'secret/', options: { version: '2' } });
  });

  test.each<[string, Partial<LogicalRequest>, string]>([
    ['internal/ui/mounts/none', UNCHECKED, 'preflight capability check returned 403'],
    ['internal/ui/mounts/sys', UNCHECKED, 'access to path "sys/"'],
    ['internal/ui/mounts/secret', NO_TOKEN, 'permission denied'],
    ['internal/ui/mounts', { clientToken: 's.none', token: undefined }, 'permission denied'],
    ['internal/ui/namespaces', NO_TOKEN, 'permission denied'],
  ])('GET %s is denied', async (path, overrides, message) => {
    await expect(createSystemNode().send('read', path, {}, overrides)).rejects.toThrow(
      expect.objectContaining({
        code: 'permission-denied',
        message: expect.stringContaining(message),
      }),
    );
  });

  test('a standby asks the active node before it denies', async () => {
    const { send } = createSystemNode({ isStandby: true });
    for (const path of ['internal/ui/mounts/none', 'internal/ui/mounts/sys']) {
      await expect(send('read', path, {}, UNCHECKED)).rejects.toThrow(
        expect.objectContaining({ code: 'standby-please-forward' }),
      );
    }
  });
});

test.each<[SystemNodeOptions, object]>([
  [{ acl: { isRoot: true } }, { root: true }],
  [{}, { root: false, exact_paths: {}, glob_paths: {} }],
  [
    {
      rules: [
        { path: 'a', isPrefix: false, capabilities: ['update', 'read'] },
        { path: 'a', isPrefix: false, capabilities: ['create'] },
        { path: 'a/', isPrefix: true, capabilities: ['list'] },
        { path: 'b', isPrefix: false, capabilities: ['read'] },
        { path: 'b', isPrefix: false, capabilities: ['deny'] },
        { path: '', isPrefix: true, capabilities: [] },
      ],
    },
    {
      root: false,
      exact_paths: {
        a: { capabilities: ['create', 'read', 'update'] },
        b: { capabilities: ['deny'] },
      },
      glob_paths: { 'a/': { capabilities: ['list'] }, '': { capabilities: ['deny'] } },
    },
  ],
])('resultant-acl %#', async (options, data) => {
  const { send } = createSystemNode(options);
  expect(await send('read', 'internal/ui/resultant-acl')).toEqual({ data });
});

describe('the cluster', () => {
  test.each<[string, JsonObject]>([
    [
      'ha-status',
      {
        nodes: [
          {
            hostname: 'host',
            api_address: 'http://127.0.0.1:1',
            cluster_address: 'https://127.0.0.1:2',
            active_node: true,
            last_echo: null,
            version: '0.1.0',
            upgrade_version: '0.1.0',
          },
        ],
      },
    ],
    [
      'storage/raft/configuration',
      {
        config: {
          servers: [
            {
              node_id: 'node-1',
              address: '127.0.0.1:2',
              leader: true,
              protocol_version: '3',
              voter: true,
            },
            {
              node_id: 'node-2',
              address: '127.0.0.1:4',
              leader: false,
              protocol_version: '3',
              voter: false,
            },
          ],
          index: 7,
        },
      },
    ],
    ['key-status', { term: 1, install_time: '2026-01-02T10:00:00Z', encryptions: 3 }],
    ['host-info', { host: { hostname: 'host' } }],
    ['internal/state-hash', { index: 9, hash: 'abc' }],
    ['internal/ui/namespaces', {}],
  ])('GET %s', async (path, data) => {
    const { send } = createSystemNode({ hasStateHash: true });
    expect(await send('read', path)).toEqual({ data });
  });

  test('acts', async () => {
    const { send, calls } = createSystemNode();
    expect(await send('update', 'seal')).toBeUndefined();
    expect(await send('update', 'step-down')).toBeUndefined();
    expect(await send('update', 'storage/raft/remove-peer', { server_id: 'n' })).toBeUndefined();
    expect(calls).toEqual([['seal'], ['stepDown'], ['removeServer', 'n']]);
  });

  test('lets nodes join, which OpenBao names by server_id', async () => {
    const { send } = createSystemNode();
    const instance = '0123456789abcdef'.repeat(2);
    const answer = { answer: 'YWJj', cluster_addr: '127.0.0.1:3', instance };
    const node = { server_id: 'n' };
    const challenge = await send('update', 'storage/raft/bootstrap/challenge', node, NO_TOKEN);
    expect(challenge).toEqual({ data: { challenge: 'n' } });
    const address = { clusterAddress: '127.0.0.1:3', instance };
    const given = { nodeId: 'n', ...address, answer: 'YWJj', nonVoter: false };
    expect(
      await send('update', 'storage/raft/bootstrap/answer', { ...node, ...answer }, NO_TOKEN),
    ).toEqual({ data: { given } });
  });

  test.each<[string, JsonObject, string]>([
    ['storage/raft/bootstrap/challenge', {}, 'no server id provided'],
    [
      'storage/raft/bootstrap/challenge',
      { server_id: 'n'.repeat(16_385) },
      'server id exceeds max length',
    ],
    ['storage/raft/bootstrap/answer', { node_id: 'n' }, 'no server_id provided'],
    ['storage/raft/bootstrap/answer', { server_id: 'n' }, 'no answer provided'],
    [
      'storage/raft/bootstrap/answer',
      { server_id: 'n', answer: 'YQ==' },
      'no cluster_addr provided',
    ],
    [
      'storage/raft/bootstrap/answer',
      { server_id: 'n', answer: '%', cluster_addr: 'a' },
      'could not base64 decode answer',
    ],
    [
      'storage/raft/bootstrap/answer',
      { server_id: 'n', answer: 'YQ==', cluster_addr: 'a', instance: '../../etc' },
      'no instance provided',
    ],
    ['storage/raft/remove-peer', {}, 'no server id provided'],
    ['storage/raft/remove-peer', { node_id: 'n' }, 'no server id provided'],
  ])('POST %s %# is refused', async (path, data, message) => {
    await expect(createSystemNode().send('update', path, data)).rejects.toThrow(
      expect.objectContaining({ code: 'invalid-request', message }),
    );
  });

  test('a standby seals itself', async () => {
    const { send, calls } = createSystemNode({ isStandby: true });
    expect(await send('update', 'seal')).toBeUndefined();
    expect(calls).toEqual([['seal']]);
  });
});

test('metrics are Prometheus text, or a refusal', async () => {
  const { send } = createSystemNode();
  const raw = {
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    body: '# HELP x y\nx 1\n',
  };
  expect(await send('read', 'metrics', { format: 'prometheus' })).toEqual({ raw });
  expect(await send('read', 'metrics')).toEqual({ raw });
  expect(await send('read', 'metrics', { format: 'xml' })).toEqual({
    status: 400,
    raw: { contentType: 'text/plain', body: 'metric response format "xml" unknown' },
  });
});

test.each([
  ['list', 'namespaces', undefined],
  ['scan', 'namespaces/', { data: {} }],
] as const)('%s %s finds no namespace', async (operation, path, expected) => {
  expect(await createSystemNode().send(operation, path)).toEqual(expected);
});

test.each([
  ['read', 'nothing', 'unsupported-path'],
  ['read', '', 'unsupported-path'],
  ['read', 'internal/state-hash', 'unsupported-path'],
  ['read', 'capabilities', 'unsupported-operation'],
  ['delete', 'mounts', 'unsupported-operation'],
  ['update', 'key-status', 'unsupported-operation'],
] as const)('%s %j is %s', async (operation, path, code) => {
  const request = { token: serviceToken() };
  await expect(createSystemNode().send(operation, path, {}, request)).rejects.toThrow(
    expect.objectContaining({ code }),
  );
});
