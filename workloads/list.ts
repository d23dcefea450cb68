import { KEYS_PER_FOLDER, KV_V1_MOUNT, kvList } from './kv.ts';
import type { Workload } from './workload.ts';

/** Folders of a hundred keys, listed whole: answers are long and come from a range scan. */
export const list: Workload = {
  name: 'list',
  claim: 'Consoles and synchronizers that list folders of a hundred secrets.',
  mount: KV_V1_MOUNT,
  keyspace: {
    keyCount: 10 * KEYS_PER_FOLDER,
    distribution: 'uniform',
    valueBytes: { kind: 'fixed', bytes: 100 },
  },
  tokenCount: 16,
  preload: true,
  operations: [kvList(1)],
};
