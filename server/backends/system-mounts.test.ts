import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import { createSystemNode, mount } from './testing/system-ports.ts';

const SECRET_INFO = {
  type: 'kv',
  description: '',
  accessor: 'kv_1',
  local: false,
  seal_wrap: false,
  external_entropy_access: false,
  options: { version: '2' },
  uuid: 'uuid-1',
  plugin_version: '',
  running_plugin_version: '',
  running_sha256: '',
  deprecation_status: 'supported',
  config: { default_lease_ttl: 0, max_lease_ttl: 0, force_no_cache: false },
};

describe('mounts', () => {
  test('are listed by path', async () => {
    const { send } = createSystemNode();
    const secrets = (await send('read', 'mounts'))?.data ?? {};
    expect(Object.keys(secrets)).toEqual(['cubbyhole/', 'secret/', 'sys/']);
    expect(secrets['secret/']).toEqual(SECRET_INFO);
    const auths = (await send('read', 'auth'))?.data ?? {};
    expect(Object.keys(auths)).toEqual(['token/']);
    expect(auths['token/']).toMatchObject({
      options: null,
      config: { token_type: 'default-service' },
    });
  });

  test('are read one by one', async () => {
    const { send } = createSystemNode();
    expect((await send('read', 'mounts/secret'))?.data).toEqual(SECRET_INFO);
    expect((await send('read', 'mounts/secret/'))?.data).toEqual(SECRET_INFO);
    expect((await send('read', 'auth/token'))?.data?.['type']).toBe('token');
    await expect(send('read', 'mounts/none')).rejects.toThrow('No secret engine mount at none/');
    await expect(send('read', 'auth/none')).rejects.toThrow('No auth engine at none/');
  });

  test.each<[string, JsonObject, object]>([
    ['mounts/kv', { type: 'kv' }, { kind: 'secret', path: 'kv/', type: 'kv', options: {} }],
    ['mounts/kv', { type: 'kv-v1' }, { type: 'kv', options: { version: '1' } }],
    ['mounts/kv', { type: 'kv-v2' }, { type: 'kv', options: { version: '2' } }],
    ['mounts/kv', { type: 'kv', options: { version: 2 } }, { options: { version: '2' } }],
    ['mounts/kv', { type: 'plugin', plugin_name: 'kv' }, { type: 'kv' }],
    ['mounts/a/b/', { type: 'kv', local: true, description: 'd' }, { path: 'a/b/', local: true }],
    [
      'mounts/kv',
      { type: 'kv', config: { default_lease_ttl: '1h', max_lease_ttl: 7200 } },
      { defaultLeaseTtlSeconds: 3600, maxLeaseTtlSeconds: 7200 },
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { default_lease_ttl: 'system', listing_visibility: 'unauth' } },
      { defaultLeaseTtlSeconds: 0, listingVisibility: 'unauth' },
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { passthrough_request_headers: 'a,b', force_no_cache: true } },
      { passthroughRequestHeaders: ['a', 'b'], forceNoCache: true },
    ],
    [
      'auth/userpass',
      { type: 'userpass', config: { token_type: 'batch' } },
      { kind: 'auth', path: 'userpass/', tokenType: 'batch' },
    ],
  ])('POST %s %j enables', async (path, data, spec) => {
    const { send, calls } = createSystemNode();
    expect(await send('update', path, data)).toBeUndefined();
    expect(calls).toEqual([['enable', expect.objectContaining(spec)]]);
  });

  test.each<[string, JsonObject, string]>([
    ['mounts/kv', {}, 'backend type must be specified as a string'],
    ['mounts/kv', { type: {} }, 'error converting input for field "type"'],
    ['mounts/kv', { type: 'plugin' }, 'plugin_name must be provided for plugin backend'],
    ['mounts/kv', { type: 'kv', options: { version: '3' } }, 'invalid version provided: 3'],
    ['mounts/kv', { type: 'kv', options: 'x' }, 'field "options"'],
    ['mounts/kv', { type: 'kv', config: [] }, 'field "config"'],
    [
      'mounts/t',
      { type: 'transit', options: { version: '1' } },
      'secrets engine "transit" does not allow setting a version',
    ],
    [
      'auth/u',
      { type: 'userpass', options: { version: '1' } },
      'auth method "userpass" does not allow setting a version',
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { default_lease_ttl: 'soon' } },
      'unable to parse default TTL of "soon"',
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { max_lease_ttl: '-1h' } },
      'unable to parse max TTL of "-1h"',
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { default_lease_ttl: '2h', max_lease_ttl: '1h' } },
      'given default lease TTL greater than given max lease TTL',
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { default_lease_ttl: '1000h' } },
      'given default lease TTL greater than system max lease TTL of 2764800',
    ],
    [
      'mounts/kv',
      { type: 'kv', config: { listing_visibility: 'everyone' } },
      'invalid listing_visibility everyone',
    ],
    ['auth/u', { type: 'userpass', config: { token_type: 'x' } }, "invalid value for 'token_type'"],
    ['mounts/a//b', { type: 'kv' }, "path 'a//b/' does not match cleaned path"],
    ['mounts/a/../b', { type: 'kv' }, "path 'a/../b/' does not match cleaned path"],
    ['mounts/a\u0007', { type: 'kv' }, 'path cannot contain non-printable characters'],
  ])('POST %s %j is refused', async (path, data, message) => {
    const { send, calls } = createSystemNode();
    await expect(send('update', path, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(calls).toEqual([]);
  });

  test('are disabled', async () => {
    const { send, calls } = createSystemNode();
    expect(await send('delete', 'mounts/secret')).toBeUndefined();
    expect(await send('delete', 'auth/userpass/')).toBeUndefined();
    expect(calls).toEqual([
      ['disable', 'secret', 'secret/'],
      ['disable', 'auth', 'userpass/'],
    ]);
  });
});

describe('tuning', () => {
  test('reads what is in force', async () => {
    const { send, mounts } = createSystemNode();
    const defaults = { description: '', force_no_cache: false };
    expect((await send('read', 'mounts/secret/tune'))?.data).toEqual({
      ...defaults,
      default_lease_ttl: 2_764_800,
      max_lease_ttl: 2_764_800,
      options: { version: '2' },
    });
    mounts.push(
      mount({
        kind: 'auth',
        path: 'userpass/',
        type: 'userpass',
        defaultLeaseTtlSeconds: 60,
        listingVisibility: 'hidden',
        allowedResponseHeaders: ['x'],
      }),
    );
    for (const path of ['auth/userpass/tune', 'mounts/auth/userpass/tune']) {
      expect((await send('read', path))?.data).toEqual({
        ...defaults,
        default_lease_ttl: 60,
        max_lease_ttl: 2_764_800,
        token_type: 'default-service',
        listing_visibility: 'hidden',
        allowed_response_headers: ['x'],
      });
    }
  });

  test.each<[string, JsonObject, object, object]>([
    [
      'mounts/secret/tune',
      { description: 'd', default_lease_ttl: '1h', max_lease_ttl: 'system' },
      { kind: 'secret', path: 'secret/' },
      { description: 'd', defaultLeaseTtlSeconds: 3600, maxLeaseTtlSeconds: 0 },
    ],
    [
      'mounts/secret/tune',
      { options: { version: '2', x: 'y' }, audit_non_hmac_request_keys: 'a,b' },
      { kind: 'secret', path: 'secret/' },
      { options: { version: '2', x: 'y' }, auditNonHmacRequestKeys: ['a', 'b'] },
    ],
    [
      'mounts/sys/tune',
      { audit_non_hmac_request_keys: ['a'] },
      { kind: 'secret', path: 'sys/' },
      { auditNonHmacRequestKeys: ['a'] },
    ],
    [
      'mounts/auth/token/tune',
      { listing_visibility: '' },
      { kind: 'auth', path: 'token/' },
      { listingVisibility: '' },
    ],
  ])('POST %s %j', async (path, data, target, change) => {
    const { send, calls } = createSystemNode();
    expect(await send('update', path, data)).toBeUndefined();
    expect(calls).toEqual([['tune', target, change]]);
  });

  test.each<[string, JsonObject, string]>([
    ['mounts/none/tune', {}, 'tune of path "none/" failed: no mount entry found'],
    ['mounts/sys/tune', { description: 'd' }, 'cannot tune parameter description of sys/'],
    ['mounts/secret/tune', { options: { version: '1' } }, 'cannot downgrade mount from version 2'],
    ['mounts/secret/tune', { options: { version: 'x' } }, 'invalid version provided: x'],
    ['mounts/secret/tune', { token_type: 'batch' }, 'can only be modified on auth mounts'],
    ['auth/token/tune', { token_type: 'batch' }, "cannot be set for 'token'"],
    [
      'mounts/secret/tune',
      { default_lease_ttl: '2h', max_lease_ttl: '1h' },
      'backend max lease TTL of 3600 would be less than backend default lease TTL of 7200',
    ],
    ['mounts/secret/tune', { default_lease_ttl: {} }, 'unable to parse default TTL'],
  ])('POST %s %j is refused', async (path, data, message) => {
    const { send, calls } = createSystemNode();
    await expect(send('update', path, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(calls).toEqual([]);
  });

  test('of a mount that does not exist is a refusal when read', async () => {
    await expect(createSystemNode().send('read', 'mounts/none/tune')).rejects.toThrow(
      'cannot fetch sysview for path "none/"',
    );
  });
});

test.each<['update' | 'delete', string, JsonObject]>([
  ['update', 'mounts/new', { type: 'kv' }],
  ['delete', 'mounts/none', {}],
  ['delete', 'auth/none', {}],
  ['update', 'mounts/none/tune', {}],
])('%s %s on a standby is left to the active node', async (operation, path, data) => {
  const { send } = createSystemNode({ isStandby: true });
  await expect(send(operation, path, data)).rejects.toThrow(
    expect.objectContaining({ code: 'read-only' }),
  );
});
