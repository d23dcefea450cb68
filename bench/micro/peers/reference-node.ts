/**
 * One node of a cluster of our own replicas, driven by JSON lines on standard input as
 * `hashicorp/main.go` is: consensus, log and state machine without HTTP, barrier or backends.
 *
 * Arguments: node id, directory, a directory with certificate.pem and key.pem, `tls`, `plain` or
 * `tls-worker` (raft in a thread of its own), how many milliseconds each sync of the log takes
 * longer than it does, and the `fsm_mode`.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import { inlineRaftPlace, type NodeNetwork, type RaftPlace } from '../../../server/raft-place.ts';
import { startRaftThread } from '../../../server/raft-thread.ts';
import { systemClock } from '../../../server/replica/clock.ts';
import { createInlineRaft } from '../../../server/replica/inline-raft.ts';
import {
  openReplicaStorage,
  type ReplicaStorage,
} from '../../../server/replica/replica-storage.ts';
import { openReplica, type Replica } from '../../../server/replica/replica.ts';
import { replicaSettings } from '../../../server/replica/settings.ts';
import { SEGMENT_BYTES_DEFAULT, openDurableLogOn } from '../../../server/storage/durable-log.ts';
import { systemFiles, type LogFiles } from '../../../server/storage/log-files.ts';
import { MARK_PREFIX, type Loaded, type LoadOptions, type PeerCommand } from './peer.ts';
import { PacedWrites } from './paced-writes.ts';
import { createPlainNetwork, type PlainNetwork } from './plain-network.ts';

const SILENT = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };
/** Keys that are written again and again, as those of a real store are. */
const KEYS = 16_384;
/** Keys of one write when a store is filled, and writes under way. */
const FILL_KEYS = 500;
const FILL_WRITES = 8;

/** Those of the log since they were last asked for, where they are slow. */
const slowSyncsUs: number[] = [];

const [
  id = '',
  directory = '',
  credentialsDirectory = '',
  security = 'tls',
  syncDelayMs = '0',
  fsmMode = 'overlay',
] = process.argv.slice(2);
assert(fsmMode === 'sync' || fsmMode === 'overlay', 'fsm_mode is sync or overlay');
const credentials = {
  certificatePem: readFileSync(join(credentialsDirectory, 'certificate.pem'), 'utf8'),
  privateKeyPem: readFileSync(join(credentialsDirectory, 'key.pem'), 'utf8'),
};

const end = (error: unknown): never => {
  process.stderr.write(`${id} failed: ${String(error)}\n`);
  process.exit(1);
};
const place = openPlace();
const { network } = place;
await network.bind();
const address = `127.0.0.1:${network.port()}`;
const opened = await openStorage(Number(syncDelayMs));
const shared = {
  nodeId: id,
  instance: opened.instance,
  clock: systemClock,
  store: opened.store,
  snapshotDirectory: opened.snapshotDirectory,
  network,
  settings: replicaSettings(),
  logger: SILENT,
};
const replica = await openReplica({
  ...shared,
  clusterAddress: () => address,
  raft: place.raft({ ...shared, storage: opened }),
  onFatal: end,
});

/** `tls-worker` is TLS with raft in a thread of its own. */
function openPlace(): Pick<RaftPlace, 'raft'> & { readonly network: NodeNetwork | PlainNetwork } {
  const port = { host: '127.0.0.1', port: 0, logger: SILENT };
  if (security === 'tls-worker') return startRaftThread({ ...port, onFatal: end });
  if (security === 'tls') return inlineRaftPlace(port);
  const plain = createPlainNetwork();
  const random = Math.random;
  return {
    network: plain,
    raft: (parts) => createInlineRaft({ ...parts, network: plain, random }),
  };
}

/** A slow disk is imitated in this thread, which has nothing else to do when one caller waits. */
async function openStorage(delayMs: number): Promise<ReplicaStorage> {
  const storage = await openReplicaStorage(directory, {
    nodeId: id,
    logThread: 'worker',
    fsmMode: fsmMode === 'overlay' ? 'overlay' : 'sync',
  });
  if (delayMs === 0) return storage;
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const slowFiles: LogFiles = {
    ...systemFiles,
    datasync: (file) => {
      const startUs = monotonicUs();
      systemFiles.datasync(file);
      Atomics.wait(clock, 0, 0, delayMs);
      slowSyncsUs.push(monotonicUs() - startUs);
    },
  };
  return {
    ...storage,
    openLog: () =>
      openDurableLogOn(slowFiles, join(directory, 'log'), {
        thread: 'inline',
        segmentBytes: SEGMENT_BYTES_DEFAULT,
        identity: id,
      }),
  };
}

let paced: PacedWrites | undefined;
const marks = new Map<string, number>();
replica.changeFeed.subscribe((change) => {
  if (change.kind !== 'keys') return;
  const nowUs = monotonicUs();
  for (const key of change.keys) if (key.startsWith(MARK_PREFIX)) marks.set(key, nowUs);
});

answer({ address });
for await (const line of createInterface({ input: process.stdin })) {
  answer(await carryOut(JSON.parse(line) as PeerCommand));
}
await replica.close();
process.exit(0);

async function carryOut(command: PeerCommand): Promise<unknown> {
  switch (command.do) {
    case 'bootstrap':
      await replica.replication.bootstrap(credentials);
      return null;
    case 'add':
      await replica.replication.addServer({ id: command.id, address: command.address });
      return null;
    case 'start':
      await replica.replication.start(credentials);
      return null;
    case 'remove':
      await replica.replication.removeServer(command.id);
      return null;
    case 'load':
      return await load(replica, command);
    case 'fill':
      await fill(replica, command);
      return null;
    case 'applied':
      return replica.physical.appliedIndex();
    case 'pace':
      paced = new PacedWrites(command.ratePerSecond, (key, value) =>
        replica.physical.write([{ kind: 'put', key, value }]),
      );
      return null;
    case 'paced':
      return paced?.take() ?? null;
    case 'stop-pace':
      paced?.stop();
      return null;
    case 'voters':
      return replica.replication
        .configuration()
        .servers.filter(({ suffrage }) => suffrage === 'voter').length;
    case 'marks': {
      const taken = Object.fromEntries(marks);
      marks.clear();
      return taken;
    }
    case 'syncs':
      return slowSyncsUs.splice(0);
    case 'cpu': {
      const { user, system } = process.cpuUsage();
      return user + system;
    }
  }
}

/** So many keys, in large writes. Values are random, as ciphertext is. */
async function fill(
  { physical }: Replica,
  { keys, bytes }: { readonly keys: number; readonly bytes: number },
): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < keys) {
      const count = Math.min(FILL_KEYS, keys - next);
      const first = next;
      next += count;
      const values = randomBytes(count * bytes);
      await physical.write(
        Array.from({ length: count }, (_, i) => ({
          kind: 'put',
          key: `filled-${first + i}`,
          value: values.subarray(i * bytes, (i + 1) * bytes),
        })),
      );
    }
  };
  await Promise.all(Array.from({ length: FILL_WRITES }, loop));
}

/** Writes from as many loops as asked, until the count or the time is used up. */
async function load({ physical }: Replica, options: LoadOptions): Promise<Loaded> {
  const { concurrency, ms, count, gapMs, bytes, markEvery } = options;
  const value = randomBytes(bytes);
  const latenciesUs: number[] = [];
  const acks: Record<string, number> = {};
  const startUs = monotonicUs();
  const endUs = startUs + ms * 1000;
  const countMax = count > 0 ? count : Infinity;
  let number = 0;
  const loop = async (): Promise<void> => {
    while (monotonicUs() < endUs && number < countMax) {
      number += 1;
      const isMarked = markEvery > 0 && number % markEvery === 0;
      const key = isMarked ? `${MARK_PREFIX}${number}` : `key-${number % KEYS}`;
      const sentUs = monotonicUs();
      await physical.write([{ kind: 'put', key, value }]);
      const ackUs = monotonicUs();
      latenciesUs.push(ackUs - sentUs);
      if (isMarked) acks[key] = ackUs;
      if (gapMs > 0) await delay(gapMs);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
  const elapsedMs = (monotonicUs() - startUs) / 1000;
  const sorted = Float64Array.from(latenciesUs).sort();
  const at = (q: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
  return { ops: sorted.length, ms: elapsedMs, p50Us: at(0.5), p99Us: at(0.99), acks };
}

/** CLOCK_MONOTONIC, which all processes of a host share. */
function monotonicUs(): number {
  return Number(process.hrtime.bigint()) / 1000;
}

function answer(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
