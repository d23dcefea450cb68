import { KV_V1_MOUNT, kvRead, kvWrite } from './kv.ts';
import { REALISTIC_KEYSPACE } from './read-only.ts';
import { withKeyspace, type Workload } from './workload.ts';

/**
 * The mix of OpenBao's article on horizontal scalability (2026-03-25): kv v1, ten keys of 100 bytes,
 * 90 % reads. Ten keys all fit any cache, and writes hit the keys that are read.
 */
export const blogMix: Workload = {
  name: 'blog-mix',
  claim: "The mix of OpenBao's 2026-03-25 article: 90 % reads over ten small keys.",
  mount: KV_V1_MOUNT,
  keyspace: {
    keyCount: 10,
    distribution: 'uniform',
    valueBytes: { kind: 'fixed', bytes: 100 },
  },
  tokenCount: 1,
  preload: true,
  operations: [kvRead(90), kvWrite(10)],
};

/** The same mix over a key space of a size that occurs. */
export const blogMixWide: Workload = {
  ...withKeyspace(blogMix, REALISTIC_KEYSPACE),
  name: 'blog-mix-wide',
  claim: 'The 90/10 mix of the article over a thousand keys of half a KiB to one KiB.',
  tokenCount: 16,
};
