/**
 * What a real OpenBao 2.6.2 answered to the same requests, and answers here: two nodes of three, as
 * processes. Each row was seen; the file named is where OpenBao decides it. What differs on purpose
 * is in `docs/compatibility.md`.
 */

import assert from 'node:assert/strict';

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import { Workspace, type NodeProcess } from './testing/node-process.ts';

type Ask = {
  readonly body?: unknown;
  readonly token?: string;
  readonly headers?: { readonly [name: string]: string };
};

const workspace = new Workspace();
const nodes = new Map<string, NodeProcess>();
let rootToken = '';
let plainToken = '';
let unsealKey = '';

async function ask(
  role: string,
  method: string,
  path: string,
  { body, token = rootToken, headers = {} }: Ask = {},
): Promise<{ status: number; json: unknown }> {
  const node = nodes.get(role);
  assert(node !== undefined);
  const response = await fetch(`${node.address}/v1/${path}`, {
    method,
    headers: { ...(token === '' ? {} : { 'X-Vault-Token': token }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    redirect: 'manual',
  });
  const text = await response.text();
  return { status: response.status, json: text === '' ? undefined : JSON.parse(text) };
}

async function until(role: string, path: string, isSo: (json: unknown) => boolean): Promise<void> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    if (isSo((await ask(role, 'GET', path)).json)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${path} of the ${role} node never became so`);
}

function errors(...messages: readonly string[]): object {
  return { errors: messages };
}

/** As go-multierror prints one. */
function wrapped(message: string): object {
  return errors(`1 error occurred:\n\t* ${message}\n\n`);
}

beforeAll(async () => {
  nodes.set('active', await workspace.start('n1'));
  nodes.set('standby', await workspace.start('n2'));
});

afterAll(() => workspace.remove());

describe('before there is a cluster', () => {
  // http/sys_init.go
  test.each<[object, string]>([
    [{ secret_shares: 1 }, 'invalid seal configuration: threshold must be at least one'],
    [{}, 'invalid seal configuration: shares must be at least one'],
    [
      { secret_shares: 1, secret_threshold: 1, recovery_shares: 1 },
      'parameters recovery_shares not applicable to seal type shamir',
    ],
    // OpenBao would encrypt the keys. What it must never do is answer them in the clear.
    [
      { secret_shares: 1, secret_threshold: 1, pgp_keys: ['a'], root_token_pgp_key: 'b' },
      'parameters pgp_keys,root_token_pgp_key are not supported',
    ],
  ])('PUT sys/init %j is refused', async (body, message) => {
    const answer = await ask('active', 'PUT', 'sys/init', { body });
    expect(answer).toEqual({ status: 400, json: errors(message) });
    expect((await ask('active', 'GET', 'sys/init')).json).toEqual({ initialized: false });
  });

  test('a sealed node may be sealed again by anyone (core.go `SealWithRequest`)', async () => {
    expect(await ask('active', 'PUT', 'sys/seal')).toEqual({ status: 204, json: undefined });
    expect((await ask('active', 'GET', 'sys/seal')).status).toBe(503);
  });
});

const ECHO_WAIT = { timeout: 10_000, interval: 50 };

describe('of a cluster', () => {
  beforeAll(async () => {
    const init = await ask('active', 'PUT', 'sys/init', {
      body: { secret_shares: 1, secret_threshold: 1, pgp_keys: [], recovery_shares: 0 },
    });
    assert.equal(init.status, 200);
    const made = init.json as { keys: readonly string[]; root_token: string };
    rootToken = made.root_token;
    unsealKey = made.keys[0] ?? '';
    await ask('active', 'PUT', 'sys/unseal', { body: { key: unsealKey } });
    await until('active', 'sys/health', (json) => Reflect.get(Object(json), 'standby') === false);
    const leader_api_addr = nodes.get('active')?.address;
    await ask('standby', 'POST', 'sys/storage/raft/join', { body: { leader_api_addr } });
    await ask('standby', 'PUT', 'sys/unseal', { body: { key: unsealKey } });
    await until('standby', 'sys/leader', (json) => Object(json).leader_address !== '');
    const created = await ask('active', 'POST', 'auth/token/create', {
      body: { policies: ['default'] },
    });
    plainToken = (created.json as { auth: { client_token: string } }).auth.client_token;
    await ask('active', 'POST', 'sys/mounts/k1', { body: { type: 'kv' } });
  }, 60_000);

  // http/sys_leader.go, internal/vault/logical_system.go `LeaderResponse`
  test('sys/leader says of a standby only who leads', async () => {
    const known = {
      ha_enabled: true,
      leader_address: nodes.get('active')?.address,
      leader_cluster_address: expect.stringMatching(/^https:\/\//),
      raft_committed_index: expect.any(Number),
      raft_applied_index: expect.any(Number),
    };
    const active_time = expect.stringMatching(/^\d{4}-.*Z$/);
    expect((await ask('standby', 'GET', 'sys/leader')).json).toEqual(known);
    const own = { ...known, is_self: true, active_time };
    expect((await ask('active', 'GET', 'sys/leader')).json).toEqual(own);
  });

  // http/sys_health.go: a name alone is false, and there are no performance standbys
  test.each([
    ['?standbyok=true', 200],
    ['?standbyok', 429],
    ['?standbyok=', 429],
    ['?standbyok=maybe', 400],
    ['?perfstandbyok=true', 429],
    ['?standbycode=298', 298],
    ['?activecode=', 400],
  ])('sys/health%s of a standby is %i, as GET and as HEAD', async (query, status) => {
    expect((await ask('standby', 'GET', `sys/health${query}`)).status).toBe(status);
    expect((await ask('standby', 'HEAD', `sys/health${query}`)).status).toBe(status);
  });

  // internal/vault/ha.go `HAStatusNode`
  test('sys/ha-status', async () => {
    const node = {
      hostname: expect.any(String),
      api_address: expect.any(String),
      cluster_address: expect.stringMatching(/^https:\/\//),
      version: '0.1.0',
      upgrade_version: '0.1.0',
    };
    const active = { ...node, active_node: true, last_echo: null };
    const standby = { ...node, active_node: false, last_echo: expect.any(String) };
    // Until the first echo there is none to tell of.
    await vi.waitFor(async () => {
      const { json } = await ask('standby', 'GET', 'sys/ha-status');
      const { nodes: members } = json as { nodes: readonly object[] };
      expect(members).toHaveLength(2);
      expect(members).toEqual(expect.arrayContaining([active, standby]));
    }, ECHO_WAIT);
  });

  // internal/vault/logical_system_raft.go, physical/raft/raft_autopilot.go
  test.each(['active', 'standby'])('below sys/storage/raft on the %s node', async (role) => {
    const post = (path: string, body: object): Promise<unknown> =>
      ask(role, 'POST', `sys/storage/raft/${path}`, { body });
    const none = { status: 400, json: errors('no server id provided') };
    expect(await post('remove-peer', { node_id: 'n2' })).toEqual(none);
    expect(await post('promote', {})).toEqual(none);
    expect(await post('remove-peer', { server_id: 'nobody' })).toEqual({
      status: 204,
      json: undefined,
    });
    expect(await post('promote', { server_id: 'n1' })).toEqual({
      status: 500,
      json: wrapped('server is not a non-voter'),
    });
    expect(await post('bootstrap/answer', {})).toEqual({
      status: 400,
      json: errors('no server_id provided'),
    });
    expect(await post('bootstrap/challenge', { server_id: 'x' })).toMatchObject({
      status: 200,
      json: {
        data: {
          challenge: expect.any(String),
          seal_config: {
            type: 'shamir',
            secret_shares: 1,
            secret_threshold: 1,
            pgp_keys: null,
            nonce: '',
            backup: false,
          },
        },
      },
    });
    expect(
      await post('autopilot/configuration', { cleanup_dead_servers: true, min_quorum: 2 }),
    ).toEqual({
      status: 400,
      json: errors(
        'min_quorum must be set when cleanup_dead_servers is set and it should at least be 3; ' +
          'cleanup_dead_servers: true, min_quorum: 0x2',
      ),
    });
  });

  // sdk/framework/backend.go through go-multierror
  test.each([
    ['POST', 'sys/ha-status', 405, 'unsupported operation'],
    ['GET', 'sys/storage/raft/remove-peer', 405, 'unsupported operation'],
    ['GET', 'sys/storage/raft/snapshot-auto/config', 404, 'unsupported path'],
    ['GET', 'sys/nothing', 404, 'unsupported path'],
  ])('%s %s', async (method, path, status, message) => {
    expect(await ask('active', method, path)).toEqual({ status, json: wrapped(message) });
  });

  // internal/vault/request_handling.go: `CheckToken` comes before the router
  test('who may not ask is not told what is mounted', async () => {
    const denied = { status: 403, json: wrapped('permission denied') };
    for (const role of ['active', 'standby']) {
      expect(await ask(role, 'GET', 'nothing/x', { token: plainToken })).toEqual(denied);
      expect(await ask(role, 'GET', 'k1/x', { token: plainToken })).toEqual(denied);
    }
    expect(await ask('active', 'GET', 'nothing/x')).toEqual({
      status: 404,
      json: errors('no handler for route "nothing/x". route entry not found.'),
    });
  });

  // internal/vault/logical_system.go `mountInfo`, `handleMount`
  test('mounts', async () => {
    expect((await ask('active', 'GET', 'sys/mounts')).json).toMatchObject({
      'k1/': { options: {}, deprecation_status: 'supported' },
      'sys/': { options: null },
    });
    const { json } = await ask('active', 'GET', 'sys/mounts');
    expect(Object(json)['sys/']).not.toHaveProperty('deprecation_status');
    expect(await ask('active', 'POST', 'sys/mounts/k1', { body: { type: 'kv' } })).toEqual({
      status: 400,
      json: errors('path is already in use at k1/'),
    });
  });

  // http/util.go, http/logical.go, internal/http/json.go
  test('bodies that are refused', async () => {
    const many = Object.fromEntries(Array.from({ length: 1100 }, (_, at) => [`k${at}`, 'v']));
    expect(await ask('active', 'POST', 'k1/a', { body: many })).toEqual({
      status: 400,
      json: errors('refused JSON input due to high complexity: exceeded maximum number of strings'),
    });
    const array = await ask('active', 'POST', 'k1/a', { body: [1] });
    expect(array).toEqual({
      status: 400,
      json: errors(expect.stringMatching(/^failed to decode JSON input: /)),
    });
    const headers = { 'Content-Type': '' };
    expect(await ask('active', 'PATCH', 'k1/a', { body: {}, headers })).toEqual({
      status: 400,
      json: errors('mime: no media type'),
    });
  });

  test('a node that is sealed again does not say which cluster it is of', async () => {
    expect((await ask('standby', 'GET', 'sys/health')).json).toHaveProperty('cluster_id');
    expect((await ask('standby', 'PUT', 'sys/seal')).status).toBe(204);
    const health = await ask('standby', 'GET', 'sys/health');
    expect(health).toMatchObject({ status: 503, json: { sealed: true } });
    expect(health.json).not.toHaveProperty('cluster_id');
    const status = await ask('standby', 'GET', 'sys/seal-status');
    expect(status.json).not.toHaveProperty('cluster_id');
  });
});
