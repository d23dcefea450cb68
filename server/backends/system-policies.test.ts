import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import type { PolicyRecord } from './system-ports.ts';
import { createSystemNode, NOW_MS } from './testing/system-ports.ts';

const TEXT = 'path "secret/*" { capabilities = ["read"] }';
const RECORD: PolicyRecord = {
  name: 'reader',
  text: TEXT,
  version: 3,
  casRequired: true,
  modifiedMs: NOW_MS,
  expireTimeMs: NOW_MS + 60_000,
};
const INFO = {
  name: 'reader',
  version: 3,
  cas_required: true,
  policy: TEXT,
  allow_wildcards_in_identity_templates: false,
  allow_slashes_in_identity_templates: false,
  modified: '2026-01-02T10:00:00Z',
  expiration: '2026-01-02T10:01:00Z',
};

function nodeWithPolicy(isStandby = false): ReturnType<typeof createSystemNode> {
  const node = createSystemNode({ isStandby });
  node.policies.set('reader', RECORD);
  return node;
}

test.each<[string, object]>([
  ['policies/acl', { keys: ['default', 'reader', 'root'] }],
  ['policies/acl/', { keys: ['default', 'reader', 'root'] }],
  ['policies/acl/re', { keys: ['reader'] }],
  ['policy', { keys: ['default', 'reader', 'root'], policies: ['default', 'reader', 'root'] }],
  ['policies/detailed/acl', { keys: ['default', 'reader', 'root'], key_info: { reader: INFO } }],
])('LIST %s', async (path, data) => {
  expect(await nodeWithPolicy().send('list', path)).toEqual({ data });
});

test('the older path lists on GET, and says rules', async () => {
  const { send } = nodeWithPolicy();
  const listed = await send('read', 'policy');
  expect(listed?.data?.['policies']).toEqual(['default', 'reader', 'root']);
  const { policy, ...rest } = INFO;
  expect((await send('read', 'policy/reader'))?.data).toEqual({ ...rest, rules: policy });
});

test('one is read, in any case', async () => {
  const { send } = nodeWithPolicy();
  expect(await send('read', 'policies/acl/reader')).toEqual({ data: INFO });
  expect(await send('read', 'policies/acl/READER')).toEqual({ data: INFO });
  expect(await send('read', 'policies/acl/none')).toBeUndefined();
});

test.each(['read', 'delete'] as const)(
  'none is had by %s under a path that policies do not know it by',
  async (operation) => {
    const { send, policies } = nodeWithPolicy();
    await send(operation, 'policies/acl/reader/').catch(() => undefined);
    expect(await send('read', 'policies/acl/reader/')).toBeUndefined();
    expect(policies.get('reader')).toEqual(RECORD);
    await expect(send('read', 'ha-status/')).rejects.toThrow('unsupported path');
  },
);

describe('a write', () => {
  test.each<[string, JsonObject, string, object]>([
    ['policies/acl/a', { policy: TEXT }, 'a', { text: TEXT, casRequired: false }],
    ['policy/a', { policy: TEXT }, 'a', { text: TEXT, casRequired: false }],
    [
      'policies/acl/a',
      { policy: Buffer.from(TEXT).toString('base64') },
      'a',
      { text: TEXT, casRequired: false },
    ],
    [
      'policies/acl/team/a',
      { policy: TEXT, cas: '-1', cas_required: true },
      'team/a',
      { text: TEXT, casRequired: true, cas: -1 },
    ],
    [
      'policies/acl/a',
      { policy: TEXT, ttl: '1m' },
      'a',
      { text: TEXT, casRequired: false, expireTimeMs: NOW_MS + 60_000 },
    ],
    [
      'policies/acl/a',
      { policy: TEXT, expiration: '2026-01-02T10:01:00Z' },
      'a',
      { text: TEXT, casRequired: false, expireTimeMs: NOW_MS + 60_000 },
    ],
  ])('POST %s %j', async (path, data, name, change) => {
    const { send, calls } = createSystemNode();
    expect(await send('update', path, data)).toBeUndefined();
    expect(calls).toEqual([['set', name, change]]);
  });

  test('warns of what it changed or dislikes', async () => {
    const { send } = createSystemNode();
    expect(await send('update', 'policies/acl/Team', { policy: TEXT })).toEqual({
      warnings: ['policy name was converted to team'],
    });
    expect(await send('update', 'policy/a', { rules: TEXT })).toEqual({
      warnings: ["'rules' is deprecated, please use 'policy' instead"],
    });
  });

  test.each<[JsonObject, string]>([
    [{}, "'policy' parameter not supplied or empty"],
    [{ policy: ' ' }, "'policy' parameter not supplied or empty"],
    [{ rules: TEXT }, "'policy' parameter not supplied or empty"],
    [{ policy: {} }, 'field "policy"'],
    [{ policy: TEXT, cas: 'x' }, 'field "cas"'],
    [{ policy: TEXT, ttl: '-1h' }, 'field "ttl"'],
    [{ policy: TEXT, expiration: 'soon' }, 'field "expiration"'],
    [{ policy: TEXT, ttl: 0 }, 'expiration time has already elapsed'],
    [{ policy: TEXT, expiration: '2020-01-01T00:00:00Z' }, 'has already elapsed'],
    [{ policy: TEXT, ttl: 1, expiration: 1 }, "cannot supply both 'expiration' and 'ttl'"],
  ])('of %j is refused', async (data, message) => {
    const { send, calls } = createSystemNode();
    await expect(send('update', 'policies/acl/a', data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(calls).toEqual([]);
  });
});

test('a patch keeps what it does not name, and the version it was based on', async () => {
  const { send, calls } = nodeWithPolicy();
  await send('patch', 'policies/acl/reader', { cas_required: false });
  expect(calls).toEqual([
    [
      'set',
      'reader',
      { text: TEXT, casRequired: false, cas: 3, expireTimeMs: RECORD.expireTimeMs },
    ],
  ]);
  await expect(send('patch', 'policies/acl/none', {})).rejects.toThrow(
    expect.objectContaining({ code: 'unsupported-path', message: 'policy not found' }),
  );
});

test('a delete reaches the store', async () => {
  const { send, calls } = createSystemNode();
  expect(await send('delete', 'policies/acl/A')).toBeUndefined();
  expect(await send('delete', 'policy/b')).toBeUndefined();
  expect(calls).toEqual([
    ['delete', 'a'],
    ['delete', 'b'],
  ]);
});

test.each<['update' | 'patch' | 'delete', string, JsonObject]>([
  ['update', 'policies/acl/a', { policy: TEXT }],
  ['patch', 'policies/acl/none', {}],
  ['delete', 'policies/acl/none', {}],
])('%s %s on a standby is left to the active node', async (operation, path, data) => {
  await expect(nodeWithPolicy(true).send(operation, path, data)).rejects.toThrow(
    expect.objectContaining({ code: 'read-only' }),
  );
});
