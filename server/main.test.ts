import { once } from 'node:events';
import { existsSync } from 'node:fs';
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
    const body = JSON.stringify({ secret_shares: 1, secret_threshold: 1 });
    const init = await fetch(`${node.address}/v1/sys/init`, { method: 'PUT', body });
    expect(init.status).toBe(200);
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

test('a signal ends it in order', async () => {
  const node = await workspace.start('n1');
  const health = await fetch(`${node.address}/v1/sys/health`);
  expect([health.status, await node.stop()]).toEqual([501, 0]);
});
