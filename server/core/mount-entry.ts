/**
 * One line of the mount table: as stored (`core/mounts/<uuid>`, `core/auth/<uuid>`, one entry per
 * key, as OpenBao's transactional tables), and what follows from it.
 */

import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import type { Json, Namespace } from './backend.ts';

/** `secret` is reached at its path, `auth` below `auth/`. */
export type MountKind = 'secret' | 'auth';

export type MountTuning = {
  readonly description: string;
  /** 0 stands for the default of the server. */
  readonly defaultLeaseTtlSeconds: number;
  readonly maxLeaseTtlSeconds: number;
  readonly forceNoCache: boolean;
  readonly listingVisibility: '' | 'hidden' | 'unauth';
  /** Auth mounts only. */
  readonly tokenType: 'default-service' | 'default-batch' | 'service' | 'batch';
  readonly options: { readonly [key: string]: string };
  readonly auditNonHmacRequestKeys: readonly string[];
  readonly auditNonHmacResponseKeys: readonly string[];
  readonly passthroughRequestHeaders: readonly string[];
  readonly allowedResponseHeaders: readonly string[];
};

export type MountSpec = MountTuning & {
  readonly kind: MountKind;
  /** Ends in a slash, and does not contain the `auth/` of the table. */
  readonly path: string;
  readonly type: string;
  readonly local: boolean;
  readonly sealWrap: boolean;
  readonly externalEntropyAccess: boolean;
};

export type MountEntry = MountSpec & {
  readonly uuid: string;
  readonly accessor: string;
  readonly namespaceId: string;
  /** Being disabled: it is not routed to any more, and its storage is going. */
  readonly isTainted: boolean;
};

const TABLE = { secret: 'core/mounts/', auth: 'core/auth/' } as const;

/** Types of which exactly one mount exists, from the beginning. */
export const SINGLETON_TYPES: ReadonlySet<string> = new Set(['system', 'cubbyhole', 'token']);

export const UNTUNED: MountTuning = {
  description: '',
  defaultLeaseTtlSeconds: 0,
  maxLeaseTtlSeconds: 0,
  forceNoCache: false,
  listingVisibility: '',
  tokenType: 'default-service',
  options: {},
  auditNonHmacRequestKeys: [],
  auditNonHmacResponseKeys: [],
  passthroughRequestHeaders: [],
  allowedResponseHeaders: [],
};

export function createMountEntry(namespace: Namespace, spec: MountSpec): MountEntry {
  return {
    ...spec,
    uuid: randomUUID(),
    accessor: `${spec.kind === 'auth' ? 'auth_' : ''}${spec.type}_${randomBytes(4).toString('hex')}`,
    namespaceId: namespace.id,
    isTainted: false,
  };
}

/** What every namespace begins with (OpenBao `requiredMountTable`, `defaultAuthTable`). */
export function defaultMountEntries(namespace: Namespace): readonly MountEntry[] {
  const flags = { local: false, sealWrap: false, externalEntropyAccess: false };
  const specs: readonly MountSpec[] = [
    {
      ...UNTUNED,
      ...flags,
      kind: 'secret',
      path: 'cubbyhole/',
      type: 'cubbyhole',
      description: 'per-token private secret storage',
      local: true,
    },
    {
      ...UNTUNED,
      ...flags,
      kind: 'secret',
      path: 'sys/',
      type: 'system',
      description: 'system endpoints used for control, policy and debugging',
      sealWrap: true,
      passthroughRequestHeaders: ['Accept'],
    },
    {
      ...UNTUNED,
      ...flags,
      kind: 'auth',
      path: 'token/',
      type: 'token',
      description: 'token based credentials',
    },
  ];
  return specs.map((spec) => createMountEntry(namespace, spec));
}

export function tableOf(kind: MountKind): string {
  return TABLE[kind];
}

/** Where the entry itself is stored, below its namespace. */
export function entryKey(entry: Pick<MountEntry, 'kind' | 'uuid'>): string {
  return TABLE[entry.kind] + entry.uuid;
}

/** Where the mount's data lies, below its namespace. */
export function storagePrefix(entry: MountEntry): string {
  if (entry.type === 'system') return 'sys/';
  return entry.kind === 'auth' ? `auth/${entry.uuid}/` : `logical/${entry.uuid}/`;
}

/** Where requests find it, below its namespace. */
export function mountPoint(entry: Pick<MountEntry, 'kind' | 'path'>): string {
  return entry.kind === 'auth' ? `auth/${entry.path}` : entry.path;
}

export function serializeMountEntry(entry: MountEntry): Buffer {
  return Buffer.from(JSON.stringify(entry satisfies Json));
}

/** Trusts what the barrier has authenticated, but for what the caller knows better. */
export function parseMountEntry(bytes: Uint8Array, uuid: string): MountEntry {
  const entry: MountEntry = JSON.parse(Buffer.from(bytes).toString());
  assert.equal(entry.uuid, uuid, 'mount entry is stored under a uuid that is not its own');
  assert(entry.path.endsWith('/'), 'mount path must end in a slash');
  return { ...UNTUNED, ...entry };
}
