/**
 * What a token may do, and which mounts it may see: `sys/capabilities*` and the `internal/ui`
 * paths that the CLI and the UI ask first (OpenBao internal/vault/logical_system.go,
 * handleCapabilities, pathInternalUIMountsRead, pathInternalUIMountRead, hasMountAccess).
 */

import type { JsonObject, LogicalResponse, TokenEntry } from '../core/backend.ts';
import { ServerError, standbyPleaseForwardError } from '../errors.ts';
import { invalidRequest, stringField, stringListField } from './fields.ts';
import type { MountDescription, SystemRequest } from './system-ports.ts';
import { mountInfo, sanitizePath } from './system-mounts.ts';

/** In which `internal/ui/resultant-acl` prints them. */
const CAPABILITY_ORDER = ['create', 'delete', 'list', 'read', 'sudo', 'update', 'patch', 'scan'];

export function capabilities(system: SystemRequest): LogicalResponse {
  const id = stringField(system.request.data, 'token') ?? '';
  if (id === '') throw invalidRequest('no token found');
  const token = system.ports.access.token(id);
  if (token === undefined) throw invalidRequest('invalid token');
  return capabilitiesOf(token, system);
}

export function capabilitiesSelf(system: SystemRequest): LogicalResponse {
  return capabilitiesOf(requireToken(system), system);
}

export function capabilitiesAccessor(system: SystemRequest): LogicalResponse {
  const accessor = stringField(system.request.data, 'accessor') ?? '';
  if (accessor === '') throw invalidRequest('missing accessor');
  const token = system.ports.access.tokenByAccessor(accessor);
  if (token === undefined) throw invalidRequest('invalid accessor');
  return capabilitiesOf(token, system);
}

/** Without a token, only what is listed to everyone, and little of it. */
export function readMountsForUi({ request, ports }: SystemRequest): LogicalResponse {
  const { namespace, clientToken } = request;
  const token = clientToken === '' ? undefined : requireToken({ request, ports, captures: [] });
  const visible = (mount: MountDescription): boolean =>
    mount.listingVisibility === 'unauth' ||
    (token !== undefined && ports.access.acl(token, namespace).hasMountAccess(routePathOf(mount)));
  const describe = (mount: MountDescription): JsonObject => {
    const info = mountInfo(mount);
    if (token !== undefined) return info;
    return { type: mount.type, description: mount.description, options: info['options'] ?? null };
  };
  const table = (kind: 'secret' | 'auth'): JsonObject =>
    Object.fromEntries(
      ports.mounts
        .list(namespace, kind)
        .filter(visible)
        .map((mount) => [mount.path, describe(mount)]),
    );
  return { data: { secret: table('secret'), auth: table('auth') } };
}

/** The preflight of `bao kv`: the same refusal whether the mount is missing or only not allowed. */
export function readMountForUi(system: SystemRequest): LogicalResponse {
  const { request, ports, captures } = system;
  const path = sanitizePath(captures[0] ?? '');
  const token = requireToken(system);
  const mount = ports.mounts.match(request.namespace, path);
  const isVisible =
    mount !== undefined &&
    ports.access.acl(token, request.namespace).hasMountAccess(routePathOf(mount));
  if (!isVisible) {
    // A mount or a policy that was just written may not have arrived here yet.
    if (ports.isStandby()) throw standbyPleaseForwardError();
    throw new ServerError(
      'permission-denied',
      `preflight capability check returned 403, please ensure client's policies grant access to path ${JSON.stringify(path)}`,
    );
  }
  return { data: { ...mountInfo(mount), path: mount.path } };
}

/** All rules of the token's policies, merged path by path (pathInternalUIResultantACL). */
export function resultantAcl(system: SystemRequest): LogicalResponse {
  const { request, ports } = system;
  if (request.clientToken === '') return { status: 204 };
  const token = requireToken(system);
  if (ports.access.acl(token, request.namespace).isRoot) return { data: { root: true } };
  const exact = new Map<string, Set<string>>();
  const glob = new Map<string, Set<string>>();
  for (const rule of ports.access.rules(token, request.namespace)) {
    const table = rule.isPrefix ? glob : exact;
    const merged = table.get(rule.path) ?? new Set();
    for (const capability of rule.capabilities) merged.add(capability);
    table.set(rule.path, merged);
  }
  return {
    data: { root: false, exact_paths: resultantPaths(exact), glob_paths: resultantPaths(glob) },
  };
}

export function requireToken({ request, ports }: SystemRequest): TokenEntry {
  const token = request.token ?? ports.access.token(request.clientToken);
  if (token === undefined) throw new ServerError('permission-denied', 'permission denied');
  return token;
}

function capabilitiesOf(token: TokenEntry, { request, ports }: SystemRequest): LogicalResponse {
  const { data, namespace } = request;
  let paths = stringListField(data, 'paths') ?? [];
  // `path` is the older name of the field.
  if (paths.length === 0) paths = stringListField(data, 'path') ?? [];
  if (paths.length === 0) throw invalidRequest('paths must be supplied');
  const acl = ports.access.acl(token, namespace);
  const answers = paths.map((path) => [path, acl.capabilities(path)] as const);
  const [first] = answers;
  const only = answers.length === 1 && first !== undefined ? { capabilities: first[1] } : {};
  return { data: { ...Object.fromEntries(answers), ...only } };
}

/** Where requests reach the mount. */
function routePathOf(mount: MountDescription): string {
  return mount.kind === 'auth' ? `auth/${mount.path}` : mount.path;
}

function resultantPaths(table: ReadonlyMap<string, ReadonlySet<string>>): JsonObject {
  const entries = [...table].map(([path, granted]) => {
    const names = CAPABILITY_ORDER.filter((name) => granted.has(name));
    const isDenied = granted.has('deny') || names.length === 0;
    return [path, { capabilities: isDenied ? ['deny'] : names }] as const;
  });
  return Object.fromEntries(entries);
}
