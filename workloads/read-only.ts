import { KV_V1_MOUNT, kvRead } from './kv.ts';
import type { Keyspace, Workload } from './workload.ts';

/**
 * A working set of a thousand secrets of half a KiB to one KiB, some of them far more popular than
 * others: what a fleet of agents reads.
 */
export const REALISTIC_KEYSPACE: Keyspace = {
  keyCount: 1000,
  distribution: 'zipfian',
  valueBytes: { kind: 'uniform', bytesMin: 512, bytesMax: 1024 },
};

/** The ceiling of read scaling: no write ever touches the active node. */
export const readOnly: Workload = {
  name: 'read-only',
  claim: 'Applications that only fetch secrets.',
  mount: KV_V1_MOUNT,
  keyspace: REALISTIC_KEYSPACE,
  tokenCount: 16,
  preload: true,
  operations: [kvRead(1)],
};
