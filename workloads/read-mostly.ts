import { KV_V1_MOUNT, kvRead, kvWrite } from './kv.ts';
import { REALISTIC_KEYSPACE } from './read-only.ts';
import type { Workload } from './workload.ts';

/** 99 % reads: a secrets store in daily operation, where secrets are rotated now and then. */
export const readMostly: Workload = {
  name: 'read-mostly',
  claim: 'Daily operation: 99 % reads, 1 % rotations.',
  mount: KV_V1_MOUNT,
  keyspace: REALISTIC_KEYSPACE,
  tokenCount: 16,
  preload: true,
  operations: [kvRead(99), kvWrite(1)],
};
