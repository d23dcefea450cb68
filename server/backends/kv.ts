/** The backend of mounts of type `kv`: the mount's option `version` decides which of the two. */

import type { Backend, LogicalRequest } from '../core/backend.ts';
import { createKvV1 } from './kv-v1.ts';
import type { Clock } from './kv-v2-request.ts';
import { createKvV2 } from './kv-v2.ts';

export function createKv(clock: Clock): Backend {
  const first = createKvV1();
  const second = createKvV2(clock);
  const versionOf = ({ mountOptions }: LogicalRequest): Backend =>
    mountOptions['version'] === '2' ? second : first;
  return {
    type: 'kv',
    specialPaths: first.specialPaths,
    handle: (request) => versionOf(request).handle(request),
    exists: async (request) => (await versionOf(request).exists?.(request)) ?? true,
  };
}
