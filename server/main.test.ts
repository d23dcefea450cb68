import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { Workspace, nodeConfig } from './testing/node-process.ts';

let workspace: Workspace;

beforeEach(() => {
  workspace = new Workspace();
});

afterEach(() => workspace.remove());

describe('a server that cannot start says why, and exits with 1', () => {
  test('a key that is misspelt', async () => {
    const directory = join(workspace.directory, 'data');
    const file = workspace.write('a.hcl', `disable_cahce = true\n${nodeConfig(directory, 'n1')}`);
    expect(await workspace.run(file)).toEqual({
      code: 1,
      stdout: '',
      stderr: `baobench server: ${file}:1:1: unknown key "disable_cahce", did you mean "disable_cache"?\n`,
    });
    expect(existsSync(directory)).toBe(false);
  });

  test('a configuration that is not there', async () => {
    const { code, stderr } = await workspace.run(join(workspace.directory, 'missing.hcl'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('no such file')]);
  });

  test('a port in use, before anything is touched on disk', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const directory = join(workspace.directory, 'data');
    const config = nodeConfig(directory, 'n1').replace('127.0.0.1:0"', `127.0.0.1:${port}"`);
    const { code, stderr } = await workspace.run(workspace.write('a.hcl', config));
    other.close();
    expect([code, stderr]).toEqual([
      1,
      `baobench server: address 127.0.0.1:${port} is already in use\n`,
    ]);
    expect(existsSync(directory)).toBe(false);
  });

  test('a certificate that is not there', async () => {
    const config = nodeConfig(join(workspace.directory, 'data'), 'n1').replace(
      'tls_disable = true',
      'tls_cert_file = "/nowhere/c.pem"\n  tls_key_file = "/nowhere/k.pem"',
    );
    const { code, stderr } = await workspace.run(workspace.write('a.hcl', config));
    expect([code, stderr]).toEqual([1, expect.stringContaining('/nowhere/c.pem')]);
  });

  test('data of another node', async () => {
    const node = await workspace.start('n1');
    await initialize(node.address);
    await node.stop();
    const config = nodeConfig(join(workspace.directory, 'n1'), 'n2');
    const { code, stderr } = await workspace.run(workspace.write('a.hcl', config));
    expect([code, stderr]).toEqual([1, expect.stringContaining('n1')]);
  });

  test('data that another process uses', async () => {
    await workspace.start('n1');
    const config = nodeConfig(join(workspace.directory, 'n1'), 'n1');
    const { code, stderr } = await workspace.run(workspace.write('a.hcl', config));
    expect([code, stderr]).toEqual([1, expect.stringMatching(/in use|lock/i)]);
  });
});

describe('a disk that lets a node down', () => {
  test('a full one: nothing acknowledged is lost, and the process ends', async () => {
    const limited = await workspace.start('n1');
    const { key, token } = await initialize(limited.address);
    const value = 'x'.repeat(100_000);
    // From its first write on the log has a file of full length to write into.
    expect(await put(limited.address, 'cubbyhole/k', { token, body: { value } })).toBe(204);
    const acknowledged = ['k'];
    limited.limitFiles(1024 * 1024);
    const exited = once(limited.child, 'exit');
    let status = 204;
    for (let at = 0; status === 204 && at < 20; at += 1) {
      status = await put(limited.address, `cubbyhole/k${at}`, { token, body: { value } });
      if (status === 204) acknowledged.push(`k${at}`);
    }
    // Written to the log or not: only a restart can tell.
    expect(status).toBe(504);
    expect(await exited).toEqual([1, null]);
    expect(limited.errors()).toContain('node failed');
    expect(acknowledged.length).toBeGreaterThan(1);
    expect(acknowledged.length).toBeLessThan(20);

    const node = await workspace.start('n1');
    expect(await put(node.address, 'sys/unseal', { token, body: { key } })).toBe(200);
    const headers = { 'X-Vault-Token': token };
    const list = await fetch(`${node.address}/v1/cubbyhole?list=true`, { headers });
    const { data } = (await list.json()) as { data: { keys: string[] } };
    expect(data.keys).toEqual(expect.arrayContaining(acknowledged));
    expect(await node.stop()).toBe(0);
  });

  test('a damaged log record: the node says which, and does not start', async () => {
    const node = await workspace.start('n1');
    await initialize(node.address);
    await node.stop();
    const log = join(workspace.directory, 'n1', 'log');
    const segment = readdirSync(log).find((name) => name.endsWith('.wal'));
    const file = join(log, segment ?? '');
    const bytes = readFileSync(file);
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const config = nodeConfig(join(workspace.directory, 'n1'), 'n1');
    const { code, stderr } = await workspace.run(workspace.write('a.hcl', config));
    expect([code, stderr]).toEqual([1, expect.stringContaining(segment ?? '')]);
  });
});

test('a signal ends it in order', async () => {
  const node = await workspace.start('n1');
  const health = await fetch(`${node.address}/v1/sys/health`);
  expect([health.status, await node.stop()]).toEqual([501, 0]);
});

/** Initialises and unseals; resolves when the node is active. */
async function initialize(address: string): Promise<{ key: string; token: string }> {
  const response = await fetch(`${address}/v1/sys/init`, {
    method: 'PUT',
    body: JSON.stringify({ secret_shares: 1, secret_threshold: 1 }),
  });
  expect(response.status).toBe(200);
  const init = (await response.json()) as { keys: string[]; root_token: string };
  const [key = ''] = init.keys;
  expect(await put(address, 'sys/unseal', { token: '', body: { key } })).toBe(200);
  return { key, token: init.root_token };
}

/** A write to a node that is not active yet waits until it is. */
async function put(
  address: string,
  path: string,
  { token, body }: { token: string; body: object },
): Promise<number> {
  const response = await fetch(`${address}/v1/${path}`, {
    method: 'PUT',
    headers: { 'X-Vault-Token': token },
    body: JSON.stringify(body),
  });
  await response.arrayBuffer();
  return response.status;
}
