/** What the cluster knows of itself behind the barrier: its name and id, and its credentials. */

import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import type { Barrier } from './barrier.ts';
import type { ClusterCredentials, WriteOperation } from './ports.ts';

const INFO_PATH = 'core/cluster/local/info';
const CREDENTIALS_PATH = 'core/raft/tls';

export type ClusterInfo = { readonly name: string; readonly id: string };

/** An empty `name` gets a random one, as in OpenBao. */
export function createClusterInfo(name: string): ClusterInfo {
  const generated = `vault-cluster-${randomBytes(4).toString('hex')}`;
  return { name: name === '' ? generated : name, id: randomUUID() };
}

export function clusterOperations(
  barrier: Barrier,
  info: ClusterInfo,
  credentials: ClusterCredentials,
): readonly WriteOperation[] {
  const put = (key: string, value: object): WriteOperation => ({
    kind: 'put',
    key,
    value: barrier.sealFor(key, Buffer.from(JSON.stringify(value))),
  });
  return [put(INFO_PATH, info), put(CREDENTIALS_PATH, credentials)];
}

export function readClusterInfo(barrier: Barrier): ClusterInfo {
  const bytes = barrier.get(INFO_PATH);
  assert(bytes !== undefined, 'a cluster has a name');
  const info: ClusterInfo = JSON.parse(bytes.toString());
  return info;
}

export function readCredentials(barrier: Barrier): ClusterCredentials {
  const bytes = barrier.get(CREDENTIALS_PATH);
  assert(bytes !== undefined, 'a cluster has credentials');
  const credentials: ClusterCredentials = JSON.parse(bytes.toString());
  return credentials;
}
