import { describe, expect, test } from 'vitest';
import { ROOT_NAMESPACE } from '../core/backend.ts';
import type { JsonObject, LogicalRequest, LogicalResponse, Operation } from '../core/backend.ts';
import { PolicyStore } from '../core/policy-store.ts';
import { TokenStore } from '../core/token-store.ts';
import { createMemoryView } from '../testing/memory-view.ts';
import { createTokenBackend } from './token.ts';

const DAY_SECONDS = 86_400;
const BROAD = `path "*" { capabilities = ["create", "read", "update", "delete", "list"] }`;
const SUDO = `path "auth/token/*" { capabilities = ["create", "read", "update", "list", "sudo"] }`;

async function setUp() {
  const view = createMemoryView();
  const mountView = createMemoryView();
  const time = { nowMs: Date.UTC(2030, 0, 1) };
  const clock = (): number => time.nowMs;
  const settings = {
    defaultLeaseTtlSeconds: 32 * DAY_SECONDS,
    maxLeaseTtlSeconds: 32 * DAY_SECONDS,
  };
  const policies = new PolicyStore({ view, clock });
  const tokens = new TokenStore({
    view,
    namespaceId: 'root',
    clock,
    settings,
    seal: (plaintext) => plaintext,
    open: (sealed) => (sealed.length === 0 ? undefined : sealed),
    setTimer: () => () => undefined,
    destroyOwned: async () => undefined,
    onExpiryFailure: () => undefined,
  });
  view.listeners.push((key) => {
    policies.invalidate(key);
    tokens.invalidate(key);
  });
  const backend = createTokenBackend({
    tokens,
    hasSudo: ({ mountPoint, path, clientToken, data }) => {
      const token = tokens.lookup(clientToken);
      const acl = policies.acl(token?.policies ?? []);
      return acl.check('update', mountPoint + path, data).sudo;
    },
    policyExists: (name) => policies.exists(name),
    clock,
    maxLeaseTtlSeconds: settings.maxLeaseTtlSeconds,
  });
  await policies.set('broad', { text: BROAD });
  await policies.set('sudoer', { text: SUDO });
  const root = (await tokens.createRootToken()).clientToken;

  const send = async (
    clientToken: string,
    operation: Operation,
    path: string,
    data: JsonObject = {},
  ): Promise<LogicalResponse | undefined> => {
    const request: LogicalRequest = {
      id: 'r',
      operation,
      path,
      mountPoint: 'auth/token/',
      mountAccessor: 'auth_token_1',
      mountOptions: {},
      namespace: ROOT_NAMESPACE,
      ...{ data, clientToken, token: tokens.lookup(clientToken) },
      view: mountView,
      transact: (change) => mountView.transact(change),
      remoteAddress: '127.0.0.1',
    };
    return backend.handle(request);
  };
  /** A new token by way of the backend, with its id. */
  const make = async (data: JsonObject = {}, by = root, path = 'create'): Promise<string> =>
    (await send(by, 'update', path, data))?.auth?.clientToken ?? '';
  const describeToken = async (id: string): Promise<JsonObject> =>
    (await send(root, 'update', 'lookup', { token: id }))?.data ?? {};
  return { view, mountView, time, tokens, backend, root, send, make, describeToken };
}

describe('create', () => {
  test('answers with auth', async () => {
    const { send, root } = await setUp();
    const response = await send(root, 'update', 'create', {
      policies: ['Broad', 'nobody'],
      meta: { a: 'b' },
      display_name: 'it is me!',
      ttl: '1h',
      num_uses: '2',
    });
    expect(response).toMatchObject({
      auth: {
        policies: ['broad', 'default', 'nobody'],
        metadata: { a: 'b' },
        leaseDurationSeconds: 3600,
        renewable: true,
        tokenType: 'service',
        orphan: false,
        numUses: 2,
      },
      warnings: ['Policy "nobody" does not exist'],
    });
  });

  const policyRows: [name: string, parent: JsonObject, data: JsonObject, expected: string[]][] = [
    ['inherits those of its parent', { policies: ['broad'] }, {}, ['broad', 'default']],
    ['inherits without default', { policies: ['broad'], no_default_policy: true }, {}, ['broad']],
    ['a subset, and default', { policies: ['broad', 'x'] }, { policies: ['x'] }, ['default', 'x']],
    [
      'default only if the parent has it',
      { policies: ['broad', 'x'], no_default_policy: true },
      { policies: ['x'] },
      ['x'],
    ],
    [
      'no default if not wanted',
      { policies: ['broad', 'x'] },
      { policies: ['x'], no_default_policy: true },
      ['x'],
    ],
    ['anything with sudo', { policies: ['sudoer'] }, { policies: ['x'] }, ['default', 'x']],
    ['one policy as a string', { policies: ['sudoer'] }, { policies: 'X' }, ['default', 'x']],
  ];
  test.each(policyRows)('policies: %s', async (_name, parentData, data, expected) => {
    const { make, send } = await setUp();
    const parent = await make(parentData);
    const response = await send(parent, 'update', 'create', data);
    expect(response?.auth?.policies).toEqual(expected);
  });

  const refusals: [name: string, parent: JsonObject, data: JsonObject, message: string][] = [
    [
      'more than the parent has',
      { policies: ['broad'] },
      { policies: ['x'] },
      'child policies must be subset of parent',
    ],
    ['a limited parent', { num_uses: 3 }, {}, 'restricted use token cannot generate child tokens'],
    [
      'a batch parent',
      { type: 'batch', policies: ['broad'] },
      {},
      'batch tokens cannot create more tokens',
    ],
    [
      'an id without sudo',
      { policies: ['broad'] },
      { id: 'x' },
      'root or sudo privileges required to specify token id',
    ],
    [
      'no parent without sudo',
      { policies: ['broad'] },
      { no_parent: true },
      'root or sudo privileges required to create orphan token',
    ],
    [
      'a period without sudo',
      { policies: ['broad'] },
      { period: '1h' },
      'root or sudo privileges required to create periodic token',
    ],
    [
      'root by sudo',
      { policies: ['sudoer'] },
      { policies: ['root'] },
      'root tokens may not be created without parent token being root',
    ],
    ['a batch root', {}, { type: 'batch' }, 'batch tokens cannot be root tokens'],
    [
      'a batch with a period',
      {},
      { type: 'batch', period: '1h' },
      'batch tokens cannot have "period" set',
    ],
    [
      'a batch with uses',
      {},
      { type: 'batch', num_uses: 1 },
      'batch tokens cannot have "num_uses" set',
    ],
    ['an unknown type', {}, { type: 'x' }, "invalid 'token_type' value"],
    ['uses below zero', {}, { num_uses: -1 }, 'number of uses cannot be negative'],
    ['a ttl below zero', {}, { ttl: '-1s' }, 'ttl must be positive'],
    ['a ttl that is none', {}, { ttl: 'x' }, 'time: invalid duration "x"'],
    [
      'an alias',
      {},
      { entity_alias: 'x' },
      "'entity_alias' is only allowed in combination with token role",
    ],
    [
      'the wrapping policy',
      {},
      { policies: ['response-wrapping'] },
      'cannot assign policy "response-wrapping"',
    ],
    [
      'a root that outlives its parent',
      { ttl: '1h' },
      {},
      'expiring root tokens cannot create non-expiring root tokens',
    ],
  ];
  test.each(refusals)('refuses %s', async (_name, parentData, data, message) => {
    const { make, send } = await setUp();
    const parent = await make(parentData);
    const attempt = send(parent, 'update', 'create', data);
    await expect(attempt).rejects.toMatchObject({ code: 'invalid-request', message });
  });

  test('a child of root is root, for ever, by default', async () => {
    const { make, describeToken } = await setUp();
    const child = await make();
    expect(await describeToken(child)).toMatchObject({
      policies: ['root'],
      expire_time: null,
      ttl: 0,
      renewable: false,
      path: 'auth/token/create',
    });
  });

  test('orphans and chosen ids', async () => {
    const { make, describeToken } = await setUp();
    expect(await make({ id: 'mine' })).toBe('mine');
    expect(await describeToken('mine')).toMatchObject({ orphan: false });
    const broad = await make({ policies: ['broad'] });
    const orphan = await make({}, broad, 'create-orphan');
    expect(await describeToken(orphan)).toMatchObject({
      orphan: true,
      path: 'auth/token/create-orphan',
    });
    expect(await describeToken(await make({ no_parent: true }))).toMatchObject({ orphan: true });
  });
});

describe('roles', () => {
  test('are written, read, listed and deleted', async () => {
    const { send, root, backend, mountView } = await setUp();
    expect(await send(root, 'list', 'roles')).toBeUndefined();
    expect(await send(root, 'read', 'roles/r')).toBeUndefined();
    await send(root, 'create', 'roles/r', {
      allowed_policies: 'B,a',
      orphan: true,
      token_period: '1h',
      explicit_max_ttl: 60,
      token_num_uses: 2,
    });
    await send(root, 'update', 'roles/r', { renewable: false, path_suffix: 'v1x' });
    expect((await send(root, 'list', 'roles/'))?.data).toEqual({ keys: ['r'] });
    expect((await send(root, 'read', 'roles/r'))?.data).toEqual({
      name: 'r',
      allowed_policies: ['a', 'b'],
      disallowed_policies: [],
      allowed_policies_glob: [],
      disallowed_policies_glob: [],
      orphan: true,
      renewable: false,
      path_suffix: 'v1x',
      token_type: 'default-service',
      period: 0,
      token_period: 3600,
      explicit_max_ttl: 60,
      token_explicit_max_ttl: 60,
      token_num_uses: 2,
      allowed_entity_aliases: [],
      token_no_default_policy: false,
    });
    expect([...mountView.entries.keys()]).toEqual(['roles/r']);
    await send(root, 'delete', 'roles/r');
    expect(await send(root, 'read', 'roles/r')).toBeUndefined();
    expect(backend.type).toBe('token');
  });

  const rows: [name: string, role: JsonObject, data: JsonObject, expected: string[] | string][] = [
    [
      'allowed policies without a wish',
      { allowed_policies: ['a', 'b'] },
      {},
      ['a', 'b', 'default'],
    ],
    ['an allowed wish', { allowed_policies: ['a', 'b'] }, { policies: ['b'] }, ['b', 'default']],
    [
      'a wish that is not allowed',
      { allowed_policies: ['a'] },
      { policies: ['x'] },
      `token policies (["default" "x"]) must be subset of the role's allowed policies (["a" "default"]) or glob policies ([])`,
    ],
    [
      'an allowed glob',
      { allowed_policies_glob: ['t*-x'] },
      { policies: ['team-x'] },
      ['default', 'team-x'],
    ],
    [
      'a disallowed policy',
      { disallowed_policies: ['x'] },
      { policies: ['x'] },
      'token policy "x" is disallowed by this role',
    ],
    [
      'a disallowed glob',
      { disallowed_policies_glob: ['x*'] },
      { policies: ['xy'] },
      'token policy "xy" is disallowed by this role',
    ],
    [
      'default disallowed',
      { disallowed_policies: ['default'], allowed_policies: ['a'] },
      {},
      ['a'],
    ],
    ['no default', { token_no_default_policy: true, allowed_policies: ['a'] }, {}, ['a']],
    [
      'parent policies where nothing is allowed',
      { disallowed_policies: ['x'] },
      {},
      ['broad', 'default'],
    ],
    ['no rule of its own', {}, { policies: ['x'] }, 'child policies must be subset of parent'],
  ];
  test.each(rows)('%s', async (_name, role, data, expected) => {
    const { send, make, root } = await setUp();
    await send(root, 'create', 'roles/r', role);
    const broad = await make({ policies: ['broad'] });
    const outcome = await send(broad, 'update', 'create/r', data).then(
      (response) => response?.auth?.policies,
      (error: unknown) => (error instanceof Error ? error.message : error),
    );
    expect(outcome).toEqual(expected);
  });

  test('shape the token, and its renewals as they are then', async () => {
    const { send, make, root, describeToken, time } = await setUp();
    await send(root, 'create', 'roles/r', {
      token_period: '1h',
      orphan: true,
      path_suffix: 'v1x',
      token_num_uses: 5,
    });
    const id = await make({ policies: ['broad'], num_uses: 9 }, root, 'create/r');
    expect(await describeToken(id)).toMatchObject({
      path: 'auth/token/create/r/v1x',
      role: 'r',
      orphan: true,
      num_uses: 5,
      ttl: 3600,
    });
    await send(root, 'update', 'roles/r', { token_period: '2h' });
    time.nowMs += 1000;
    const renewed = await send(root, 'update', 'renew', { token: id });
    expect(renewed?.auth?.leaseDurationSeconds).toBe(7200);
    await send(root, 'delete', 'roles/r');
    await expect(send(root, 'update', 'renew', { token: id })).rejects.toThrow(
      'original token role "r" could not be found, not renewing',
    );
  });

  const refusals: [data: JsonObject, message: string][] = [
    [{ token_type: 'x' }, `invalid 'token_type' value "x"`],
    [
      { token_type: 'batch' },
      "'token_type' cannot be 'batch' when role is set to generate non-orphan tokens",
    ],
    [
      { token_type: 'batch', orphan: true },
      "'token_type' cannot be 'batch' when role is set to generate renewable tokens",
    ],
    [{ token_num_uses: -1 }, "error parsing role fields: 'token_num_uses' cannot be negative"],
    [
      { path_suffix: '/' },
      String.raw`given role path suffix contains invalid characters; must match \w[\w-.]+\w`,
    ],
    [
      { path_suffix: 'a..b' },
      'error registering path suffix: path cannot contain parent references',
    ],
    [{ token_bound_cidrs: '10.0.0.0/8' }, "'token_bound_cidrs' is not supported"],
  ];
  test.each(refusals)('refuse %j', async (data, message) => {
    const { send, root } = await setUp();
    await expect(send(root, 'create', 'roles/r', data)).rejects.toMatchObject({ message });
  });

  test('that do not exist', async () => {
    const { send, root } = await setUp();
    await expect(send(root, 'update', 'create/r')).rejects.toThrow('unknown role r');
  });
});

describe('lookup', () => {
  test('tells all but the parent', async () => {
    const { make, describeToken, time, tokens, send, root } = await setUp();
    const id = await make({ policies: ['broad'], ttl: '1h', meta: { a: 'b' }, renewable: true });
    time.nowMs += 60_000;
    await send(root, 'update', 'renew', { token: id, increment: '30m' });
    time.nowMs += 600;
    expect(await describeToken(id)).toEqual({
      id,
      accessor: tokens.lookup(id)?.accessor,
      policies: ['broad', 'default'],
      path: 'auth/token/create',
      meta: { a: 'b' },
      display_name: 'token',
      num_uses: 0,
      orphan: false,
      creation_time: 1_893_456_000,
      creation_ttl: 3600,
      expire_time: '2030-01-01T00:31:00Z',
      ttl: 1799,
      explicit_max_ttl: 0,
      entity_id: '',
      type: 'service',
      last_renewal: '2030-01-01T00:01:00Z',
      last_renewal_time: 1_893_456_060,
      renewable: true,
      issue_time: '2030-01-01T00:00:00Z',
    });
  });

  test('of oneself, by both methods, whatever token is named', async () => {
    const { send, make, root } = await setUp();
    const id = await make({ policies: ['broad'] });
    for (const operation of ['read', 'update'] as const) {
      expect((await send(id, operation, 'lookup-self', { token: root }))?.data?.['id']).toBe(id);
      expect((await send(id, operation, 'lookup'))?.data?.['id']).toBe(id);
    }
  });

  test('of the first root token, which has no lease', async () => {
    const { describeToken, root } = await setUp();
    const data = await describeToken(root);
    expect(data).toMatchObject({ display_name: 'root', path: 'auth/token/root', orphan: true });
    expect(Object.keys(data)).not.toContain('renewable');
    expect(Object.keys(data)).not.toContain('issue_time');
  });

  test('by accessor hides the token', async () => {
    const { send, tokens, root } = await setUp();
    const accessor = tokens.lookup(root)?.accessor ?? '';
    const response = await send(root, 'update', 'lookup-accessor', { accessor });
    expect(response?.data).toMatchObject({ id: '', accessor });
  });

  test('of nobody', async () => {
    const { send, root } = await setUp();
    const unknown = send(root, 'update', 'lookup', { token: 's.x' });
    await expect(unknown).rejects.toMatchObject({
      code: 'permission-denied',
      message: 'bad token',
    });
    await expect(send(root, 'update', 'lookup-accessor', {})).rejects.toMatchObject({
      code: 'invalid-request',
      message: '1 error occurred:\n\t* missing accessor\n\n',
    });
    await expect(send(root, 'update', 'lookup-accessor', { accessor: 'x' })).rejects.toThrow(
      '* invalid accessor',
    );
  });
});

describe('renew', () => {
  test('by token, by oneself and by accessor', async () => {
    const { send, make, root, tokens } = await setUp();
    const id = await make({ policies: ['broad'], ttl: '1h' });
    const accessor = tokens.lookup(id)?.accessor ?? '';
    const expected = { clientToken: id, leaseDurationSeconds: 3600, renewable: true };
    expect((await send(root, 'update', 'renew', { token: id }))?.auth).toMatchObject(expected);
    expect((await send(id, 'update', 'renew-self'))?.auth).toMatchObject(expected);
    const response = await send(root, 'update', 'renew-accessor', { accessor, increment: 60 });
    expect(response?.auth).toMatchObject({ clientToken: '', leaseDurationSeconds: 60 });
  });

  test('refusals', async () => {
    const { send, make, root } = await setUp();
    const batch = await make({ type: 'batch', policies: ['broad'] });
    const rows: [data: JsonObject, message: string][] = [
      [{}, 'missing token ID'],
      [{ token: 's.x' }, 'token not found'],
      [{ token: root }, 'lease is not renewable'],
      [{ token: batch }, 'batch tokens cannot be renewed'],
      [{ token: root, increment: -1 }, 'cannot provide negative value'],
    ];
    for (const [data, message] of rows) {
      await expect(send(root, 'update', 'renew', data)).rejects.toThrow(message);
    }
  });
});

describe('revoke', () => {
  test('takes the children along, unless they become orphans', async () => {
    const { send, make, root, tokens } = await setUp();
    const parent = await make({ policies: ['broad'] });
    const child = await make({}, parent);
    const grandchild = await make({}, child);
    await send(root, 'update', 'revoke-orphan', { token: parent });
    expect([parent, child, grandchild].map((id) => tokens.lookup(id)?.orphan)).toEqual([
      undefined,
      true,
      false,
    ]);
    expect(await send(root, 'update', 'revoke', { token: child })).toBeUndefined();
    expect([child, grandchild].map((id) => tokens.lookup(id))).toEqual([undefined, undefined]);
  });

  test('oneself, and by accessor', async () => {
    const { send, make, root, tokens } = await setUp();
    const first = await make({ policies: ['broad'] });
    await send(first, 'update', 'revoke-self');
    expect(tokens.lookup(first)).toBeUndefined();
    const second = await make({ policies: ['broad'] });
    const accessor = tokens.lookup(second)?.accessor ?? '';
    expect(await send(root, 'update', 'revoke-accessor', { accessor })).toBeUndefined();
    expect(tokens.lookup(second)).toBeUndefined();
    expect(await send(root, 'update', 'revoke-accessor', { accessor })).toEqual({
      warnings: ['No token found with this accessor'],
    });
  });

  test('refusals', async () => {
    const { send, make, root } = await setUp();
    const batch = await make({ type: 'batch', policies: ['broad'] });
    const broad = await make({ policies: ['broad'] });
    const rows: [by: string, path: string, data: JsonObject, message: string][] = [
      [root, 'revoke', {}, 'missing token ID'],
      [root, 'revoke', { token: batch }, 'batch tokens cannot be revoked'],
      [root, 'revoke-orphan', { token: batch }, 'batch tokens cannot be revoked'],
      [root, 'revoke-orphan', { token: 's.x' }, 'token to revoke not found'],
      [
        broad,
        'revoke-orphan',
        { token: broad },
        'root or sudo privileges required to revoke and orphan',
      ],
    ];
    for (const [by, path, data, message] of rows) {
      await expect(send(by, 'update', path, data)).rejects.toThrow(message);
    }
    expect(await send(root, 'update', 'revoke', { token: 's.x' })).toBeUndefined();
  });
});

test('accessors are listed, and need sudo', async () => {
  const { send, root, tokens, backend } = await setUp();
  const keys = await tokens.listAccessors();
  expect((await send(root, 'list', 'accessors/'))?.data).toEqual({ keys });
  expect(backend.specialPaths.root).toContain('accessors*');
});

test('tidy has nothing to do and says so', async () => {
  const { send, root } = await setUp();
  expect(await send(root, 'update', 'tidy')).toMatchObject({
    status: 202,
    warnings: [expect.stringMatching(/^Nothing/)],
  });
});

test('unknown paths and operations', async () => {
  const { send, root } = await setUp();
  const rows: [operation: Operation, path: string, code: string][] = [
    ['read', 'nothing', 'unsupported-path'],
    ['read', 'constructor', 'unsupported-path'],
    ['read', 'lookup/', 'unsupported-path'],
    ['update', 'roles/a/b', 'unsupported-path'],
    ['read', 'create', 'unsupported-operation'],
    ['delete', 'lookup', 'unsupported-operation'],
  ];
  for (const [operation, path, code] of rows) {
    await expect(send(root, operation, path)).rejects.toMatchObject({ code });
  }
});

test('a standby answers look-ups and hands every change on, before it judges', async () => {
  const { send, root, view, mountView } = await setUp();
  view.isReadOnly = true;
  mountView.isReadOnly = true;
  expect((await send(root, 'read', 'lookup-self'))?.data?.['id']).toBe(root);
  const changes = [
    'create',
    'create-orphan',
    'create/nobody',
    'renew',
    'renew-self',
    'renew-accessor',
    'revoke',
    'revoke-self',
    'revoke-orphan',
    'revoke-accessor',
    'roles/r',
    'tidy',
  ];
  for (const path of changes) {
    await expect(send(root, 'update', path), path).rejects.toMatchObject({ code: 'read-only' });
  }
  await expect(send(root, 'delete', 'roles/r')).rejects.toMatchObject({ code: 'read-only' });
  expect(mountView.writes).toEqual([]);
});
