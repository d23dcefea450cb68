/**
 * What a batch token carries under its seal. The client sends it with every request, so it holds
 * only what differs from token to token (openbao internal/vault/token_store.go, `create`).
 */

import type { TokenEntry } from './backend.ts';

export const BATCH_PREFIX = 'b.';

type Content = {
  readonly policies: readonly string[];
  readonly path: string;
  readonly name: string;
  readonly created: number;
  readonly ttl: number;
  readonly namespace: string;
  readonly parent?: string;
  readonly role?: string;
  readonly meta?: { readonly [key: string]: string };
};

export function encodeBatchToken(entry: TokenEntry): Buffer {
  const content: Content = {
    policies: entry.policies,
    path: entry.path,
    name: entry.displayName,
    created: entry.creationTimeMs,
    ttl: entry.creationTtlSeconds,
    namespace: entry.namespaceId,
    ...(entry.parent === '' ? {} : { parent: entry.parent }),
    ...(entry.role === undefined ? {} : { role: entry.role }),
    ...(entry.meta === null ? {} : { meta: entry.meta }),
  };
  return Buffer.from(JSON.stringify(content));
}

/**
 * Undefined unless it is written as it was given out: the decoder passes over what is no base64url,
 * and one token must not have ever so many names.
 */
export function sealedPartOf(id: string): Buffer | undefined {
  const text = id.slice(BATCH_PREFIX.length);
  const sealed = Buffer.from(text, 'base64url');
  return sealed.toString('base64url') === text ? sealed : undefined;
}

/** `plaintext` was sealed by this cluster, so it is what `encodeBatchToken` made. */
export function decodeBatchToken(id: string, plaintext: Uint8Array): TokenEntry {
  const content = JSON.parse(Buffer.from(plaintext).toString()) as Content;
  const parent = content.parent ?? '';
  return {
    id,
    accessor: '',
    namespaceId: content.namespace,
    type: 'batch',
    policies: content.policies,
    path: content.path,
    meta: content.meta ?? null,
    displayName: content.name,
    ...(content.role === undefined ? {} : { role: content.role }),
    parent,
    orphan: parent === '',
    numUses: 0,
    creationTimeMs: content.created,
    creationTtlSeconds: content.ttl,
    explicitMaxTtlSeconds: 0,
    periodSeconds: 0,
    renewable: false,
    lastRenewalMs: null,
    expireTimeMs: content.created + content.ttl * 1000,
  };
}
