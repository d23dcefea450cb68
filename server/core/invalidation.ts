/**
 * From a changed key to the caches that hold what was made of it. Runs in the turn in which the
 * change becomes readable and before its index is published (design D3), on every node, for its
 * own writes too.
 *
 * | key, below its namespace       | forgets                                        |
 * | ------------------------------ | ---------------------------------------------- |
 * | any                            | the sealed value                               |
 * | `core/keyring`                 | nothing: the new terms are read                |
 * | `core/leader`                  | the advertisement                              |
 * | `core/mounts/…`, `core/auth/…` | the route; it is rebuilt from the new entry    |
 * | `sys/policy/…`                 | the policy, and every ACL                      |
 * | `sys/token/…`                  | the token                                      |
 * | `logical/<uuid>/…`, `auth/…`   | whatever the backend of the mount keeps        |
 *
 * Sealed values go first, all of them: what is rebuilt then reads the new ones.
 */

import { ADVERTISEMENT_PATH } from './advertisement.ts';
import type { AdvertisementBoard } from './advertisement.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { Namespace } from './backend.ts';
import { KEYRING_PATH } from './barrier.ts';
import type { Barrier } from './barrier.ts';
import { tableOf } from './mount-entry.ts';
import type { PhysicalCache } from './physical-cache.ts';
import type { Services } from './services.ts';

export type Invalidated = {
  readonly physicalCache: PhysicalCache | undefined;
  readonly barrier: Barrier;
  readonly board: AdvertisementBoard;
};

/** The first two segments: `logical/<uuid>/`, `auth/<uuid>/`. */
const STORAGE_PREFIX = /^(?:logical|auth)\/[^/]+\//;
const SYSTEM_PREFIX = 'sys/';
const MOUNTS = tableOf('secret');
const AUTHS = tableOf('auth');

/** `services` is undefined while there are none: on a plain standby, and before `postUnseal`. */
export function invalidateKeys(
  keys: readonly string[],
  caches: Invalidated,
  services: Services | undefined,
): void {
  const { physicalCache, barrier, board } = caches;
  if (physicalCache !== undefined) for (const key of keys) physicalCache.invalidate(key);
  if (barrier.isSealed) return;
  // Values sealed under a term that comes in the same batch must open.
  if (keys.includes(KEYRING_PATH)) barrier.reloadKeyring();
  for (const key of keys) {
    if (key === ADVERTISEMENT_PATH) board.invalidate();
    else if (services !== undefined) invalidateKey(key, services, ROOT_NAMESPACE);
  }
}

/** Forgets all that can be forgotten at once. Mounts must be loaded anew before the next request. */
export function invalidateEverything(caches: Invalidated, services: Services | undefined): void {
  const { physicalCache, barrier, board } = caches;
  physicalCache?.clear();
  if (barrier.isSealed) return;
  barrier.reloadKeyring();
  board.invalidate();
  if (services === undefined) return;
  services.policies.invalidate(undefined);
  services.tokens.invalidate(undefined);
  for (const route of services.router.routes()) route.backend.invalidate?.(undefined);
}

function invalidateKey(key: string, services: Services, namespace: Namespace): void {
  if (key.startsWith(MOUNTS)) {
    services.mounts.invalidate(namespace, 'secret', key.slice(MOUNTS.length));
  } else if (key.startsWith(AUTHS)) {
    services.mounts.invalidate(namespace, 'auth', key.slice(AUTHS.length));
  } else if (key.startsWith(SYSTEM_PREFIX)) {
    services.policies.invalidate(key);
    services.tokens.invalidate(key);
  } else {
    const prefix = STORAGE_PREFIX.exec(key)?.[0];
    if (prefix === undefined) return;
    services.router.byStoragePrefix(prefix)?.backend.invalidate?.(key.slice(prefix.length));
  }
}
