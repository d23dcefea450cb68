/** node-vault, as npm has it, against the active node and a standby: real processes, real sockets. */

import assert from 'node:assert/strict';

import vault from 'node-vault';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { Workspace, type NodeProcess } from './testing/node-process.ts';

const workspace = new Workspace();
const nodes = new Map<string, NodeProcess>();
let rootToken = '';
let unsealKey = '';

function client(role: string, token = rootToken): ReturnType<typeof vault> {
  const node = nodes.get(role);
  assert(node !== undefined);
  return vault({ endpoint: node.address, token });
}

async function servedBy(role: string, path: string): Promise<string | null> {
  const response = await fetch(`${nodes.get(role)?.address}/v1/${path}`, {
    headers: { 'X-Vault-Token': rootToken },
  });
  await response.arrayBuffer();
  return response.headers.get('X-Vault-Raft-Node-ID');
}

/** Resolves once the node has a role in which it serves. */
async function untilHealthy(role: string, status: number): Promise<void> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const response = await fetch(`${nodes.get(role)?.address}/v1/sys/health`);
    await response.arrayBuffer();
    if (response.status === status) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the ${role} node does not serve`);
}

beforeAll(async () => {
  nodes.set('active', await workspace.start('n1'));
  nodes.set('standby', await workspace.start('n2'));
  const active = client('active');
  assert.equal((await active.initialized()).initialized, false);
  const init = await active.init({ secret_shares: 1, secret_threshold: 1 });
  rootToken = init.root_token;
  unsealKey = init.keys[0] ?? '';
  assert.equal((await active.unseal({ key: unsealKey })).sealed, false);
  await untilHealthy('active', 200);
  const standby = client('standby');
  const leader = nodes.get('active')?.address;
  await standby.write('sys/storage/raft/join', { leader_api_addr: leader });
  assert.equal((await standby.unseal({ key: unsealKey })).sealed, false);
  await untilHealthy('standby', 429);
}, 60_000);

afterAll(() => workspace.remove());

describe.each(['active', 'standby'])('node-vault on the %s node', (role) => {
  test('status and health', async () => {
    const it = client(role);
    expect(await it.status()).toMatchObject({ initialized: true, sealed: false, type: 'shamir' });
    expect(await it.health({ standbyok: true })).toMatchObject({
      initialized: true,
      sealed: false,
      standby: role === 'standby',
    });
  });

  test('mounts', async () => {
    const it = client(role);
    await it.mount({ mount_point: `m-${role}`, type: 'kv', description: 'a mount' });
    expect(await it.mounts()).toMatchObject({
      [`m-${role}/`]: { type: 'kv', description: 'a mount' },
      data: { [`m-${role}/`]: { type: 'kv' }, 'sys/': {}, 'cubbyhole/': {} },
    });
    await it.unmount({ mount_point: `m-${role}` });
    expect(Object.keys((await it.mounts()).data)).not.toContain(`m-${role}/`);
  });

  test('policies', async () => {
    const it = client(role);
    const rules = 'path "kv/*" { capabilities = ["read", "list"] }';
    await it.addPolicy({ name: `p-${role}`, rules });
    expect((await it.policies()).data.policies).toContain(`p-${role}`);
    expect((await it.getPolicy({ name: `p-${role}` })).data.rules).toBe(rules);
    await it.removePolicy({ name: `p-${role}` });
    expect((await it.policies()).data.policies).not.toContain(`p-${role}`);
  });

  test('kv version 1, with LIST', async () => {
    const it = client(role);
    const mount = `v1-${role}`;
    await it.mount({ mount_point: mount, type: 'kv' });
    await it.write(`${mount}/app/one`, { value: 'a', n: 1 });
    await it.write(`${mount}/app/two`, { value: 'b' });
    await it.write(`${mount}/other`, { value: 'c' });
    expect((await it.read(`${mount}/app/one`)).data).toEqual({ value: 'a', n: 1 });
    expect((await it.list(mount)).data.keys).toEqual(['app/', 'other']);
    expect((await it.list(`${mount}/app`)).data.keys).toEqual(['one', 'two']);
    await it.delete(`${mount}/app/one`);
    await expect(it.read(`${mount}/app/one`)).rejects.toMatchObject({
      response: { statusCode: 404 },
    });
  });

  test('kv version 2, with LIST and PATCH', async () => {
    const it = client(role);
    const mount = `v2-${role}`;
    await it.mount({ mount_point: mount, type: 'kv', options: { version: '2' } });
    await it.write(`${mount}/data/a`, { data: { value: 1 }, options: { cas: 0 } });
    const second = await it.write(`${mount}/data/a`, { data: { value: 2, other: 'x' } });
    expect(second.data.version).toBe(2);
    await it.update(`${mount}/data/a`, { data: { other: null } });
    expect((await it.read(`${mount}/data/a`)).data).toMatchObject({
      data: { value: 2 },
      metadata: { version: 3, destroyed: false },
    });
    expect((await it.read(`${mount}/data/a?version=1`)).data.data).toEqual({ value: 1 });
    expect((await it.list(`${mount}/metadata`)).data.keys).toEqual(['a']);
    await expect(
      it.write(`${mount}/data/a`, { data: {}, options: { cas: 1 } }),
    ).rejects.toMatchObject({ response: { statusCode: 400 } });
    await it.delete(`${mount}/data/a`);
    await expect(it.read(`${mount}/data/a`)).rejects.toMatchObject({
      response: { statusCode: 404, body: { data: { metadata: { version: 3 } } } },
    });
  });

  test('tokens: what a policy allows, and no more', async () => {
    const it = client(role);
    const name = `t-${role}`;
    await it.mount({ mount_point: name, type: 'kv' });
    await it.write(`${name}/a`, { value: 'a' });
    await it.addPolicy({ name, rules: `path "${name}/*" { capabilities = ["read"] }` });
    const { auth } = await it.tokenCreate({ policies: [name], ttl: '1h', display_name: 'app' });
    const app = client(role, auth.client_token);
    expect((await app.tokenLookupSelf()).data).toMatchObject({ policies: ['default', name] });
    expect((await app.read(`${name}/a`)).data).toEqual({ value: 'a' });
    await expect(app.write(`${name}/a`, { value: 'b' })).rejects.toMatchObject({
      response: { statusCode: 403 },
    });
    expect((await app.tokenRenewSelf({ increment: '30m' })).auth.renewable).toBe(true);
    // The client takes every token that is created or renewed for its own: root is a new one.
    await client(role).tokenRenew({ token: auth.client_token, increment: '40m' });
    await client(role).tokenRevokeAccessor({ accessor: auth.accessor });
    await expect(app.read(`${name}/a`)).rejects.toMatchObject({ response: { statusCode: 403 } });
  });
});

test('the standby answers reads itself, and hands on what only the active node knows', async () => {
  await client('standby').mount({ mount_point: 'who', type: 'kv' });
  await client('standby').write('who/a', { value: 'a' });
  expect(await servedBy('standby', 'who/a')).toBe('n2');
  expect(await servedBy('standby', 'who?list=true')).toBe('n2');
  expect(await servedBy('standby', 'auth/token/lookup-self')).toBe('n2');
  expect(await servedBy('active', 'who/a')).toBe('n1');
  expect(await servedBy('standby', 'sys/storage/raft/configuration')).toBe('n2');
});

test('a wrong unseal key is refused, and the right one still works', async () => {
  const other = await workspace.start('n3');
  nodes.set('third', other);
  const third = client('third');
  await third.write('sys/storage/raft/join', { leader_api_addr: nodes.get('active')?.address });
  const wrong = Buffer.alloc(32, 7).toString('hex');
  await expect(third.unseal({ key: wrong })).rejects.toMatchObject({
    response: { statusCode: 400 },
  });
  expect(await third.unseal({ key: unsealKey })).toMatchObject({ sealed: false });
});
