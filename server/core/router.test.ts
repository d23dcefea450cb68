import { describe, expect, test } from 'vitest';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { Backend, Namespace } from './backend.ts';
import { Barrier } from './barrier.ts';
import { UNTUNED, createMountEntry } from './mount-entry.ts';
import type { MountKind } from './mount-entry.ts';
import { Router, createRoute } from './router.ts';
import type { Route } from './router.ts';
import { compilePaths } from './special-paths.ts';
import { createView } from './view.ts';

const { physical } = createMemoryCluster().leader();
const BARRIER = new Barrier(physical, physical);
const TEAM: Namespace = { id: 'team', uuid: 'u-team', path: 'team/' };
const BACKEND: Backend = {
  type: 'test',
  specialPaths: { root: [], unauthenticated: [], forward: [] },
  handle: async () => undefined,
};

function createTestRoute(kind: MountKind, path: string, namespace = ROOT_NAMESPACE): Route {
  const flags = { local: false, sealWrap: false, externalEntropyAccess: false };
  const entry = createMountEntry(namespace, { ...UNTUNED, ...flags, kind, path, type: 'test' });
  return createRoute(entry, {
    namespace,
    backend: BACKEND,
    view: createView(BARRIER, namespace, ''),
  });
}

const ROUTES = [
  createTestRoute('secret', 'secret/'),
  createTestRoute('secret', 'a/b/c/'),
  createTestRoute('secret', 'sys/'),
  createTestRoute('auth', 'token/'),
  createTestRoute('secret', 'own/', TEAM),
];
const ROUTER = new Router();
for (const route of ROUTES) ROUTER.mount(route);

describe('Router.match()', () => {
  const rows: readonly [Namespace, string, string | undefined][] = [
    [ROOT_NAMESPACE, 'secret/a', 'secret/'],
    [ROOT_NAMESPACE, 'secret/', 'secret/'],
    [ROOT_NAMESPACE, 'secret', 'secret/'],
    [ROOT_NAMESPACE, 'secrets/a', undefined],
    [ROOT_NAMESPACE, 'a/b/c/d/e', 'a/b/c/'],
    [ROOT_NAMESPACE, 'a/b/c', 'a/b/c/'],
    [ROOT_NAMESPACE, 'a/b/d', undefined],
    [ROOT_NAMESPACE, 'auth/token/lookup-self', 'auth/token/'],
    [ROOT_NAMESPACE, 'auth/other/x', undefined],
    [ROOT_NAMESPACE, '', undefined],
    [ROOT_NAMESPACE, 'own/a', undefined],
    [TEAM, 'own/a', 'own/'],
    [TEAM, 'secret/a', undefined],
  ];
  test.each(rows)('%o %s: %s', (namespace, path, mountPoint) => {
    expect(ROUTER.match(namespace, path)?.mountPoint).toBe(mountPoint);
  });
});

describe('Router.conflict()', () => {
  const rows: readonly [string, string | undefined][] = [
    ['secret/', 'secret/'],
    ['secret/x/', 'secret/'],
    ['a/', 'a/b/c/'],
    ['auth/token/x/', 'auth/token/'],
    ['secrets/', undefined],
    ['b/', undefined],
  ];
  test.each(rows)('%s: %s', (path, mountPoint) => {
    expect(ROUTER.conflict(ROOT_NAMESPACE, path)?.mountPoint).toBe(mountPoint);
  });
});

test('a storage key leads to the mount that owns it', () => {
  const [route] = ROUTES;
  expect(ROUTER.byStoragePrefix(`logical/${route?.entry.uuid}/`)).toBe(route);
  expect(ROUTER.byStoragePrefix('logical/none/')).toBeUndefined();
});

describe('compilePaths()', () => {
  const patterns = ['exact', 'prefix/*', 'a/+/c', 'x/+/y*'];
  const rows: readonly [string, boolean][] = [
    ['exact', true],
    ['exact/more', false],
    ['prefix/', true],
    ['prefix/a/b', true],
    ['prefix', false],
    ['a/b/c', true],
    ['a//c', false],
    ['a/b/c/d', false],
    ['x/1/y', true],
    ['x/1/yes/z', true],
    ['x/1/z', false],
    ['', false],
  ];
  test.each(rows)('%s: %s', (path, matches) => {
    expect(compilePaths(patterns)(path)).toBe(matches);
  });

  test('matches nothing without patterns', () => {
    expect(compilePaths([])('')).toBe(false);
  });
});
