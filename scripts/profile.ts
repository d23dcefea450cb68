/**
 * Takes a flame graph or CPU profile of a loaded node: `npm run profile`.
 *
 * With clinic where it is installed (`npm run profile:setup`), else by V8's own profiler, whose
 * `.cpuprofile` opens in Chrome's developer tools and in speedscope. A single node is initialised,
 * filled and driven by a closed loop of KV reads for a bounded time.
 */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import autocannon from 'autocannon';

import { call, expectOk } from '../bench/cluster/admin-api.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CLI = join(ROOT, 'dist/scripts/baobench.js');
const CLINIC = join(ROOT, 'scripts/profile/node_modules/.bin/clinic');
const LOAD_SECONDS = 8;
const START_TIMEOUT_MS = 30_000;

await main();

async function main(): Promise<void> {
  const output = join(ROOT, 'results', 'runs', 'profiles');
  mkdirSync(output, { recursive: true });
  const before = new Set(readdirSync(output));
  const directory = mkdtempSync(join(tmpdir(), 'baobench-profile-'));
  const port = await freePort();
  const config = join(directory, 'config.json');
  writeFileSync(config, JSON.stringify(nodeConfig(directory, port, await freePort())));

  const useClinic = existsSync(CLINIC);
  console.log(
    useClinic ? 'profiling with clinic flame' : 'profiling with V8 (clinic is not installed)',
  );
  const server = [CLI, 'server', `-config=${config}`];
  const child = useClinic
    ? spawn(
        CLINIC,
        ['flame', '--open=false', '--dest', output, '--', process.execPath, ...server],
        {
          stdio: ['ignore', 'ignore', 'inherit'],
          // Without these clinic asks for consent, or does nothing at all.
          env: { ...process.env, NO_INSIGHT: '1', NO_UPDATE_NOTIFIER: '1' },
          detached: true,
        },
      )
    : spawn(process.execPath, ['--cpu-prof', `--cpu-prof-dir=${output}`, ...server], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  try {
    await drive(`http://127.0.0.1:${port}`);
  } finally {
    // Clinic runs the server in its own process group and waits for the signal there.
    if (useClinic) process.kill(-(child.pid ?? 0), 'SIGINT');
    else child.kill('SIGTERM');
    await exited;
    rmSync(directory, { recursive: true, force: true });
  }

  const made = readdirSync(output).filter((name) => !before.has(name));
  if (made.length === 0) throw new Error('the profiler left no file behind');
  for (const name of made) console.log(join('results', 'runs', 'profiles', name));
}

async function drive(address: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while ((await call('GET', 'sys/health', { address }).catch(() => undefined))?.status !== 501) {
    if (Date.now() > deadline) throw new Error('the server did not start');
    await delay(100);
  }
  const { body } = await expectOk('PUT', 'sys/init', {
    address,
    body: { secret_shares: 1, secret_threshold: 1 },
  });
  const token = String(body['root_token']);
  const key = (body['keys_base64'] as readonly string[])[0] ?? '';
  await expectOk('PUT', 'sys/unseal', { address, body: { key } });
  while ((await call('GET', 'sys/health', { address })).status !== 200) {
    if (Date.now() > deadline) throw new Error('the server did not become active');
    await delay(50);
  }
  await expectOk('PUT', 'sys/mounts/kv', { address, token, body: { type: 'kv' } });
  await expectOk('PUT', 'kv/profiled', { address, token, body: { value: 'x'.repeat(100) } });
  const result = await autocannon({
    url: `${address}/v1/kv/profiled`,
    headers: { 'x-vault-token': token },
    connections: 16,
    duration: LOAD_SECONDS,
  });
  console.log(`${result.requests.total} reads in ${LOAD_SECONDS} s, ${result.non2xx} not 2xx`);
}

function nodeConfig(directory: string, port: number, clusterPort: number): object {
  return {
    storage: { raft: { path: join(directory, 'raft'), node_id: 'profiled' } },
    listener: {
      tcp: {
        address: `127.0.0.1:${port}`,
        cluster_address: `127.0.0.1:${clusterPort}`,
        tls_disable: true,
      },
    },
    api_addr: `http://127.0.0.1:${port}`,
    cluster_addr: `https://127.0.0.1:${clusterPort}`,
    log_level: 'warn',
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
