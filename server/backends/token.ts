/**
 * The token auth method, mounted at `auth/token/`: what clients may ask of the token store
 * (openbao internal/vault/token_store.go, `paths` and the handlers). Making tokens is
 * `token-create.ts`, roles are `token-roles.ts`.
 *
 * A request that writes asks for a writable store before it looks at anything: a standby that has
 * not seen a token yet must forward its renewal, not say that there is no such token.
 */

import type {
  Backend,
  JsonObject,
  LogicalRequest,
  LogicalResponse,
  Operation,
  TokenEntry,
} from '../core/backend.ts';
import {
  ServerError,
  asMultierror,
  unsupportedOperationError,
  unsupportedPathError,
} from '../errors.ts';
import { formatTime } from '../duration.ts';
import { durationField, invalidRequest, stringField } from './fields.ts';
import { createToken } from './token-create.ts';
import type { TokenGrant, TokenPorts } from './token-ports.ts';
import { deleteRole, listRoles, readRole, roleResponse, writeRole } from './token-roles.ts';

type Handler = (ports: TokenPorts, request: LogicalRequest) => Promise<LogicalResponse | undefined>;
type Route = { readonly [operation in Operation]?: Handler };

/** The token that `sys/init` hands out; it has no lease. */
const INITIAL_ROOT_PATH = 'auth/token/root';

const ROUTES: { readonly [path: string]: Route } = {
  create: { update: write((p, r) => createToken(p, r, { asOrphan: false, role: undefined })) },
  'create-orphan': {
    update: write((p, r) => createToken(p, r, { asOrphan: true, role: undefined })),
  },
  lookup: { read: lookup, update: lookup },
  'lookup-self': { read: lookupSelf, update: lookupSelf },
  'lookup-accessor': { update: lookupAccessor },
  renew: { update: write(renew) },
  'renew-self': { update: write(renewSelf) },
  'renew-accessor': { update: write(renewAccessor) },
  revoke: { update: write(revoke) },
  'revoke-self': { update: write(revokeSelf) },
  'revoke-orphan': { update: write(revokeOrphan) },
  'revoke-accessor': { update: write(revokeAccessor) },
  accessors: { list: listAccessors },
  tidy: { update: write(tidy) },
  roles: { list: (_ports, request) => listRoles(request.view) },
};

const ROLE_ROUTE: Route = {
  read: async (_ports, request) => roleResponse(readRole(request.view, nameIn(request))),
  update: write(changeRole),
  delete: write((_ports, request) => deleteRole(request.view, nameIn(request))),
};

const CREATE_BY_ROLE_ROUTE: Route = {
  update: write(async (ports, request) => {
    const role = readRole(request.view, nameIn(request));
    if (role === undefined) throw invalidRequest(`unknown role ${nameIn(request)}`);
    return createToken(ports, request, { asOrphan: false, role });
  }),
};

export function createTokenBackend(ports: TokenPorts): Backend {
  return {
    type: 'token',
    specialPaths: { root: ['revoke-orphan/*', 'accessors*'], unauthenticated: [], forward: [] },
    async handle(request) {
      const route = routeOf(request);
      if (route === undefined) throw unsupportedPathError();
      // Only roles tell a first write from a later one.
      const operation = request.operation === 'create' ? 'update' : request.operation;
      const handler = route[operation];
      if (handler === undefined) {
        throw unsupportedOperationError();
      }
      return handler(ports, request);
    },
    // A token is made in one transaction, and looking one up writes nothing.
    isOneTransaction: ({ path }) => path.startsWith('create') || path.startsWith('lookup'),
    async exists(request) {
      if (!request.path.startsWith('roles/')) return true;
      return readRole(request.view, nameIn(request)) !== undefined;
    },
  };
}

/** Only lists may end in a slash: a policy that refuses `lookup` says nothing of `lookup/`. */
function routeOf({ path, operation }: LogicalRequest): Route | undefined {
  const isListed = operation === 'list' && path.endsWith('/');
  const name = isListed ? path.slice(0, -1) : path;
  if (Object.hasOwn(ROUTES, name)) return ROUTES[name];
  if (/^roles\/[^/]+$/.test(path)) return ROLE_ROUTE;
  return /^create\/[^/]+$/.test(path) ? CREATE_BY_ROLE_ROUTE : undefined;
}

/** The role in `roles/<name>` and `create/<name>`. */
function nameIn(request: LogicalRequest): string {
  return request.path.slice(request.path.indexOf('/') + 1);
}

function write(handler: Handler): Handler {
  return async (ports, request) => {
    ports.tokens.requireWritable();
    return handler(ports, request);
  };
}

async function changeRole(
  ports: TokenPorts,
  request: LogicalRequest,
): Promise<LogicalResponse | undefined> {
  return writeRole(request, nameIn(request), ports.maxLeaseTtlSeconds);
}

async function lookup(ports: TokenPorts, request: LogicalRequest): Promise<LogicalResponse> {
  return { data: describe(ports, stringField(request.data, 'token') || request.clientToken) };
}

async function lookupSelf(ports: TokenPorts, request: LogicalRequest): Promise<LogicalResponse> {
  return { data: describe(ports, request.clientToken) };
}

async function lookupAccessor(
  ports: TokenPorts,
  request: LogicalRequest,
): Promise<LogicalResponse> {
  const { id } = tokenByAccessor(ports, request);
  return { data: { ...describe(ports, id), id: '' } };
}

async function renew(ports: TokenPorts, request: LogicalRequest): Promise<LogicalResponse> {
  return renewById(ports, request, requiredToken(request));
}

async function renewSelf(ports: TokenPorts, request: LogicalRequest): Promise<LogicalResponse> {
  return renewById(ports, request, request.clientToken);
}

async function renewAccessor(ports: TokenPorts, request: LogicalRequest): Promise<LogicalResponse> {
  const response = await renewById(ports, request, tokenByAccessor(ports, request).id);
  return response.auth === undefined
    ? response
    : { ...response, auth: { ...response.auth, clientToken: '' } };
}

async function renewById(
  ports: TokenPorts,
  request: LogicalRequest,
  id: string,
): Promise<LogicalResponse> {
  const incrementSeconds = durationField(request.data, 'increment') ?? 0;
  const entry = ports.tokens.lookup(id);
  if (entry === undefined) throw invalidRequest('token not found');
  if (entry.type === 'batch') throw invalidRequest('batch tokens cannot be renewed');
  const grant = await ports.tokens.renew(id, { incrementSeconds, ...limitsOf(entry, request) });
  return grantResponse(grant);
}

/** Of a token made with a role, the role's limits as they are now, else its own. */
function limitsOf(entry: TokenEntry, request: LogicalRequest) {
  if (entry.role === undefined) {
    const { periodSeconds, explicitMaxTtlSeconds } = entry;
    return { periodSeconds, explicitMaxTtlSeconds };
  }
  const role = readRole(request.view, entry.role);
  if (role === undefined) {
    throw invalidRequest(
      `original token role ${JSON.stringify(entry.role)} could not be found, not renewing`,
    );
  }
  return {
    periodSeconds: role.periodSeconds,
    explicitMaxTtlSeconds: role.explicitMaxTtlSeconds,
  };
}

function grantResponse({ auth, warnings }: TokenGrant): LogicalResponse {
  return warnings.length === 0 ? { auth } : { auth, warnings };
}

async function revoke(ports: TokenPorts, request: LogicalRequest): Promise<undefined> {
  return revokeById(ports, requiredToken(request));
}

async function revokeSelf(ports: TokenPorts, request: LogicalRequest): Promise<undefined> {
  return revokeById(ports, request.clientToken);
}

/** Silent about a token that does not exist. */
async function revokeById(ports: TokenPorts, id: string): Promise<undefined> {
  const entry = ports.tokens.lookupTainted(id);
  if (entry === undefined) return undefined;
  if (entry.type === 'batch') throw invalidRequest('batch tokens cannot be revoked');
  await ports.tokens.revokeTree(id);
  return undefined;
}

async function revokeOrphan(ports: TokenPorts, request: LogicalRequest): Promise<undefined> {
  const id = requiredToken(request);
  if (!ports.hasSudo(request)) {
    throw invalidRequest('root or sudo privileges required to revoke and orphan');
  }
  const entry = ports.tokens.lookup(id);
  if (entry === undefined) throw invalidRequest('token to revoke not found');
  if (entry.type === 'batch') throw invalidRequest('batch tokens cannot be revoked');
  await ports.tokens.revokeOrphan(id);
  return undefined;
}

async function revokeAccessor(
  ports: TokenPorts,
  request: LogicalRequest,
): Promise<LogicalResponse | undefined> {
  const entry = ports.tokens.lookupAccessor(requiredAccessor(request));
  if (entry === undefined) return { warnings: ['No token found with this accessor'] };
  await ports.tokens.revokeTree(entry.id);
  return undefined;
}

async function listAccessors(
  ports: TokenPorts,
  _request: LogicalRequest,
): Promise<LogicalResponse> {
  return { data: { keys: await ports.tokens.listAccessors() } };
}

/** A token is stored with its indexes in one write, so nothing can be left over to tidy. */
async function tidy(): Promise<LogicalResponse> {
  return {
    status: 202,
    warnings: [
      'Nothing to tidy: tokens and their indexes are stored and removed atomically, and expired ' +
        'tokens are revoked as they expire.',
    ],
  };
}

function requiredToken(request: LogicalRequest): string {
  const id = stringField(request.data, 'token') ?? '';
  if (id === '') throw invalidRequest('missing token ID');
  return id;
}

function requiredAccessor(request: LogicalRequest): string {
  const accessor = stringField(request.data, 'accessor') ?? '';
  if (accessor === '') throw invalidRequest(asMultierror('missing accessor'));
  return accessor;
}

function tokenByAccessor(ports: TokenPorts, request: LogicalRequest): TokenEntry {
  const entry = ports.tokens.lookupAccessor(requiredAccessor(request));
  if (entry === undefined) throw invalidRequest(asMultierror('invalid accessor'));
  return entry;
}

/** The parent is left out on purpose: who knew it could act with its rights. */
function describe(ports: TokenPorts, id: string): JsonObject {
  if (id === '') throw invalidRequest('missing token ID');
  const entry = ports.tokens.lookupTainted(id);
  if (entry === undefined) throw new ServerError('permission-denied', 'bad token');
  return {
    id: entry.id,
    accessor: entry.accessor,
    policies: entry.policies,
    path: entry.path,
    meta: entry.meta,
    display_name: entry.displayName,
    num_uses: entry.numUses,
    orphan: entry.orphan,
    creation_time: Math.floor(entry.creationTimeMs / 1000),
    creation_ttl: entry.creationTtlSeconds,
    expire_time: entry.expireTimeMs === null ? null : formatTime(entry.expireTimeMs),
    ttl: ttlOf(entry, ports.clock()),
    explicit_max_ttl: entry.explicitMaxTtlSeconds,
    entity_id: '',
    type: entry.type,
    ...(entry.role === undefined ? {} : { role: entry.role }),
    ...(entry.periodSeconds === 0 ? {} : { period: entry.periodSeconds }),
    ...(entry.lastRenewalMs === null
      ? {}
      : {
          last_renewal: formatTime(entry.lastRenewalMs),
          last_renewal_time: Math.floor(entry.lastRenewalMs / 1000),
        }),
    ...(entry.path === INITIAL_ROOT_PATH
      ? {}
      : { renewable: entry.renewable, issue_time: formatTime(entry.creationTimeMs) }),
  };
}

/** Seconds left, counted from the nearest whole second as in OpenBao. */
function ttlOf(entry: TokenEntry, nowMs: number): number {
  if (entry.expireTimeMs === null) return 0;
  return Math.trunc((entry.expireTimeMs - Math.round(nowMs / 1000) * 1000) / 1000);
}
