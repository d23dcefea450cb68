import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { createClusterCredentials } from './cluster/credentials.ts';
import type { RaftParts, RaftPlace } from './raft-place.ts';
import { startRaftThread } from './raft-thread.ts';
import { systemClock } from './replica/clock.ts';
import { openReplicaStorage } from './replica/replica-storage.ts';
import { openReplica } from './replica/replica.ts';
import type { Replica } from './replica/replica.ts';
import { replicaSettings } from './replica/settings.ts';

const logger = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };
const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

type Started = {
  readonly place: RaftPlace;
  readonly parts: RaftParts;
  /** Resolves with what the thread ended with, by itself. */
  readonly fatal: Promise<unknown>;
};

async function start(): Promise<Started> {
  const directory = await mkdtemp(join(tmpdir(), 'raft-thread-'));
  ends.push(() => rm(directory, { recursive: true }));
  let onFatal: (error: unknown) => void = () => undefined;
  const fatal = new Promise<unknown>((resolve) => (onFatal = resolve));
  const place = startRaftThread({ host: '127.0.0.1', port: 0, logger, onFatal });
  ends.push(() => place.close());
  const storage = await openReplicaStorage(directory, {
    nodeId: 'n1',
    logThread: 'worker',
    fsmMode: 'sync',
  });
  const settings = replicaSettings();
  const parts = { clock: systemClock, nodeId: 'n1', settings, logger, storage };
  return { place, parts, fatal };
}

function open({ place, parts }: Started, onFatal: (error: unknown) => void): Promise<Replica> {
  const { storage } = parts;
  return openReplica({
    ...parts,
    ...storage,
    network: place.network,
    clusterAddress: () => `127.0.0.1:${place.network.port()}`,
    raft: place.raft(parts),
    onFatal,
  });
}

test('a node lives with raft in a thread: founds, writes, stops, starts, closes', async () => {
  const started = await start();
  await started.place.network.bind();
  const failures: unknown[] = [];
  const replica = await open(started, (error) => failures.push(error));
  const credentials = await createClusterCredentials();
  expect(replica.replication.isBootstrapped()).toBe(false);
  await replica.replication.bootstrap(credentials);
  const value = Buffer.from('1');
  const index = await replica.physical.write([{ kind: 'put', key: 'a', value }]);
  expect(replica.status()).toMatchObject({ role: 'leader', appliedIndex: index });

  await replica.replication.stop();
  expect(replica.status().role).toBe('stopped');
  expect(replica.physical.get('a')).toEqual(value);
  await replica.replication.start(credentials);
  await replica.leadership.acquire(AbortSignal.timeout(10_000));
  await replica.physical.write([{ kind: 'put', key: 'b', value }]);
  await replica.close();
  await started.place.network.close();
  expect(failures).toEqual([]);
});

test('what is not caught in the thread ends the node, and whoever waits hears so (N-01)', async () => {
  const { place, parts, fatal } = await start();
  ends.push(() => parts.storage.store.close());
  const logOptions = { ...parts.storage.logOptions, directory: 7 as unknown as string };
  const raft = place.raft({ ...parts, storage: { ...parts.storage, logOptions } });
  const opened = raft.open(parts.storage.store.position());
  await expect(opened).rejects.toThrow(/path.* argument/);
  expect(await fatal).toBeInstanceOf(Error);
  await expect(place.network.bind()).rejects.toThrow(/path.* argument/);
});

test('a thread that exits without a word ends the node, and whoever waits hears so (N-15)', async () => {
  const created = once(process, 'worker') as Promise<[Worker]>;
  const started = await start();
  const [thread] = await created;
  const failures: unknown[] = [];
  const replica = await open(started, (error) => failures.push(error));
  await replica.replication.bootstrap(await createClusterCredentials());
  const value = Buffer.from('1');
  await replica.physical.write([{ kind: 'put', key: 'a', value }]);
  const written = replica.physical.write([{ kind: 'put', key: 'b', value }]);
  const fate = written.catch((error: unknown) => error);
  // As `process.exit` within it.
  await thread.terminate();
  expect(await fate).toMatchObject({ code: 'outcome-unknown' });
  const reason = /the thread of raft ended with code 1/;
  expect(await started.fatal).toMatchObject({ message: expect.stringMatching(reason) });
  await replica.close().catch(() => undefined);
});
