import { KV_V1_MOUNT, kvRead, kvWrite } from './kv.ts';
import { REALISTIC_KEYSPACE } from './read-only.ts';
import type { Workload } from './workload.ts';

/** Half writes: where adding standbys costs more than it brings. */
export const updateHeavy: Workload = {
  name: 'update-heavy',
  claim: 'Session state kept in the store: 50 % writes.',
  mount: KV_V1_MOUNT,
  keyspace: REALISTIC_KEYSPACE,
  tokenCount: 16,
  preload: true,
  operations: [kvRead(50), kvWrite(50)],
};
