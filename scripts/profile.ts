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
const CLI = fileURLToPath(new URL('./baobench.js', import.meta.url));
const CLINIC = join(ROOT, 'scripts/profile/node_modules/.bin/clinic');
const LOAD_SECONDS = 8;
const START_TIMEOUT_MS = 30_000;
const POLL_MS = 50;
const STOP_TIMEOUT_MS = 60_000;
const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  // A second one does not wait for the profiler.
  process.on(name, () => {
    if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
    interrupted.abort(new Error(`interrupted by ${name}`));
  });
}

try {
  await main(interrupted.signal);
} catch (error) {
  // What fails while everything is being stopped is not the reason.
  const { aborted, reason } = interrupted.signal;
  const cause: unknown = aborted ? reason : error;
  console.error(`profile: ${cause instanceof Error ? cause.message : String(cause)}`);
  process.exitCode = aborted ? EXIT_INTERRUPTED : EXIT_FAILED;
}
// The handlers of signals and an abandoned request must not hold the process.
process.exit();

async function main(signal: AbortSignal): Promise<void> {
  const output = join(ROOT, 'results', 'runs', 'profiles');
  mkdirSync(output, { recursive: true });
  const before = new Set(readdirSync(output));
  const directory = mkdtempSync(join(tmpdir(), 'baobench-profile-'));
  try {
    const port = await freePort();
    const config = join(directory, 'config.json');
    writeFileSync(config, JSON.stringify(nodeConfig(directory, port, await freePort())));
    const server = startProfiled([CLI, 'server', `-config=${config}`], output);
    try {
      const ended = server.exited.then(() => Promise.reject(new Error('the server ended')));
      await Promise.race([drive(`http://127.0.0.1:${port}`, signal), ended]);
    } finally {
      await server.stop();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  signal.throwIfAborted();

  const made = readdirSync(output).filter((name) => !before.has(name));
  if (made.length === 0) throw new Error('the profiler left no file behind');
  for (const name of made) console.log(join('results', 'runs', 'profiles', name));
}

type Profiled = {
  readonly exited: Promise<void>;
  /** Resolves when it has written its profile and is gone. */
  stop(): Promise<void>;
};

function startProfiled(server: readonly string[], output: string): Profiled {
  const useClinic = existsSync(CLINIC);
  console.log(
    useClinic ? 'profiling with clinic flame' : 'profiling with V8 (clinic is not installed)',
  );
  const [program, ...args] = useClinic
    ? [CLINIC, 'flame', '--open=false', '--dest', output, '--', process.execPath, ...server]
    : [process.execPath, '--cpu-prof', `--cpu-prof-dir=${output}`, ...server];
  const child = spawn(program ?? process.execPath, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    // Without these clinic asks for consent, or does nothing at all.
    env: { ...process.env, NO_INSIGHT: '1', NO_UPDATE_NOTIFIER: '1' },
    // A group of its own: Ctrl-C reaches this script alone, which ends the group in order. Clinic
    // runs the server below it and waits for the signal there.
    detached: true,
  });
  const signalGroup = (name: NodeJS.Signals): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    process.kill(-child.pid, name);
  };
  const insist = (): void => signalGroup('SIGKILL');
  process.once('exit', insist);
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return {
    exited,
    async stop() {
      signalGroup(useClinic ? 'SIGINT' : 'SIGTERM');
      const timer = setTimeout(insist, STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(timer);
      process.off('exit', insist);
    },
  };
}

async function drive(address: string, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  const wait = async (what: string, isSo: (status: number | undefined) => boolean) => {
    for (;;) {
      const health = await call('GET', 'sys/health', { address }).catch(() => undefined);
      if (isSo(health?.status)) return;
      if (Date.now() > deadline) throw new Error(`the server did not ${what}`);
      await delay(POLL_MS, undefined, { signal });
    }
  };
  await wait('start', (status) => status === 501);
  const { body } = await expectOk('PUT', 'sys/init', {
    address,
    body: { secret_shares: 1, secret_threshold: 1 },
  });
  const token = String(body['root_token']);
  const key = (body['keys_base64'] as readonly string[])[0] ?? '';
  await expectOk('PUT', 'sys/unseal', { address, body: { key } });
  await wait('become active', (status) => status === 200);
  await expectOk('PUT', 'sys/mounts/kv', { address, token, body: { type: 'kv' } });
  await expectOk('PUT', 'kv/profiled', { address, token, body: { value: 'x'.repeat(100) } });
  signal.throwIfAborted();
  const result = await load(
    {
      url: `${address}/v1/kv/profiled`,
      headers: { 'x-vault-token': token },
      connections: 16,
      duration: LOAD_SECONDS,
    },
    signal,
  );
  console.log(`${result.requests.total} reads in ${LOAD_SECONDS} s, ${result.non2xx} not 2xx`);
}

function load(options: autocannon.Options, signal: AbortSignal): Promise<autocannon.Result> {
  return new Promise((resolve, reject) => {
    const engine = autocannon(options, (error: Error | null, result) => {
      if (signal.aborted) reject(signal.reason as Error);
      else if (error) reject(error);
      else resolve(result);
    });
    signal.addEventListener('abort', () => engine.stop(), { once: true });
  });
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
