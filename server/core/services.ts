/**
 * What an unsealed node serves with, built by `unsealShared` from what is stored: the same on a
 * standby and on the active node. The strategies add what differs, as in OpenBao
 * (internal/vault/core.go, `unsealShared`, `readonlyUnsealStrategy`, `standardUnsealStrategy`):
 * here only the sweep of expired tokens, since nothing else writes by itself.
 */

import { ROOT_NAMESPACE } from './backend.ts';
import type { Barrier } from './barrier.ts';
import type { Logger } from './logger.ts';
import { MountTable } from './mount-table.ts';
import type { BackendFactories } from './mount-table.ts';
import { NamespaceStore } from './namespace.ts';
import { PolicyStore } from './policy-store.ts';
import { Router } from './router.ts';
import { TokenStore } from './token-store.ts';
import { createView } from './view.ts';

export type Services = {
  readonly namespaces: NamespaceStore;
  readonly router: Router;
  readonly mounts: MountTable;
  /** Of the root namespace, as there is no other. */
  readonly policies: PolicyStore;
  readonly tokens: TokenStore;
};

export type ServiceParts = {
  readonly barrier: Barrier;
  readonly backends: BackendFactories;
  readonly settings: {
    readonly defaultLeaseTtlSeconds: number;
    readonly maxLeaseTtlSeconds: number;
  };
  readonly clock: () => number;
  readonly logger: Logger;
};

export type UnsealStrategy = {
  readonly start: (services: Services) => void;
  readonly stop: (services: Services) => void;
};

export const readonlyUnsealStrategy: UnsealStrategy = {
  start: () => undefined,
  stop: () => undefined,
};

export const standardUnsealStrategy: UnsealStrategy = {
  // Restoring reads in pages beside the requests; its failures go to `onExpiryFailure`.
  start: (services) => void services.tokens.startExpiry(),
  stop: (services) => services.tokens.stopExpiry(),
};

/** Binds batch tokens to their use, as a path binds what is stored. */
const BATCH_TOKEN_PATH = 'sys/token/batch';

/** The services, still empty: changes may be reported to them from now on. */
export function createServices(parts: ServiceParts): Services {
  const { barrier, backends, clock, logger } = parts;
  const view = createView(barrier, ROOT_NAMESPACE, '');
  const namespaces = new NamespaceStore();
  const router = new Router();
  const mounts = new MountTable({ barrier, router, namespaces, backends });
  const policies = new PolicyStore({ view, clock });
  const tokens = new TokenStore({
    view,
    namespaceId: ROOT_NAMESPACE.id,
    clock,
    settings: parts.settings,
    seal: (plaintext) => barrier.sealFor(BATCH_TOKEN_PATH, plaintext),
    open: (sealed) => barrier.tryOpen(BATCH_TOKEN_PATH, sealed),
    setTimer: startTimer,
    destroyOwned: (tokenId) => destroyOwned(router, tokenId),
    onExpiryFailure: (error) => logger.error({ error }, 'token expiration failed'),
  });
  return { namespaces, router, mounts, policies, tokens };
}

async function destroyOwned(router: Router, tokenId: string): Promise<void> {
  for (const route of router.routes()) await route.backend.revokeToken?.(route.view, tokenId);
}

function startTimer(delayMs: number, callback: () => void): () => void {
  const timer = setTimeout(callback, delayMs);
  // A sweep to come is no reason for the process to live on.
  timer.unref();
  return () => clearTimeout(timer);
}
