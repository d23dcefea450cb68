/**
 * `auth/token/create`, `create-orphan` and `create/<role>`
 * (openbao internal/vault/token_store.go, `handleCreateCommon`).
 */

import type { JsonObject, LogicalRequest, LogicalResponse, TokenType } from '../core/backend.ts';
import { parseDurationSeconds } from '../duration.ts';
import {
  booleanField,
  integerField,
  invalidRequest,
  isJsonObject,
  stringField,
  stringListField,
  stringMapField,
} from './fields.ts';
import { resolvePolicies } from './token-policies.ts';
import type { NewToken, TokenGrant, TokenPorts } from './token-ports.ts';
import type { TokenRole } from './token-roles.ts';

export type CreateMode = {
  /** By way of `create-orphan`, which a policy can allow without sudo. */
  readonly asOrphan: boolean;
  readonly role: TokenRole | undefined;
};

export async function createToken(
  ports: TokenPorts,
  request: LogicalRequest,
  mode: CreateMode,
): Promise<LogicalResponse> {
  const { data, clientToken } = request;
  const parent = ports.tokens.lookup(clientToken);
  if (parent === undefined) throw invalidRequest('parent token lookup failed: no parent found');
  if (parent.type === 'batch') throw invalidRequest('batch tokens cannot create more tokens');
  if (parent.numUses > 0) throw invalidRequest('restricted use token cannot generate child tokens');
  const hasSudo = ports.hasSudo(request);
  const { role } = mode;
  const warnings: string[] = [];
  const type = readType(data, role);
  refuseEntityAlias(data, role);
  const id = stringField(data, 'id') ?? '';
  if (id !== '' && !hasSudo) {
    throw invalidRequest('root or sudo privileges required to specify token id');
  }
  const policies = resolvePolicies({
    requested: readPolicyNames(data),
    noDefaultPolicy: booleanField(data, 'no_default_policy') ?? false,
    parentPolicies: parent.policies,
    hasSudo,
    role,
  });
  if (policies.includes('root')) {
    if (!parent.policies.includes('root')) {
      throw invalidRequest('root tokens may not be created without parent token being root');
    }
    if (type === 'batch') throw invalidRequest('batch tokens cannot be root tokens');
  }
  const spec: NewToken = {
    id,
    type,
    policies,
    path: pathOf(request.path, role),
    meta: readMeta(data),
    displayName: readDisplayName(data),
    parent: isOrphan(data, mode, hasSudo) ? '' : clientToken,
    role: role?.name ?? '',
    numUses: readNumUses(data, role),
    renewable: (booleanField(data, 'renewable') ?? true) && (role?.renewable ?? true),
    ...readLifetimes(data, { role: type === 'batch' ? undefined : role, hasSudo, warnings }),
  };
  if (livesForever(spec) && parent.expireTimeMs !== null) {
    throw invalidRequest('expiring root tokens cannot create non-expiring root tokens');
  }
  const missing = policies.filter((name) => !ports.policyExists(name));
  const answer = (grant: TokenGrant): LogicalResponse => {
    const all = [
      ...warnings,
      ...grant.warnings,
      ...missing.map((name) => `Policy ${JSON.stringify(name)} does not exist`),
    ];
    return all.length === 0 ? { auth: grant.auth } : { auth: grant.auth, warnings: all };
  };
  return answer(await ports.tokens.create(spec, { origin: request.origin, answer }));
}

/** The role's type is a default, or a rule. Limits that a batch token cannot keep are refused. */
function readType(data: JsonObject, role: TokenRole | undefined): TokenType {
  let type = stringField(data, 'type') ?? '';
  if (role?.tokenType === 'service' || role?.tokenType === 'batch') type = role.tokenType;
  else if (role?.tokenType === 'default-batch' && type === '') type = 'batch';
  if (type === '' || type === 'service') return 'service';
  if (type !== 'batch') throw invalidRequest("invalid 'token_type' value");
  for (const name of ['explicit_max_ttl', 'num_uses', 'period']) {
    const isNumUses = name === 'num_uses';
    const value = isNumUses ? integerField(data, name) : parseDurationSeconds(data[name] ?? '');
    if (value === undefined && !isNumUses) {
      throw invalidRequest(`'${name}' value could not be parsed`);
    }
    if ((value ?? 0) !== 0) throw invalidRequest(`batch tokens cannot have "${name}" set`);
  }
  return 'batch';
}

function refuseEntityAlias(data: JsonObject, role: TokenRole | undefined): void {
  if ((stringField(data, 'entity_alias') ?? '') === '') return;
  throw invalidRequest(
    role === undefined
      ? "'entity_alias' is only allowed in combination with token role"
      : "invalid 'entity_alias' value",
  );
}

/** A list of names; unlike most lists of OpenBao, one string is one name. */
function readPolicyNames(data: JsonObject): readonly string[] {
  const value = data['policies'];
  if (typeof value === 'string') return value === '' ? [] : [value];
  return stringListField(data, 'policies') ?? [];
}

/** A map, or a list of `key=value`. Absent is null, empty is empty. */
function readMeta(data: JsonObject): { readonly [key: string]: string } | null {
  const value = data['meta'];
  if (value === undefined || isJsonObject(value)) return stringMapField(data, 'meta') ?? null;
  const pairs = stringListField(data, 'meta') ?? [];
  return Object.fromEntries(
    pairs.map((pair) => {
      const split = pair.indexOf('=');
      if (split === -1) throw invalidRequest(`invalid key pair ${JSON.stringify(pair)}`);
      return [pair.slice(0, split), pair.slice(split + 1)];
    }),
  );
}

function readDisplayName(data: JsonObject): string {
  const name = stringField(data, 'display_name') ?? '';
  if (name === '') return 'token';
  return `token-${name}`.replaceAll(/[^a-zA-Z0-9-]/g, '-').replace(/-$/, '');
}

function pathOf(path: string, role: TokenRole | undefined): string {
  const suffix = role === undefined || role.pathSuffix === '' ? '' : `/${role.pathSuffix}`;
  return `auth/token/${path}${suffix}`;
}

function readNumUses(data: JsonObject, role: TokenRole | undefined): number {
  const asked = integerField(data, 'num_uses') ?? 0;
  if (asked < 0) throw invalidRequest('number of uses cannot be negative');
  const limit = role?.numUses ?? 0;
  if (asked === 0 || limit === 0) return Math.max(asked, limit);
  return Math.min(asked, limit);
}

function isOrphan(data: JsonObject, { asOrphan, role }: CreateMode, hasSudo: boolean): boolean {
  if (role !== undefined) return role.orphan;
  if (booleanField(data, 'no_parent') !== true) return asOrphan;
  if (!hasSudo) {
    throw invalidRequest('root or sudo privileges required to create orphan token');
  }
  return true;
}

type LifetimeContext = {
  readonly role: TokenRole | undefined;
  readonly hasSudo: boolean;
  readonly warnings: string[];
};

function readLifetimes(data: JsonObject, context: LifetimeContext) {
  const { role, warnings } = context;
  const explicitMaxTtlSeconds = readDuration(data, 'explicit_max_ttl');
  const periodSeconds = readDuration(data, 'period');
  if (periodSeconds > 0 && !context.hasSudo) {
    throw invalidRequest('root or sudo privileges required to create periodic token');
  }
  const roleExplicitMaxTtlSeconds = role?.explicitMaxTtlSeconds ?? 0;
  const rolePeriodSeconds = role?.periodSeconds ?? 0;
  if (roleExplicitMaxTtlSeconds > 0 && explicitMaxTtlSeconds > 0) {
    const lesser = Math.min(roleExplicitMaxTtlSeconds, explicitMaxTtlSeconds);
    warnings.push(
      'Explicit max TTL specified both during creation call and in role; ' +
        `using the lesser value of ${lesser} seconds`,
    );
  }
  if (rolePeriodSeconds > 0 && periodSeconds > 0) {
    const lesser = Math.min(rolePeriodSeconds, periodSeconds);
    warnings.push(
      'Period specified both during creation call and in role; ' +
        `using the lesser value of ${lesser} seconds`,
    );
  }
  return {
    ttlSeconds: readDuration(data, (stringField(data, 'ttl') ?? '') === '' ? 'lease' : 'ttl'),
    periodSeconds,
    explicitMaxTtlSeconds,
    rolePeriodSeconds,
    roleExplicitMaxTtlSeconds,
  };
}

/** 0 if absent. */
function readDuration(data: JsonObject, name: string): number {
  const text = stringField(data, name) ?? '';
  const seconds = parseDurationSeconds(text);
  if (seconds === undefined) {
    throw invalidRequest(`time: invalid duration ${JSON.stringify(text)}`);
  }
  if (seconds < 0) throw invalidRequest(`${name} must be positive`);
  return seconds;
}

function livesForever(spec: NewToken): boolean {
  return (
    spec.policies.includes('root') &&
    spec.ttlSeconds === 0 &&
    spec.periodSeconds === 0 &&
    spec.explicitMaxTtlSeconds === 0 &&
    spec.rolePeriodSeconds === 0 &&
    spec.roleExplicitMaxTtlSeconds === 0
  );
}
