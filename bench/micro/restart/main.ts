/**
 * `npm run restart`: how long a node takes from the start of its process until it serves local
 * reads of everything that it knew to be committed, with a large state and a long log behind it.
 *
 * Two states of the disk: the store holds all that is committed, as after an orderly end, or none
 * of the log, which is more than a crash in mode `overlay` can leave to replay. The node is one of
 * three voters and its peers are away: it serves what its log says is committed, no more.
 *
 * Options: `--keys`, `--entries`, `--rounds`. The files come from the page cache.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import { createClusterNetwork } from '../../../server/cluster/listener.ts';
import type { ClusterCredentials } from '../../../server/core/ports.ts';
import { encodeConfiguration } from '../../../server/raft/configuration.ts';
import type { Entry } from '../../../server/raft/message.ts';
import { systemClock } from '../../../server/replica/clock.ts';
import { createInlineRaft } from '../../../server/replica/inline-raft.ts';
import { openReplicaStorage } from '../../../server/replica/replica-storage.ts';
import { openReplica } from '../../../server/replica/replica.ts';
import { replicaSettings } from '../../../server/replica/settings.ts';
import { encodeCommand } from '../../../server/storage/command.ts';
import type { StoreOperation } from '../../../server/storage/store.ts';

const VALUE_BYTES = 300;
const BATCH = 2_000;
const SILENT = { info() {}, warn() {}, error() {} };
const OPTIONS = { nodeId: 'n1', logThread: 'worker', fsmMode: 'overlay' } as const;
const SERVERS = ['n1', 'n2', 'n3'].map((id) => {
  return { id, address: '127.0.0.1:1', suffrage: 'voter' as const };
});

type Stages = {
  readonly loadedMs: number;
  readonly storeMs: number;
  readonly logMs: number;
  readonly servingMs: number;
  /** CPU of the whole process by then: what a busy machine leaves comparable. */
  readonly cpuMs: number;
};

const [role, ...rest] = process.argv.slice(2);
if (role === 'measure') {
  console.log(JSON.stringify(await measure(rest[0] ?? '', Number(rest[1]))));
  process.exit(0);
}

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '1000000' },
    entries: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '5' },
  },
});
await compare(Number(values.keys), Number(values.entries), Number(values.rounds));

async function compare(keys: number, entries: number, rounds: number): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'baobench-restart-'));
  try {
    const credentials = await createClusterCredentials();
    writeFileSync(join(root, 'credentials.json'), JSON.stringify(credentials), { mode: 0o600 });
    const behind = join(root, 'behind');
    await build(behind, keys, entries);
    const level = join(root, 'level');
    cpSync(behind, level, { recursive: true });
    await applyAll(level, entries);
    console.log(
      `${keys} keys of ${VALUE_BYTES} bytes, ${entries} log entries; ms, median of ${rounds}`,
    );
    for (const directory of [level, behind]) {
      const name = directory === level ? 'store level with the log' : 'whole log to replay';
      print(name, restartEach(directory, entries, rounds));
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** A store that stands at the first entry of a log with so many entries, all known committed. */
async function build(directory: string, keys: number, entries: number): Promise<void> {
  const storage = await openReplicaStorage(directory, OPTIONS);
  const position = {
    lastIncludedIndex: 1,
    lastIncludedTerm: 1,
    configuration: { servers: SERVERS },
  };
  for (let first = 0; first < keys; first += BATCH) {
    const puts = Array.from({ length: Math.min(BATCH, keys - first) }, (_, i) => putOf(first + i));
    await storage.store.apply(puts, position);
    storage.store.publish();
  }
  await storage.store.close();
  const { log } = await storage.openLog();
  const hardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };
  const servers = encodeConfiguration({ servers: SERVERS });
  await log.append({
    hardState,
    entries: [{ index: 1, term: 1, kind: 'configuration', command: servers }],
  });
  for (let first = 2; first <= entries; first += BATCH) {
    await log.append({ entries: entriesFrom(first, Math.min(BATCH, entries - first + 1)) });
  }
  await log.append({ hardState: { ...hardState, commitIndex: entries }, entries: [] });
  await log.close();
}

function putOf(number: number): StoreOperation {
  const key = `logical/5f0c1c1e-3a51-4d5c-8b0f-2f6a1e0b7c55/key-${number}`;
  return { kind: 'put', key, value: Buffer.alloc(VALUE_BYTES, number) };
}

function entriesFrom(first: number, count: number): Entry[] {
  return Array.from({ length: count }, (_, i): Entry => {
    const command = encodeCommand([putOf(first + i)]);
    return { index: first + i, term: 1, kind: 'command', command };
  });
}

/** Brings the store to the end of the log. */
async function applyAll(directory: string, entries: number): Promise<void> {
  const { store } = await openReplicaStorage(directory, OPTIONS);
  for (let first = 2; first <= entries; first += BATCH) {
    const count = Math.min(BATCH, entries - first + 1);
    const puts = Array.from({ length: count }, (_, i) => putOf(first + i));
    await store.apply(puts, { ...store.position(), lastIncludedIndex: first + count - 1 });
    store.publish();
  }
  await store.close();
}

function restartEach(directory: string, entries: number, rounds: number): Stages[] {
  const stages: Stages[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // Each restart changes what it finds.
    const copy = `${directory}-${round}`;
    cpSync(directory, copy, { recursive: true });
    const program = fileURLToPath(import.meta.url);
    const child = spawnSync(process.execPath, [program, 'measure', copy, String(entries)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.equal(child.status, 0, 'a restart failed');
    stages.push(JSON.parse(child.stdout) as Stages);
    rmSync(copy, { recursive: true });
  }
  return stages;
}

function print(name: string, stages: readonly Stages[]): void {
  const median = (pick: (stage: Stages) => number): string => {
    const sorted = stages.map(pick).sort((a, b) => a - b);
    return (sorted[Math.floor(sorted.length / 2)] ?? NaN).toFixed(0);
  };
  const all = stages.map(({ servingMs }) => servingMs.toFixed(0)).join(' ');
  console.log(
    `${name}: modules ${median((each) => each.loadedMs)}, store open ` +
      `${median((each) => each.storeMs)}, log read ${median((each) => each.logMs)}, ` +
      `serving ${median((each) => each.servingMs)} (${all}), CPU ${median((each) => each.cpuMs)}`,
  );
}

/** Milliseconds since the process began. */
async function measure(directory: string, entries: number): Promise<Stages> {
  const loadedMs = performance.now();
  const credentials = JSON.parse(
    readFileSync(join(directory, '..', 'credentials.json'), 'utf8'),
  ) as ClusterCredentials;
  const network = createClusterNetwork({ host: '127.0.0.1', port: 0, logger: SILENT });
  await network.bind();
  const storage = await openReplicaStorage(directory, OPTIONS);
  const storeMs = performance.now();
  const shared = {
    nodeId: OPTIONS.nodeId,
    clock: systemClock,
    store: storage.store,
    snapshotDirectory: storage.snapshotDirectory,
    network,
    settings: { ...replicaSettings(), trailingLogs: entries },
    logger: SILENT,
  };
  const replica = await openReplica({
    ...shared,
    clusterAddress: () => `127.0.0.1:${network.port()}`,
    raft: createInlineRaft({ ...shared, storage, random: Math.random }),
    onFatal: (error) => {
      console.error(error);
      process.exit(1);
    },
  });
  const logMs = performance.now();
  await replica.replication.start(credentials);
  const { physical } = replica;
  assert(await physical.awaitApplied(entries, 60_000), 'the log was not replayed');
  const last = putOf(entries);
  assert(physical.get(last.key) !== undefined, 'a key is not served');
  const { user, system } = process.cpuUsage();
  return { loadedMs, storeMs, logMs, servingMs: performance.now(), cpuMs: (user + system) / 1000 };
}
