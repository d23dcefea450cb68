/**
 * Token roles: what `auth/token/create/<role>` may make (openbao internal/vault/token_store.go,
 * `tokenStoreRole*`). Kept below `roles/` in the mount's own storage.
 */

import type { JsonObject, LogicalRequest, LogicalResponse, View } from '../core/backend.ts';
import {
  booleanField,
  durationField,
  integerField,
  invalidRequest,
  stringField,
  stringListField,
} from './fields.ts';
import { listResponse } from './listing.ts';
import { sanitizePolicies } from './token-policies.ts';
import type { RolePolicies } from './token-policies.ts';

const TOKEN_TYPES = ['service', 'batch', 'default-service', 'default-batch'] as const;
type RoleTokenType = (typeof TOKEN_TYPES)[number];

export type TokenRole = RolePolicies & {
  readonly name: string;
  readonly orphan: boolean;
  readonly renewable: boolean;
  readonly pathSuffix: string;
  readonly tokenType: RoleTokenType;
  readonly periodSeconds: number;
  readonly explicitMaxTtlSeconds: number;
  readonly numUses: number;
  readonly allowedEntityAliases: readonly string[];
  /** Which of two fields was written by its name without `token_`, and is read back by both. */
  readonly legacyPeriodSeconds: number;
  readonly legacyExplicitMaxTtlSeconds: number;
};

const PREFIX = 'roles/';
const NAME = /^\w(?:[\w.-]*\w)?$/;
const PATH_SUFFIX = /\w[\w.-]+\w/;

export function readRole(view: View, name: string): TokenRole | undefined {
  const bytes = view.get(PREFIX + name);
  // Written by `writeRole`.
  return bytes === undefined ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as TokenRole);
}

export async function listRoles(view: View): Promise<LogicalResponse | undefined> {
  return listResponse(await view.list(PREFIX));
}

export async function deleteRole(view: View, name: string): Promise<undefined> {
  await view.delete(PREFIX + name);
  return undefined;
}

export async function writeRole(
  request: LogicalRequest,
  name: string,
  maxLeaseTtlSeconds: number,
): Promise<LogicalResponse | undefined> {
  const { data, view } = request;
  view.requireWritable?.();
  if (!NAME.test(name)) throw invalidRequest(`invalid role name ${JSON.stringify(name)}`);
  refuseUnsupported(data);
  const warnings: string[] = [];
  const existing = readRole(view, name);
  const role: TokenRole = {
    name,
    ...readPolicies(data, existing),
    ...readLifetimes(data, existing, warnings),
    orphan: booleanField(data, 'orphan') ?? existing?.orphan ?? false,
    renewable: booleanField(data, 'renewable') ?? existing?.renewable ?? true,
    pathSuffix: readPathSuffix(data) ?? existing?.pathSuffix ?? '',
    tokenType: readTokenType(data) ?? existing?.tokenType ?? 'default-service',
    numUses: positive(data, 'token_num_uses') ?? existing?.numUses ?? 0,
    allowedEntityAliases:
      lowered(data, 'allowed_entity_aliases') ?? existing?.allowedEntityAliases ?? [],
  };
  checkBatch(role);
  if (maxLeaseTtlSeconds < role.explicitMaxTtlSeconds) {
    warnings.push(
      `Given explicit max TTL of ${role.explicitMaxTtlSeconds} is greater than system/mount ` +
        `allowed value of ${maxLeaseTtlSeconds} seconds; until this is fixed attempting to ` +
        'create tokens against this role will result in an error',
    );
  }
  await view.put(PREFIX + name, Buffer.from(JSON.stringify(role)));
  return warnings.length === 0 ? undefined : { warnings };
}

export function roleResponse(role: TokenRole | undefined): LogicalResponse | undefined {
  if (role === undefined) return undefined;
  return {
    data: {
      period: role.legacyPeriodSeconds,
      token_period: role.periodSeconds,
      explicit_max_ttl: role.legacyExplicitMaxTtlSeconds,
      token_explicit_max_ttl: role.explicitMaxTtlSeconds,
      disallowed_policies: role.disallowedPolicies,
      allowed_policies: role.allowedPolicies,
      disallowed_policies_glob: role.disallowedPoliciesGlob,
      allowed_policies_glob: role.allowedPoliciesGlob,
      name: role.name,
      orphan: role.orphan,
      path_suffix: role.pathSuffix,
      renewable: role.renewable,
      token_type: role.tokenType,
      allowed_entity_aliases: role.allowedEntityAliases,
      token_no_default_policy: role.noDefaultPolicy,
      ...(role.numUses > 0 ? { token_num_uses: role.numUses } : {}),
    },
  };
}

/** A role that promised to bind tokens to addresses, and did not, would be worse than none. */
function refuseUnsupported(data: JsonObject): void {
  for (const name of ['token_bound_cidrs', 'bound_cidrs']) {
    if ((stringListField(data, name) ?? []).length > 0) {
      throw invalidRequest(`'${name}' is not supported`);
    }
  }
}

function readPolicies(data: JsonObject, existing: TokenRole | undefined): RolePolicies {
  return {
    allowedPolicies: sanitized(data, 'allowed_policies') ?? existing?.allowedPolicies ?? [],
    disallowedPolicies: lowered(data, 'disallowed_policies') ?? existing?.disallowedPolicies ?? [],
    allowedPoliciesGlob:
      sanitized(data, 'allowed_policies_glob') ?? existing?.allowedPoliciesGlob ?? [],
    disallowedPoliciesGlob:
      lowered(data, 'disallowed_policies_glob') ?? existing?.disallowedPoliciesGlob ?? [],
    noDefaultPolicy:
      booleanField(data, 'token_no_default_policy') ?? existing?.noDefaultPolicy ?? false,
  };
}

/** `token_period` goes before `period`, and likewise for the maximum. */
function readLifetimes(data: JsonObject, existing: TokenRole | undefined, warnings: string[]) {
  const pick = (name: string): { seconds: number; legacy: number } | undefined => {
    const current = durationField(data, `token_${name}`);
    const legacy = durationField(data, name);
    if (current === undefined) {
      return legacy === undefined ? undefined : { seconds: legacy, legacy };
    }
    if (legacy !== undefined) {
      warnings.push(
        `Both 'token_${name}' and deprecated '${name}' value supplied, ignoring the deprecated value`,
      );
    }
    return { seconds: current, legacy: 0 };
  };
  const period = pick('period');
  const maximum = pick('explicit_max_ttl');
  return {
    periodSeconds: period?.seconds ?? existing?.periodSeconds ?? 0,
    legacyPeriodSeconds: period?.legacy ?? existing?.legacyPeriodSeconds ?? 0,
    explicitMaxTtlSeconds: maximum?.seconds ?? existing?.explicitMaxTtlSeconds ?? 0,
    legacyExplicitMaxTtlSeconds: maximum?.legacy ?? existing?.legacyExplicitMaxTtlSeconds ?? 0,
  };
}

function readPathSuffix(data: JsonObject): string | undefined {
  const suffix = stringField(data, 'path_suffix');
  if (suffix === undefined || suffix === '') return suffix;
  if (!PATH_SUFFIX.test(suffix)) {
    throw invalidRequest(
      `given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w`,
    );
  }
  if (suffix.includes('..')) {
    throw invalidRequest('error registering path suffix: path cannot contain parent references');
  }
  return suffix;
}

function readTokenType(data: JsonObject): RoleTokenType | undefined {
  const text = stringField(data, 'token_type');
  if (text === undefined) return undefined;
  if (data['token_type'] === null) throw invalidRequest("Invalid 'token_type' value: null");
  const type = TOKEN_TYPES.find((known) => known === text);
  if (type === undefined) {
    throw invalidRequest(`invalid 'token_type' value ${JSON.stringify(text)}`);
  }
  return type;
}

function checkBatch(role: TokenRole): void {
  if (role.tokenType !== 'batch') return;
  const refuse = (what: string): never => {
    throw invalidRequest(`'token_type' cannot be 'batch' when role is set to generate ${what}`);
  };
  if (!role.orphan) refuse('non-orphan tokens');
  if (role.periodSeconds !== 0) refuse('periodic tokens');
  if (role.renewable) refuse('renewable tokens');
  if (role.explicitMaxTtlSeconds !== 0) refuse('tokens with an explicit max TTL');
}

function positive(data: JsonObject, name: string): number | undefined {
  const count = integerField(data, name);
  if (count !== undefined && count < 0) {
    throw invalidRequest(`error parsing role fields: '${name}' cannot be negative`);
  }
  return count;
}

function sanitized(data: JsonObject, name: string): string[] | undefined {
  const names = stringListField(data, name);
  return names === undefined ? undefined : sanitizePolicies(names, false);
}

function lowered(data: JsonObject, name: string): string[] | undefined {
  const names = stringListField(data, name)?.map((item) => item.trim().toLowerCase());
  return names === undefined
    ? undefined
    : [...new Set(names.filter((item) => item !== ''))].toSorted();
}
