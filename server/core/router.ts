/**
 * Which mount answers a path, and which mount owns a storage key.
 *
 * Mounts never lie inside one another (`conflict` forbids it), so at most one matches; the search
 * still takes the longest. It costs one map lookup per leading segment, up to the deepest mount.
 */

import assert from 'node:assert/strict';
import type { Backend, Namespace } from './backend.ts';
import { mountPoint, storagePrefix } from './mount-entry.ts';
import type { MountEntry } from './mount-entry.ts';
import { compilePaths } from './special-paths.ts';
import type { PathMatcher } from './special-paths.ts';
import type { OriginView } from './view.ts';

export type Route = {
  readonly entry: MountEntry;
  readonly namespace: Namespace;
  /** For example `secret/` or `auth/token/`, below the namespace. */
  readonly mountPoint: string;
  readonly backend: Backend;
  readonly view: OriginView;
  readonly needsSudo: PathMatcher;
  readonly isUnauthenticated: PathMatcher;
  readonly isForwarded: PathMatcher;
};

export function createRoute(
  entry: MountEntry,
  parts: { readonly namespace: Namespace; readonly backend: Backend; readonly view: OriginView },
): Route {
  const { root, unauthenticated, forward } = parts.backend.specialPaths;
  return {
    ...parts,
    entry,
    mountPoint: mountPoint(entry),
    needsSudo: compilePaths(root),
    isUnauthenticated: compilePaths(unauthenticated),
    isForwarded: compilePaths(forward),
  };
}

export class Router {
  readonly #byPath = new Map<string, Route>();
  /** By storage prefix below the namespace; namespaces share no uuids. */
  readonly #byStorage = new Map<string, Route>();
  #segmentsMax = 0;

  mount(route: Route): void {
    const key = route.namespace.path + route.mountPoint;
    assert(!this.#byPath.has(key), 'two mounts at one path');
    this.#byPath.set(key, route);
    this.#byStorage.set(storagePrefix(route.entry), route);
    this.#segmentsMax = Math.max(this.#segmentsMax, key.split('/').length - 1);
  }

  unmount(route: Route): void {
    this.#byPath.delete(route.namespace.path + route.mountPoint);
    this.#byStorage.delete(storagePrefix(route.entry));
  }

  clear(): void {
    this.#byPath.clear();
    this.#byStorage.clear();
    this.#segmentsMax = 0;
  }

  /** `path` is below the namespace; a mount also answers its own path without the slash. */
  match(namespace: Namespace, path: string): Route | undefined {
    const full = namespace.path === '' ? path : namespace.path + path;
    let found: Route | undefined;
    let slash = full.indexOf('/');
    for (let segments = 0; segments < this.#segmentsMax && slash !== -1; segments += 1) {
      found = this.#byPath.get(full.slice(0, slash + 1)) ?? found;
      slash = full.indexOf('/', slash + 1);
    }
    return found ?? this.#byPath.get(`${full}/`);
  }

  /** The mount that stores below `logical/<uuid>/`, `auth/<uuid>/` or `sys/`. */
  byStoragePrefix(prefix: string): Route | undefined {
    return this.#byStorage.get(prefix);
  }

  /** The mount that `path` (ending in a slash) would lie in, or that would lie in it. */
  conflict(namespace: Namespace, path: string): Route | undefined {
    const full = namespace.path + path;
    for (const [existing, route] of this.#byPath) {
      if (existing.startsWith(full) || full.startsWith(existing)) return route;
    }
    return undefined;
  }

  routes(): IterableIterator<Route> {
    return this.#byPath.values();
  }
}
