/**
 * After the load: reads everything back, compares the nodes, stops them, and holds the history
 * against all of it.
 */

import assert from 'node:assert/strict';

import { expectOk } from '../../bench/cluster/admin-api.ts';
import { checkDurability, type StoredVersion } from '../../server/testing/history/durability.ts';
import { checkExactIndex } from '../../server/testing/history/exact-index.ts';
import { checkFreshness } from '../../server/testing/history/freshness.ts';
import { checkEachKey } from '../../server/testing/history/linearizability.ts';
import type { Operation, Violation } from '../../server/testing/history/operation.ts';
import { checkSessions } from '../../server/testing/history/session.ts';
import {
  narrowUnknown,
  resolveUnknown,
  versionedModel,
} from '../../server/testing/history/versioned-model.ts';
import type { ChaosCluster, StateHash } from './chaos-cluster.ts';
import { VERSIONS_MAX } from './keyspace.ts';
import { MOUNT, type KvClient } from './kv-client.ts';
import { replayLog, type ReplayedLog } from './log-effects.ts';

export type Check = {
  readonly name: string;
  /** How many things were looked at: a check of nothing is no check. */
  readonly count: number;
  readonly unit: string;
  readonly violations: readonly Violation[];
};

const READERS = 16;
const READ_ATTEMPTS = 20;

/** The cluster must be whole; it is stopped on the way, as only then its log can be read. */
export async function auditHistory(
  operations: readonly Operation[],
  run: {
    readonly cluster: ChaosCluster;
    readonly client: KvClient;
    readonly keys: readonly string[];
  },
): Promise<Check[]> {
  const { cluster, client, keys } = run;
  await cluster.equalIndexHashes();
  await undeleteAll(operations, cluster);
  const stored = await readAllVersions({ cluster, client, keys });
  const hashes = await cluster.equalIndexHashes();
  await client.close();
  await cluster.stop();
  const [first] = hashes;
  assert(first !== undefined);
  const log = await replayLog(
    cluster.raftDirectory(first.id),
    { id: first.id, appliedIndex: first.index },
    stored,
  );
  const replayed = { id: `log of ${first.id}`, index: log.lastIndex, hash: log.stateHash };
  return [...checkHistory(operations, stored, log), checkHashes([...hashes, replayed])];
}

function checkHistory(
  operations: readonly Operation[],
  stored: readonly StoredVersion[],
  log: ReplayedLog,
): Check[] {
  const durability = checkDurability(operations, stored);
  const exact = checkExactIndex(operations, log);
  return [
    {
      name: 'acknowledged writes are there once, no others',
      count: durability.acknowledgedCount,
      unit: 'acknowledged writes',
      violations: durability.violations,
    },
    ...checkAnswers(operations, stored),
    {
      name: 'reads are what the log holds at their index',
      count: exact.checkedCount,
      unit: 'reads',
      violations: exact.violations,
    },
  ];
}

/** What a history shows by itself; with what was stored, no write of it is left unknown. */
export function checkAnswers(
  operations: readonly Operation[],
  stored?: readonly StoredVersion[],
): Check[] {
  const fresh = checkFreshness(operations);
  const sessions = checkSessions(operations);
  const strict = operations.filter(
    ({ call }) => call.kind !== 'read' || call.level === 'linearizable',
  );
  const known = stored === undefined ? narrowUnknown(strict) : resolveUnknown(strict, stored);
  const keys = checkEachKey(known, versionedModel);
  // Not shown to be wrong, but not shown to be right either.
  const undecided = keys.undecided.map((key): Violation => {
    const message = 'the search was given up before it came to a verdict';
    return { rule: 'undecided', message, key, evidence: [] };
  });
  return [
    {
      name: 'writes and linearizable reads have an order',
      count: keys.operationCount,
      unit: `operations on ${keys.keyCount} keys`,
      violations: [...keys.violations, ...undecided],
    },
    {
      name: 'claimed indexes follow real time and bounds',
      count: fresh.checkedCount,
      unit: 'operations',
      violations: fresh.violations,
    },
    {
      name: 'sessions never go back',
      count: sessions.checkedCount,
      unit: 'session reads',
      violations: sessions.violations,
    },
  ];
}

function checkHashes(hashes: readonly StateHash[]): Check {
  const distinct = new Set(hashes.map(({ hash }) => hash));
  const message = hashes.map(({ id, index, hash }) => `${id} at ${index}: ${hash}`).join('; ');
  const violation = { rule: 'state hash', message, key: '', evidence: [] };
  return {
    name: 'states are equal at the end',
    count: hashes.length,
    unit: 'nodes and a replayed log',
    violations: distinct.size === 1 ? [] : [violation],
  };
}

/** A deleted version keeps its data, but tells it only when it is undeleted. */
async function undeleteAll(operations: readonly Operation[], cluster: ChaosCluster): Promise<void> {
  const keys = new Set(
    operations.filter(({ call }) => call.kind === 'delete').map(({ key }) => key),
  );
  const versions = Array.from({ length: VERSIONS_MAX }, (_, number) => number + 1);
  const { address } = await cluster.cluster.active();
  const { token } = cluster.cluster;
  for (const key of keys) {
    const answer = expectOk('POST', `${MOUNT}/undelete/${key}`, {
      address,
      token,
      body: { versions },
    });
    await answer;
  }
}

/** Every version of every key, from all nodes in turn: they are equal, or the hashes tell. */
async function readAllVersions({
  cluster,
  client,
  keys,
}: {
  readonly cluster: ChaosCluster;
  readonly client: KvClient;
  readonly keys: readonly string[];
}): Promise<StoredVersion[]> {
  await cluster.equalIndexHashes();
  const stored: StoredVersion[] = [];
  const open = [...keys];
  const readKeys = async (address: string): Promise<void> => {
    for (let key = open.pop(); key !== undefined; key = open.pop()) {
      for (let version = 1; ; version += 1) {
        const value = await readPatiently(() => client.readVersion(address, key, version));
        if (value === undefined) break;
        assert(value !== null, `version ${version} of ${key} is deleted still`);
        stored.push({ key, version, value });
      }
    }
  };
  await Promise.all(
    Array.from({ length: READERS }, (_, reader) => {
      const { nodes } = cluster;
      return readKeys(nodes[reader % nodes.length]?.address ?? '');
    }),
  );
  return stored;
}

async function readPatiently<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await read();
    } catch (error) {
      if (attempt === READ_ATTEMPTS) throw error;
    }
  }
}
