/**
 * The life of one request above the barrier (OpenBao internal/vault/request_handling.go). A standby
 * runs the very same steps; where only the active node can answer, `standby-please-forward` is
 * thrown, as early as that is certain:
 *
 * | step                     | forwards on a standby                                         |
 * | ------------------------ | ------------------------------------------------------------- |
 * | route                    | a path that its backend flags                                 |
 * | handleLoginRequest       | a login, before any password is hashed (`earlyForward`)       |
 * | CheckToken               | a token that is unknown here, or whose ACL cannot be made     |
 * | handleCancelableRequest  | a token with a limited number of uses (`earlyForward`)        |
 * | ACL                      | a write that is denied only for what this node may not know   |
 * | the rest                 | the first write, by `read-only` from the barrier              |
 *
 * Errors that are answered locally: parse errors, unknown namespace or mount, denial by policy.
 */

import { ServerError, asMultierror, standbyPleaseForwardError } from '../errors.ts';
import type { Acl } from './acl.ts';
import type {
  Backend,
  JsonObject,
  LogicalRequest,
  LogicalResponse,
  Operation,
  TokenEntry,
} from './backend.ts';
import type { RequestOrigin, StampedRequest } from './exactly-once.ts';
import type { Route } from './router.ts';
import type { Services } from './services.ts';
import { REVOCATION_PENDING } from './token-revocation.ts';

/** A request as the HTTP layer understood it. */
export type LogicalCall = {
  readonly id: string;
  /** `update` for POST and PUT: whether it creates is found out here. */
  readonly operation: Operation;
  /** In full, without `v1/`. */
  readonly path: string;
  /** As the client sent it; empty for root. */
  readonly namespacePath: string;
  readonly data: JsonObject;
  readonly stream?: AsyncIterable<Uint8Array> | undefined;
  /** Empty if there is none. */
  readonly clientToken: string;
  readonly remoteAddress: string;
  /** It came from a standby: it is never forwarded again. */
  readonly forwarded: boolean;
  readonly wrapTtlSeconds?: number;
  /** By which the standby that forwarded it will ask again, if it must. */
  readonly stamped?: StampedRequest | undefined;
};

export type Scene = {
  readonly services: Services;
  readonly isStandby: boolean;
  readonly earlyForward: boolean;
  readonly defaultLeaseTtlSeconds: number;
  /** Through which a stamped request writes; only on the active node. */
  readonly origin?: RequestOrigin | undefined;
};

const WRITES: ReadonlySet<Operation> = new Set(['create', 'update', 'patch', 'delete']);

/** What OpenBao's multierror makes of `ErrPermissionDenied`. */
const DENIED_BY_POLICY = asMultierror('permission denied');

export async function handleCancelableRequest(
  call: LogicalCall,
  scene: Scene,
): Promise<LogicalResponse | undefined> {
  const { services, isStandby, origin } = scene;
  checkCall(call);
  const namespace = services.namespaces.byPath(call.namespacePath);
  if (namespace === undefined) throw new ServerError('unsupported-path', 'namespace not found');
  const route = services.router.match(namespace, call.path);
  if (route === undefined) throw noRouteError(call, scene);
  const path = call.path.slice(route.mountPoint.length);
  if (isStandby && route.isForwarded(path)) throw standbyPleaseForwardError();
  if (route.isUnauthenticated(path)) return handleLoginRequest(call, scene, { route, path });

  const { token, acl } = checkToken(call, scene);
  if (token.numUses === 0) {
    const request = createRequest(call, scene, { route, path, token });
    // Named one by one: to spread an object costs a read microseconds.
    return authorizeAndHandle(request, route, { acl, isStandby, origin, fullPath: call.path });
  }
  const respond = (): Promise<LogicalResponse | undefined> =>
    handleLimitedUse(call, scene, { route, path, token, acl });
  // Counting the use is a write already.
  return origin === undefined ? respond() : origin.bracket(respond);
}

/** What is mounted where is told only to those who might ask for it (OpenBao: `CheckToken` first). */
function noRouteError(call: LogicalCall, scene: Scene): ServerError {
  const { acl } = checkToken(call, scene);
  if (!acl.check(call.operation, call.path, call.data).allowed) {
    return new ServerError('permission-denied', DENIED_BY_POLICY);
  }
  const reason = `no handler for route "${call.path}". route entry not found.`;
  return new ServerError('unsupported-path', reason);
}

/** Requests without a token: logins, and what the system backend answers to anyone. */
async function handleLoginRequest(
  call: LogicalCall,
  scene: Scene,
  { route, path }: { readonly route: Route; readonly path: string },
): Promise<LogicalResponse | undefined> {
  const { services, isStandby, earlyForward } = scene;
  // A login always ends in a stored token.
  const isLogin = route.entry.kind === 'auth' && call.operation === 'update';
  if (isLogin && isStandby && earlyForward) throw standbyPleaseForwardError();
  const token = call.clientToken === '' ? undefined : services.tokens.lookup(call.clientToken);
  // Some of these paths answer by the token; one that is unknown here may be known elsewhere.
  if (isStandby && token === undefined && call.clientToken !== '') {
    throw standbyPleaseForwardError();
  }
  return handleBy(route.backend, createRequest(call, scene, { route, path, token }), scene.origin);
}

/** Reads write nothing. A write is one transaction with its answer, or goes between two records. */
function handleBy(
  backend: Backend,
  request: LogicalRequest,
  origin: RequestOrigin | undefined,
): Promise<LogicalResponse | undefined> {
  const isPlain = origin === undefined || !mayWrite(request.operation);
  if (isPlain || backend.isOneTransaction?.(request) === true) {
    return backend.handle(request);
  }
  return origin.bracket(() => backend.handle(request));
}

/** Each use is counted durably before anything happens, and the last one ends the token. */
async function handleLimitedUse(
  call: LogicalCall,
  scene: Scene,
  parts: {
    readonly route: Route;
    readonly path: string;
    readonly token: TokenEntry;
    readonly acl: Acl;
  },
): Promise<LogicalResponse | undefined> {
  const { services, isStandby, earlyForward, origin } = scene;
  if (isStandby && earlyForward) throw standbyPleaseForwardError();
  const token = await services.tokens.useToken(parts.token);
  const request = createRequest(call, scene, { ...parts, token });
  try {
    const access = { acl: parts.acl, isStandby, origin, fullPath: call.path };
    return await authorizeAndHandle(request, parts.route, access);
  } finally {
    if (token.numUses === REVOCATION_PENDING) await services.tokens.revokeTree(token.id);
  }
}

export function mayWrite(operation: Operation): boolean {
  return WRITES.has(operation);
}

function checkCall(call: LogicalCall): void {
  if (call.wrapTtlSeconds !== undefined && call.wrapTtlSeconds > 0) {
    throw new ServerError('invalid-request', 'response wrapping is not supported');
  }
  if (isRelative(call.path)) {
    throw new ServerError('invalid-request', 'relative paths not supported');
  }
  const isWrite = call.operation === 'update' || call.operation === 'patch';
  if (isWrite && call.path.endsWith('/')) {
    throw new ServerError('invalid-request', "cannot write to a path ending in '/'");
  }
}

function isRelative(path: string): boolean {
  return path.includes('..') && path.split('/').includes('..');
}

/** OpenBao's `CheckToken` and `PopulateTokenEntry`: who is asking, and what may they do? */
function checkToken(call: LogicalCall, scene: Scene): { token: TokenEntry; acl: Acl } {
  const { tokens, policies } = scene.services;
  if (call.clientToken === '') throw permissionDenied();
  if (!scene.isStandby) {
    const token = tokens.lookup(call.clientToken);
    if (token === undefined) throw permissionDenied();
    return { token, acl: policies.acl(token.policies) };
  }
  try {
    const token = tokens.lookup(call.clientToken);
    if (token !== undefined) return { token, acl: policies.acl(token.policies) };
  } catch (error) {
    // Whatever is wrong with the copy here, the active node has the original.
    throw Object.assign(standbyPleaseForwardError(), { cause: error });
  }
  throw standbyPleaseForwardError();
}

function createRequest(
  call: LogicalCall,
  scene: Scene,
  {
    route,
    path,
    token,
  }: {
    readonly route: Route;
    readonly path: string;
    readonly token: TokenEntry | undefined;
  },
): LogicalRequest {
  return {
    id: call.id,
    operation: call.operation,
    path,
    mountPoint: route.mountPoint,
    mountAccessor: route.entry.accessor,
    mountOptions: route.entry.options,
    defaultLeaseTtlSeconds: route.entry.defaultLeaseTtlSeconds || scene.defaultLeaseTtlSeconds,
    namespace: route.namespace,
    data: call.data,
    stream: call.stream,
    clientToken: call.clientToken,
    token,
    view: route.view,
    transact: (change) =>
      scene.origin === undefined
        ? route.view.transact(change)
        : scene.origin.transact(route.view, change, (response) => response),
    origin: scene.origin,
    remoteAddress: call.remoteAddress,
  };
}

/** Policies are judged by the real operation: whether a write creates, only the backend knows. */
async function authorizeAndHandle(
  request: LogicalRequest,
  route: Route,
  access: Pick<Scene, 'isStandby' | 'origin'> & { readonly acl: Acl; readonly fullPath: string },
): Promise<LogicalResponse | undefined> {
  let judged = request;
  if (request.operation === 'update' && route.backend.exists !== undefined) {
    if (!(await route.backend.exists(request))) judged = { ...request, operation: 'create' };
  }
  const { acl, isStandby, fullPath, origin } = access;
  const { allowed, sudo, limit } = acl.check(judged.operation, fullPath, request.data);
  if (!allowed || (!sudo && route.needsSudo(request.path))) {
    // This node may lag: the same write may be of the other, permitted kind where it is current.
    const other = judged.operation === 'create' ? 'update' : 'create';
    const isWrite = judged.operation === 'create' || judged.operation === 'update';
    if (isStandby && isWrite && route.backend.exists !== undefined) {
      if (acl.check(other, fullPath, request.data).allowed) throw standbyPleaseForwardError();
    }
    throw new ServerError('permission-denied', DENIED_BY_POLICY);
  }
  if (limit !== undefined) judged = { ...judged, data: { ...judged.data, limit } };
  return handleBy(route.backend, judged, origin);
}

function permissionDenied(): ServerError {
  return new ServerError('permission-denied', 'permission denied');
}
