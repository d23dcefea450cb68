/**
 * What a KV read on a standby costs beyond the unavoidable: its CPU per request against a bare
 * `node:http` server that sends the same bytes, both driven at once.
 *
 * Both are saturated under the same CPU quota, as capacity is measured: what a neighbour of the
 * machine does to one it does to the other, and the generator is never the bottleneck.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { judgeGate, type Measured } from '../analysis/gates.ts';
import { measuredRatio, median } from '../analysis/paired.ts';
import { expectOk } from '../cluster/admin-api.ts';
import type { RecordedAnswer } from '../cluster/bare-server.ts';
import { detectCpuGroups, type CpuGroup, type CpuGroups } from '../cluster/cpu-group.ts';
import { readProcessUsage } from '../cluster/process-usage.ts';
import { startReferenceCluster, type Cluster } from '../cluster/reference-cluster.ts';
import { connectTargets } from '../load/client.ts';
import { monotonicNs } from '../load/clock.ts';
import { closedLoop } from '../load/closed-loop.ts';
import type { Request } from '../load/exchange.ts';
import { startSpin } from '../load/spin.ts';
import { createRandom } from '../random.ts';
import { formatMeasured, formatUs } from '../report/format.ts';
import { keyChooser } from '../../workloads/keys.ts';
import { keyName } from '../../workloads/workload.ts';

const BARE_SERVER = fileURLToPath(new URL('../cluster/bare-server.js', import.meta.url));
/** `node:http` adds these by itself, to both servers alike. */
const ADDED_BY_NODE = new Set([
  'date',
  'connection',
  'keep-alive',
  'content-length',
  'transfer-encoding',
]);
const KEYS = 1_000;
const VALUE_BYTES = 200;
const REQUESTS_PER_CONNECTION = 200;
const SEED = 1;
const CONNECTIONS = 16;
const WARMUP_MS = 1_500;
/** Of each alone, each with new connections: what runs once per connection is to be compiled, too. */
const WARMUP_ROUNDS = 3;
const SLICE_MS = 1_500;
/** The same small host for both, so that the server is the bottleneck and never the generator. */
const QUOTA_CORES = 0.25;
const INTERVAL_MS = 250;
const SLICES = 14;
const BARE_START_TIMEOUT_MS = 10_000;
const BARE_STOP_TIMEOUT_MS = 5_000;
const ERROR_OUTPUT_CHARS_MAX = 2_000;

export type ReadCost = {
  readonly standbyCpuUs: number;
  readonly bareCpuUs: number;
  readonly ratio: Measured;
  /** Both servers were saturated under a quota; without, the ratio is not that of capacities. */
  readonly hasQuota: boolean;
};

/** Lines for a terminal. */
export function describeReadCost({ standbyCpuUs, bareCpuUs, ratio, hasQuota }: ReadCost): string[] {
  return [
    `KV v1 read on a standby   ${formatUs(standbyCpuUs)} of CPU`,
    `bare node:http            ${formatUs(bareCpuUs)} of CPU`,
    `ratio                     ${formatMeasured(ratio)}`,
    ...(hasQuota
      ? []
      : [
          'Modelled without CPU groups: neither server had a quota, so the faster one was less often',
          'saturated. Compare with ratios of the same kind only.',
        ]),
  ];
}

type Subject = { readonly origin: string; readonly processId: number };

export async function measureReadCost(signal: AbortSignal): Promise<ReadCost> {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-read-cost-'));
  try {
    const cpuGroups = detectCpuGroups();
    const cluster = await startReferenceCluster({
      name: 'c',
      mode: 'standby-reads',
      directory,
      cpuGroups,
    });
    try {
      signal.throwIfAborted();
      await cluster.grow(2);
      signal.throwIfAborted();
      return await compareWithBare({ cluster, cpuGroups, directory, signal });
    } finally {
      await cluster.stop();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function compareWithBare(setting: {
  readonly cluster: Cluster;
  readonly cpuGroups: CpuGroups | undefined;
  readonly directory: string;
  readonly signal: AbortSignal;
}): Promise<ReadCost> {
  const { cluster, cpuGroups, directory, signal } = setting;
  const active = await cluster.active();
  const standby = cluster.nodes().find(({ id }) => id !== active.id);
  assert(standby !== undefined, 'a cluster of two has a standby');
  const requests = await prepareReads(active.address, cluster.token, signal);
  const [request] = requests;
  assert(request !== undefined, 'no request to record');
  const file = join(directory, 'answer.json');
  writeFileSync(file, JSON.stringify(await recordAnswer(standby.address, request, signal)));

  const bare = await startBare(file);
  let bareGroup: CpuGroup | undefined;
  try {
    bareGroup = cpuGroups?.create('bare');
    bareGroup?.add(bare.processId);
    const { pairs, generatorBusy } = await measurePairs({
      subjects: [standby, bare].map(({ address, processId }) => ({ origin: address, processId })),
      limit: () => {
        standby.cpuGroup?.setQuota(QUOTA_CORES);
        bareGroup?.setQuota(QUOTA_CORES);
      },
      requests,
      signal,
    });
    const generator = judgeGate('generator-event-loop', generatorBusy);
    return {
      standbyCpuUs: mean(pairs.map(({ right }) => right)),
      bareCpuUs: mean(pairs.map(({ left }) => left)),
      ratio: generator.pass
        ? measuredRatio(pairs, createRandom(SEED, 'resample'))
        : { refused: generator.reason },
      hasQuota: cpuGroups !== undefined,
    };
  } finally {
    bareGroup?.setQuota(null);
    await bare.stop();
    bareGroup?.remove();
  }
}

/** CPU per request of the bare server (`left`) and of the standby, which is the first subject. */
async function measurePairs(options: {
  readonly subjects: readonly Subject[];
  /** Sets the quotas, once both are warm. */
  readonly limit: () => void;
  readonly requests: readonly Request[];
  readonly signal: AbortSignal;
}): Promise<{ pairs: { left: number; right: number }[]; generatorBusy: number }> {
  const { subjects, requests, signal } = options;
  for (const subject of subjects) {
    for (let round = 0; round < WARMUP_ROUNDS; round++) {
      await driveSlice([subject], requests, WARMUP_MS, signal);
    }
  }
  options.limit();
  const pairs = [];
  const busy = [];
  for (let slice = 0; slice < SLICES; slice++) {
    const { costsUs, generatorBusy } = await driveSlice(subjects, requests, SLICE_MS, signal);
    const [right = 0, left = 0] = costsUs;
    pairs.push({ left, right });
    busy.push(generatorBusy);
  }
  return { pairs, generatorBusy: median(busy.toSorted((a, b) => a - b)) };
}

/** Returns the requests of all connections: keys as popular as secrets are, zipfian over a thousand. */
async function prepareReads(
  address: string,
  token: string,
  signal: AbortSignal,
): Promise<Request[]> {
  await expectOk('POST', 'sys/mounts/cost', {
    address,
    token,
    body: { type: 'kv', options: { version: '1' } },
  });
  for (let key = 0; key < KEYS; key++) {
    signal.throwIfAborted();
    const body = { value: 'x'.repeat(VALUE_BYTES) };
    await expectOk('POST', `cost/${keyName(key)}`, { address, token, body });
  }
  await expectOk('PUT', 'sys/policies/acl/cost', {
    address,
    token,
    body: { policy: 'path "cost/*" { capabilities = ["read"] }' },
  });
  // A token as applications have them: the root token would skip the policy check.
  const created = await expectOk('POST', 'auth/token/create', {
    address,
    token,
    body: { policies: ['cost'], ttl: '1h' },
  });
  const auth = created.body['auth'] as { client_token: string };
  const keys = keyChooser('zipfian', KEYS, createRandom(SEED, 'key'));
  return Array.from({ length: CONNECTIONS * REQUESTS_PER_CONNECTION }, () => ({
    method: 'GET',
    path: `/v1/cost/${keyName(keys.next(false))}`,
    headers: ['x-vault-token', auth.client_token],
    body: undefined,
  }));
}

/** Reads until the standby has the key, and keeps the answer byte for byte. */
async function recordAnswer(
  origin: string,
  request: Request,
  signal: AbortSignal,
): Promise<RecordedAnswer> {
  const client = connectTargets({
    targets: [{ name: 'standby', origin, nodeId: undefined, isActive: false }],
    socketsPerTarget: 1,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  try {
    for (let attempt = 0; attempt < 1_000; attempt++) {
      signal.throwIfAborted();
      const reply = await client.ask(0, request, 5_000);
      if (reply.status !== 200) continue;
      const headers = [...reply.headers].filter(([name]) => !ADDED_BY_NODE.has(name)).flat();
      return { status: 200, headers, body: reply.body.toString('utf8') };
    }
    throw new Error('the standby does not answer the read');
  } finally {
    await client.close();
  }
}

type BareProcess = {
  readonly address: string;
  readonly processId: number;
  /** Resolves when it is gone, also if it has been for long. */
  stop(): Promise<void>;
};

/** Starts the bare server with the answer in `file`; rejects if it ends or stays silent instead. */
export async function startBare(file: string): Promise<BareProcess> {
  const child = spawn(process.execPath, [BARE_SERVER, file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  let errorOutput = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errorOutput = (errorOutput + text).slice(-ERROR_OUTPUT_CHARS_MAX);
  });
  // From the beginning: an event that has passed is not waited for.
  const exited = new Promise<void>((resolve) => {
    child.once('close', () => {
      process.off('exit', end);
      resolve();
    });
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const insist = setTimeout(end, BARE_STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(insist);
  };
  try {
    const port = await Promise.race([
      portOf(child.stdout),
      exited.then(() => Promise.reject(new Error(`the bare server did not start: ${errorOutput}`))),
    ]);
    return { address: `http://127.0.0.1:${port}`, processId: child.pid ?? 0, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function portOf(output: Readable): Promise<string> {
  const deadline = AbortSignal.timeout(BARE_START_TIMEOUT_MS);
  const [line] = (await once(output, 'data', { signal: deadline })) as [Buffer];
  const port = /listening on (\d+)/.exec(line.toString())?.[1];
  assert(port !== undefined, `unexpected output of the bare server: ${line.toString()}`);
  return port;
}

/** CPU microseconds per request of each subject, all driven at once. */
async function driveSlice(
  subjects: readonly Subject[],
  requests: readonly Request[],
  durationMs: number,
  signal: AbortSignal,
): Promise<{ readonly costsUs: readonly number[]; readonly generatorBusy: number }> {
  signal.throwIfAborted();
  const usages = () => subjects.map(({ processId }) => readProcessUsage(processId).cpuNs);
  let before = usages();
  const intervals: { cpuNs: number; completed: number }[][] = [];
  const spin = await startSpin(monotonicNs);
  let generatorBusy = 0;
  const result = await closedLoop({
    targets: subjects.map(({ origin }, index) => ({
      name: `subject ${index}`,
      origin,
      nodeId: undefined,
      isActive: false,
    })),
    operationNames: ['read'],
    connectionsPerTarget: CONNECTIONS,
    requestsOf: (_target, connection) =>
      requests
        .slice(connection * REQUESTS_PER_CONNECTION, (connection + 1) * REQUESTS_PER_CONNECTION)
        .map((request) => ({ ...request, operation: 0 })),
    durationMs,
    timeoutMs: 5_000,
    nowNs: monotonicNs,
    intervalMs: INTERVAL_MS,
    onInterval: ({ completions }) => {
      const after = usages();
      intervals.push(
        after.map((cpuNs, index) => ({
          cpuNs: cpuNs - (before[index] ?? 0),
          completed: completions[index]?.[0]?.ok ?? 0,
        })),
      );
      before = after;
    },
    signal,
  }).finally(() => (generatorBusy = spin.stop()));
  for (const histogram of result.responses.flat()) histogram.destroy();
  signal.throwIfAborted();
  assert(
    result.completions.flat().every(({ failed }) => failed.size === 0),
    'a read failed',
  );
  // Connections are made in the first interval, and the engine outlives the last.
  const counted = intervals.slice(1, -1);
  const total = (index: number, of: 'cpuNs' | 'completed') =>
    counted.reduce((sum, interval) => sum + (interval[index]?.[of] ?? 0), 0);
  return {
    costsUs: subjects.map((_, index) => total(index, 'cpuNs') / 1e3 / total(index, 'completed')),
    generatorBusy,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
