/**
 * The mounts of all namespaces, secret and auth: loaded from storage, changed on the active node,
 * and kept current everywhere by one path, `invalidate`: a change is written, comes back through
 * the change feed on every node, and only then is routed.
 *
 * Invariants:
 * - A stored entry that is not tainted has exactly one route, and a route a stored entry.
 * - A backend is initialised before its entry is stored: what can be routed to is ready.
 * - Entries change one at a time; what a change judges by is read after its predecessor is applied.
 *
 * Texts are OpenBao's (internal/vault/mount.go, auth.go, logical_system.go).
 */

import { isDeepStrictEqual } from 'node:util';
import { ServerError } from '../errors.ts';
import type { Backend, Namespace } from './backend.ts';
import type { Barrier } from './barrier.ts';
import {
  SINGLETON_TYPES,
  createMountEntry,
  defaultMountEntries,
  entryKey,
  mountPoint,
  parseMountEntry,
  serializeMountEntry,
  storagePrefix,
  tableOf,
} from './mount-entry.ts';
import type { MountEntry, MountKind, MountSpec, MountTuning } from './mount-entry.ts';
import type { NamespaceStore } from './namespace.ts';
import { createRoute } from './router.ts';
import type { Router } from './router.ts';
import { commitFailedError } from './transaction.ts';
import { clearPrefix, createView, namespacePrefix } from './view.ts';

export type BackendFactory = {
  /** The table that mounts of this type belong to. */
  readonly kind: MountKind;
  create(entry: MountEntry): Backend;
};

/** By mount type: `kv`, `cubbyhole`, `system`, `token`. */
export type BackendFactories = { readonly [type: string]: BackendFactory };

export type MountTableParts = {
  readonly barrier: Barrier;
  readonly router: Router;
  readonly namespaces: NamespaceStore;
  readonly backends: BackendFactories;
};

const PROTECTED_PATHS = ['audit/', 'auth/', 'sys/', 'cubbyhole/', 'identity/'];
const UNTUNABLE_PATHS = ['cubbyhole/', 'sys/', 'audit/', 'identity/'];

export class MountTable {
  readonly #parts: MountTableParts;
  readonly #entries = new Map<string, MountEntry>();
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(parts: MountTableParts) {
    this.#parts = parts;
  }

  /** Reads all entries. Changes that arrive meanwhile go through `invalidate` as ever. */
  async load(): Promise<void> {
    for (const namespace of this.#parts.namespaces.list()) {
      for (const kind of ['secret', 'auth'] as const) {
        const table = namespacePrefix(namespace) + tableOf(kind);
        const uuids = await this.#parts.barrier.list(table);
        const stored = new Set(uuids);
        for (const entry of this.list(namespace, kind)) {
          if (!stored.has(entry.uuid)) this.invalidate(namespace, kind, entry.uuid);
        }
        for (const uuid of uuids) this.invalidate(namespace, kind, uuid);
      }
    }
  }

  /** Stores the mounts that a fresh `namespace` begins with. */
  async createDefaults(namespace: Namespace): Promise<void> {
    const root = namespacePrefix(namespace);
    await this.#parts.barrier.write(
      defaultMountEntries(namespace).map((entry) => ({
        kind: 'put',
        key: root + entryKey(entry),
        value: serializeMountEntry(entry),
      })),
    );
  }

  list(namespace: Namespace, kind: MountKind): readonly MountEntry[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.namespaceId === namespace.id && entry.kind === kind)
      .toSorted((left, right) => (left.path < right.path ? -1 : 1));
  }

  find(namespace: Namespace, kind: MountKind, path: string): MountEntry | undefined {
    return this.list(namespace, kind).find((entry) => entry.path === path);
  }

  /** The mount that serves `path`; those of auth mounts start with `auth/`. */
  match(namespace: Namespace, path: string): MountEntry | undefined {
    return this.#parts.router.match(namespace, path)?.entry;
  }

  async enable(namespace: Namespace, spec: MountSpec): Promise<void> {
    await this.#change(async () => {
      this.#refuseProtected(spec);
      const factory = this.#factory(spec);
      checkTtls(spec);
      for (const entry of this.list(namespace, spec.kind)) {
        if (entry.path.startsWith(spec.path) || spec.path.startsWith(entry.path)) {
          throw new ServerError(
            'invalid-request',
            `path is already in use at ${mountPoint(entry)}`,
          );
        }
      }
      const match = this.#parts.router.conflict(namespace, mountPoint(spec));
      if (match !== undefined) {
        throw new ServerError('invalid-request', `existing mount at ${match.mountPoint}`);
      }
      const entry = createMountEntry(namespace, spec);
      const view = createView(this.#parts.barrier, namespace, storagePrefix(entry));
      await factory.create(entry).initialize?.(view);
      await this.#add(namespace, entry);
    });
  }

  /** Removes the mount and all that it stores. Nothing happens if there is none. */
  async disable(namespace: Namespace, kind: MountKind, path: string): Promise<void> {
    await this.#change(async () => {
      if (kind === 'secret' && PROTECTED_PATHS.some((prefix) => path.startsWith(prefix))) {
        throw new ServerError('invalid-request', `cannot unmount "${path}"`);
      }
      if (kind === 'auth' && path === 'token/') {
        throw new ServerError('invalid-request', 'token credential backend cannot be disabled');
      }
      const entry = this.find(namespace, kind, path);
      if (entry === undefined) return;
      // Tainted first: nobody is routed there while its storage goes, and if this node fails
      // half-way, disabling it again on the next one finishes the work.
      if (!entry.isTainted) {
        await this.#replace(namespace, entry, { ...entry, isTainted: true });
      }
      const root = namespacePrefix(namespace);
      await clearPrefix(this.#parts.barrier, root + storagePrefix(entry));
      await this.#parts.barrier.delete(root + entryKey(entry));
    });
  }

  async tune(
    namespace: Namespace,
    mount: { readonly kind: MountKind; readonly path: string },
    change: Partial<MountTuning>,
  ): Promise<void> {
    await this.#change(async () => {
      const path = mountPoint(mount);
      if (UNTUNABLE_PATHS.some((prefix) => path.startsWith(prefix))) {
        throw new ServerError('invalid-request', `cannot tune "${path}"`);
      }
      const entry = this.find(namespace, mount.kind, mount.path);
      if (entry === undefined || entry.isTainted) {
        throw new ServerError(
          'invalid-request',
          `tune of path "${path}" failed: no mount entry found`,
        );
      }
      const tuned = { ...entry, ...change, options: { ...entry.options, ...change.options } };
      if ((tuned.options['version'] ?? '1') !== (entry.options['version'] ?? '1')) {
        throw new ServerError('invalid-request', 'cannot change the version of an existing mount');
      }
      checkTtls(tuned);
      await this.#replace(namespace, entry, tuned);
    });
  }

  /** The stored entry may have changed: routes follow at once. Never throws on absent entries. */
  invalidate(namespace: Namespace, kind: MountKind, uuid: string): void {
    const { barrier, router, backends } = this.#parts;
    const key = namespacePrefix(namespace) + entryKey({ kind, uuid });
    const bytes = barrier.get(key);
    const entry = bytes === undefined ? undefined : parseMountEntry(bytes, uuid);
    const former = this.#entries.get(uuid);
    const route = former === undefined ? undefined : router.byStoragePrefix(storagePrefix(former));
    if (route !== undefined) router.unmount(route);
    if (entry === undefined) {
      this.#entries.delete(uuid);
      return;
    }
    this.#entries.set(uuid, entry);
    if (entry.isTainted) return;
    // A tuned mount keeps its backend, and with it what the backend remembers.
    const keeps = route !== undefined && sameOptions(route.entry.options, entry.options);
    const backend = keeps ? route.backend : backends[entry.type]?.create(entry);
    if (backend === undefined) return;
    const view = createView(barrier, namespace, storagePrefix(entry));
    router.mount(createRoute(entry, { namespace, backend, view }));
  }

  #refuseProtected(spec: MountSpec): void {
    if (spec.kind === 'auth') {
      if (spec.type === 'token') {
        throw new ServerError('invalid-request', 'token credential backend cannot be instantiated');
      }
      if (spec.path === '/') {
        throw new ServerError('invalid-request', 'backend path must be specified');
      }
      return;
    }
    if (PROTECTED_PATHS.some((prefix) => spec.path.startsWith(prefix))) {
      throw new ServerError('permission-denied', `cannot mount "${spec.path}"`);
    }
    if (SINGLETON_TYPES.has(spec.type)) {
      throw new ServerError('permission-denied', `mount type of "${spec.type}" is not mountable`);
    }
  }

  #factory(spec: MountSpec): BackendFactory {
    const factory = Object.hasOwn(this.#parts.backends, spec.type)
      ? this.#parts.backends[spec.type]
      : undefined;
    if (factory === undefined) {
      throw new ServerError('invalid-request', `plugin not found in the catalog: ${spec.type}`);
    }
    if (factory.kind !== spec.kind) {
      throw new ServerError(
        'invalid-request',
        `cannot mount "${spec.type}" of type "${factory.kind}" as a ${spec.kind} backend`,
      );
    }
    return factory;
  }

  /** Stores a new entry, on condition that the mounts it was judged by are all that there are. */
  #add(namespace: Namespace, entry: MountEntry): Promise<void> {
    const root = namespacePrefix(namespace);
    return this.#parts.barrier.transact(async (transaction) => {
      for (const kind of ['secret', 'auth'] as const) {
        const known = new Set(this.list(namespace, kind).map(({ uuid }) => uuid));
        const stored = await transaction.list(root + tableOf(kind));
        if (!stored.every((uuid) => known.has(uuid))) throw commitFailedError();
      }
      const value = serializeMountEntry(entry);
      transaction.write([{ kind: 'put', key: root + entryKey(entry), value }]);
    });
  }

  /** Stores what `former` became, on condition that it is what is stored. */
  #replace(namespace: Namespace, former: MountEntry, entry: MountEntry): Promise<void> {
    const key = namespacePrefix(namespace) + entryKey(entry);
    return this.#parts.barrier.transact((transaction) => {
      const stored = transaction.get(key);
      const current = stored === undefined ? undefined : parseMountEntry(stored, entry.uuid);
      if (!isDeepStrictEqual(current, former)) throw commitFailedError();
      transaction.write([{ kind: 'put', key, value: serializeMountEntry(entry) }]);
    });
  }

  /** One after another. On a standby it throws `read-only` before anything is judged. */
  #change(change: () => Promise<void>): Promise<void> {
    const result = this.#lastChange.then(() => {
      this.#parts.barrier.requireWritable();
      return change();
    });
    this.#lastChange = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}

function checkTtls({ defaultLeaseTtlSeconds, maxLeaseTtlSeconds }: MountTuning): void {
  if (maxLeaseTtlSeconds > 0 && defaultLeaseTtlSeconds > maxLeaseTtlSeconds) {
    throw new ServerError(
      'invalid-request',
      'given default lease TTL greater than given max lease TTL',
    );
  }
}

function sameOptions(left: MountTuning['options'], right: MountTuning['options']): boolean {
  const keys = Object.keys(left);
  return keys.length === Object.keys(right).length && keys.every((key) => left[key] === right[key]);
}
