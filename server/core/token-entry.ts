/** A new token: what is asked for, how long it lives, and what its maker is told. */

import type { Auth, TokenEntry, TokenType } from './backend.ts';
import { lesserBound } from './bounds.ts';
import { ServerError } from '../errors.ts';
import { randomBase62 } from './token-id.ts';
import { calculateTtl } from './token-ttl.ts';
import type { TtlSettings } from './token-ttl.ts';

export type TokenSpec = {
  /** Chosen by the caller; empty for a random one. */
  readonly id: string;
  readonly type: TokenType;
  /** Sorted, in lower case, without duplicates. */
  readonly policies: readonly string[];
  readonly path: string;
  readonly meta: { readonly [key: string]: string } | null;
  readonly displayName: string;
  /** The token above it; empty for an orphan. */
  readonly parent: string;
  readonly role: string;
  readonly numUses: number;
  readonly renewable: boolean;
  /** 0 means the default, or for ever if the token is root. */
  readonly ttlSeconds: number;
  readonly periodSeconds: number;
  readonly explicitMaxTtlSeconds: number;
  /** What its role adds to the two above for the lifetime, without being recorded. */
  readonly rolePeriodSeconds: number;
  readonly roleExplicitMaxTtlSeconds: number;
};

export type TokenGrant = { readonly auth: Auth; readonly warnings: readonly string[] };

export type RenewSpec = {
  /** 0 means as long as last time. */
  readonly incrementSeconds: number;
  /** Those of its role where it has one; else its own. */
  readonly periodSeconds: number;
  readonly explicitMaxTtlSeconds: number;
};

/** Throws `invalid-request` if it cannot be renewed. */
export function renewedEntry(
  entry: TokenEntry,
  spec: RenewSpec,
  { settings, nowMs }: { readonly settings: TtlSettings; readonly nowMs: number },
): { readonly renewed: TokenEntry; readonly grant: TokenGrant } {
  if (entry.expireTimeMs === null || !entry.renewable) {
    throw new ServerError('invalid-request', 'lease is not renewable');
  }
  const lastMs = entry.lastRenewalMs ?? entry.creationTimeMs;
  const { ttlSeconds, warnings } = calculateTtl(settings, {
    incrementSeconds: spec.incrementSeconds,
    fallbackSeconds: Math.round((entry.expireTimeMs - lastMs) / 1000),
    periodSeconds: spec.periodSeconds,
    explicitMaxSeconds: spec.explicitMaxTtlSeconds,
    startMs: entry.creationTimeMs,
    nowMs,
  });
  const expireTimeMs = nowMs + ttlSeconds * 1000;
  const renewed: TokenEntry = { ...entry, lastRenewalMs: nowMs, expireTimeMs };
  return { renewed, grant: { auth: authOf(renewed, ttlSeconds), warnings } };
}

export function initialTtl(
  settings: TtlSettings,
  spec: TokenSpec,
  nowMs: number,
): { ttlSeconds: number; warnings: string[] } {
  const periodSeconds = lesserBound(spec.periodSeconds, spec.rolePeriodSeconds);
  const explicitMaxSeconds = lesserBound(
    spec.explicitMaxTtlSeconds,
    spec.roleExplicitMaxTtlSeconds,
  );
  const isRoot = spec.policies.includes('root');
  if (isRoot && spec.ttlSeconds === 0 && periodSeconds === 0) {
    return { ttlSeconds: explicitMaxSeconds, warnings: [] };
  }
  return calculateTtl(settings, {
    incrementSeconds: 0,
    fallbackSeconds: spec.ttlSeconds,
    periodSeconds,
    explicitMaxSeconds,
    startMs: nowMs,
    nowMs,
  });
}

/** Ids are made here, before the write, as the time is. */
export function newEntry(
  namespaceId: string,
  spec: TokenSpec,
  { ttlSeconds, nowMs }: { readonly ttlSeconds: number; readonly nowMs: number },
): TokenEntry {
  const suffix = namespaceId === 'root' ? '' : `.${namespaceId}`;
  const isBatch = spec.type === 'batch';
  return {
    id: spec.id === '' ? `s.${randomBase62()}${suffix}` : spec.id,
    accessor: isBatch ? '' : randomBase62() + suffix,
    namespaceId,
    type: spec.type,
    policies: spec.policies,
    path: spec.path,
    meta: spec.meta,
    displayName: spec.displayName,
    ...(spec.role === '' ? {} : { role: spec.role }),
    parent: spec.parent,
    orphan: spec.parent === '',
    numUses: spec.numUses,
    creationTimeMs: nowMs,
    creationTtlSeconds: ttlSeconds,
    explicitMaxTtlSeconds: spec.explicitMaxTtlSeconds,
    periodSeconds: spec.periodSeconds,
    renewable: spec.renewable && !isBatch && ttlSeconds > 0,
    lastRenewalMs: null,
    expireTimeMs: ttlSeconds === 0 ? null : nowMs + ttlSeconds * 1000,
  };
}

export function authOf(entry: TokenEntry, leaseDurationSeconds: number): Auth {
  return {
    clientToken: entry.id,
    accessor: entry.accessor,
    policies: entry.policies,
    tokenPolicies: entry.policies,
    metadata: entry.meta,
    leaseDurationSeconds,
    renewable: entry.renewable,
    entityId: '',
    tokenType: entry.type,
    orphan: entry.orphan,
    numUses: entry.numUses,
  };
}
