import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import type { DurableLog } from '../storage/durable-log.ts';
import {
  DEADLINE_MS,
  getAt,
  put,
  ReplicaCluster,
  until,
  type ReplicaClusterOptions,
} from '../testing/replica-cluster.ts';
import type { ReplicaStorage } from './replica-storage.ts';
import { encodeControl } from './control-frames.ts';
import type { SnapshotManifest } from './control-frames.ts';
import { encodeMessage } from './wire.ts';

const clusters: ReplicaCluster[] = [];

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

/** Keeps so little of the log that whoever is away gets a snapshot. */
const settings = { trailingLogs: 0, trailingBytesMax: 4_000 };

async function formed(count: number, options: ReplicaClusterOptions = {}): Promise<ReplicaCluster> {
  const cluster = await ReplicaCluster.formed(count, { settings, ...options });
  clusters.push(cluster);
  return cluster;
}

/** Stops a follower and writes more than the log keeps; returns its name. */
async function leaveBehind(cluster: ReplicaCluster): Promise<string> {
  const leader = await cluster.leader();
  const away = cluster.members().find((member) => member !== leader)?.id ?? '';
  await cluster.stop(away);
  for (let number = 0; number < 20; number += 1) await put(leader, `k/${number}`, 'x'.repeat(500));
  return away;
}

/** A log that never gets to its reset, as if the process had been killed there. */
function killedAtReset(storage: ReplicaStorage, killed: () => void): ReplicaStorage {
  const openLog: ReplicaStorage['openLog'] = async () => {
    const { log, recovered } = await storage.openLog();
    const append: DurableLog['append'] = (write) => {
      if (write.reset === undefined) return log.append(write);
      killed();
      return new Promise(() => undefined);
    };
    return {
      recovered,
      log: { append, compact: (index) => log.compact(index), close: () => log.close() },
    };
  };
  return { ...storage, openLog };
}

// S-40: the log must not be left with a gap behind the new state.
test('a node killed between replacing its store and resetting its log starts again', async () => {
  let isArmed = false;
  let killed = (): void => undefined;
  const died = new Promise<void>((resolve) => (killed = resolve));
  const cluster = await formed(3, {
    wrapStorage: (_id, storage) => (isArmed ? killedAtReset(storage, killed) : storage),
  });
  const away = await leaveBehind(cluster);
  isArmed = true;
  await cluster.restart(away);
  isArmed = false;
  await died;
  await cluster.stop(away);

  const index = await put(await cluster.leader(), 'after', 'it');
  const back = await cluster.restart(away);
  expect(await getAt(back, 'after', index)).toBe('it');
  expect(await back.replica.stateHash()).toBe(await (await cluster.leader()).replica.stateHash());
});

// S-46, S-47: appends arrive, and the log is compacted, while a snapshot is installed.
test('a snapshot moves while writes go on', async () => {
  const cluster = await formed(3);
  const leader = await cluster.leader();
  const big = 'x'.repeat(200_000);
  for (let number = 0; number < 40; number += 1) await put(leader, `big/${number}`, big);
  const away = await leaveBehind(cluster);
  const back = await cluster.open(away);
  const installed: number[] = [];
  back.replica.changeFeed.subscribe((change) => {
    if (change.kind === 'everything') installed.push(change.index);
  });
  await back.replica.replication.start(cluster.credentials);
  let last = 0;
  for (let number = 0; installed.length === 0 && number < 2_000; number += 1) {
    last = await put(leader, `busy/${number}`, 'y'.repeat(100));
  }
  await until(back, () => installed.length > 0);
  expect(await back.replica.physical.awaitApplied(last, DEADLINE_MS)).toBe(true);
  expect(back.replica.physical.get('big/39')?.length).toBe(big.length);
});

test('a node stops at once in the middle of an installation that takes for ever', async () => {
  const changing = { ...settings, snapshotBytesPerSecond: 0 };
  let begun = (): void => undefined;
  const hasBegun = new Promise<void>((resolve) => (begun = resolve));
  const cluster = await formed(3, {
    settings: changing,
    wrapEvents: (_id, events) => ({
      ...events,
      installSnapshot: (snapshot, file) => {
        begun();
        return events.installSnapshot(snapshot, file);
      },
    }),
  });
  await put(await cluster.leader(), 'big', 'x'.repeat(400_000));
  const away = await leaveBehind(cluster);
  // A byte per second, for this node only.
  changing.snapshotBytesPerSecond = 1;
  await cluster.restart(away);
  await hasBegun;
  await cluster.stop(away);

  changing.snapshotBytesPerSecond = 0;
  const index = await put(await cluster.leader(), 'after', 'it');
  expect(await getAt(await cluster.restart(away), 'after', index)).toBe('it');
});

// Each for its own reason: `snapshot-refusals.test.ts`.
test('a snapshot that is damaged or too large is refused, and the node lives on', async () => {
  const cluster = await formed(1, { settings: { ...settings, snapshotBytesMax: 1_000 } });
  const { network, replica } = cluster.member('n1');
  const clusterId = createHash('sha256').update('').digest('hex');
  const bytes = Buffer.from('not a snapshot');
  const sha256 = createHash('sha256').update(bytes).digest();
  const configuration = { servers: [] };
  const snapshot = { lastIncludedIndex: 99, lastIncludedTerm: 1, configuration };
  const message = { kind: 'installSnapshot', from: 'n9', to: 'n1', term: 1, snapshot } as const;
  const disks = { fromInstance: 'x', toInstance: '', memberIndex: 0 };
  const parties = { from: 'n9', to: 'n1', address: 'h:1', ...disks };
  const id = { kind: 'hello', purpose: 'snapshot', ...parties } as const;
  const hello = encodeControl({ ...id, clusterId: cluster.clusterId() });
  const chunk = encodeControl({ kind: 'snapshotChunk', offset: 0, bytes });
  const manifest = (change: Partial<SnapshotManifest> = {}): Buffer[] =>
    encodeControl({
      kind: 'snapshotManifest',
      ...{ id: Buffer.alloc(16), size: bytes.length, sha256, ...change },
    });
  const install = encodeMessage(message);
  const attempts = {
    'another cluster': [encodeControl({ ...id, clusterId }), install],
    'another node': [encodeControl({ ...id, to: 'n2', clusterId: cluster.clusterId() }), install],
    'no announcement': [hello, chunk],
    'no manifest': [hello, install, chunk],
    'wrong digest': [hello, install, manifest({ sha256: Buffer.alloc(32) }), chunk],
    'more than announced': [hello, install, manifest({ size: 1 }), chunk],
    'a gap': [
      hello,
      install,
      manifest(),
      encodeControl({ kind: 'snapshotChunk', offset: 5, bytes }),
    ],
    'nothing, again and again': [
      hello,
      install,
      manifest(),
      encodeControl({ kind: 'snapshotChunk', offset: 0, bytes: Buffer.alloc(0) }),
    ],
    'too large': [hello, install, manifest({ size: 1_001 })],
    'a vote in between': [
      hello,
      install,
      manifest(),
      encodeMessage({ ...message, kind: 'timeoutNow' }),
    ],
  };
  for (const parts of Object.values(attempts)) {
    const socket = await network.dial(`127.0.0.1:${network.port()}`, 'bao-raft/1');
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.resume();
    socket.write(Buffer.concat(parts.flat()));
    await closed;
  }
  await put(cluster.member('n1'), 'a', '1');
  expect(replica.status().role).toBe('leader');
});
