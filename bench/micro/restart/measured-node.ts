/**
 * The node that `restart.ts` starts and measures: arguments are its data directory and the index of
 * the last entry of its log. It prints what it took by when, and ends.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { createClusterNetwork } from '../../../server/cluster/listener.ts';
import type { ClusterCredentials } from '../../../server/core/ports.ts';
import { systemClock } from '../../../server/replica/clock.ts';
import { createInlineRaft } from '../../../server/replica/inline-raft.ts';
import { openReplicaStorage } from '../../../server/replica/replica-storage.ts';
import { openReplica } from '../../../server/replica/replica.ts';
import { replicaSettings } from '../../../server/replica/settings.ts';
import { OPTIONS, laterPutOf, type Stages } from './restart.ts';

const SILENT = { info() {}, warn() {}, error() {} };

const [data = '', lastIndex = ''] = process.argv.slice(2);
console.log(JSON.stringify(await measure(data, Number(lastIndex))));
process.exit(0);

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
    instance: storage.instance,
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
  const last = laterPutOf(entries);
  const served = physical.get(last.key);
  assert(served !== undefined && last.value.equals(served), 'the last entry is not served');
  const { user, system } = process.cpuUsage();
  return { loadedMs, storeMs, logMs, servingMs: performance.now(), cpuMs: (user + system) / 1000 };
}
