/**
 * ACL policies at `sys/policies/acl` and at the older `sys/policy`, which says `rules` for
 * `policy` (OpenBao internal/vault/logical_system.go, handlePolicies*).
 */

import type { JsonObject, LogicalResponse } from '../core/backend.ts';
import { ROOT_NAMESPACE } from '../core/backend.ts';
import { ServerError } from '../errors.ts';
import { formatTime } from '../duration.ts';
import {
  booleanField,
  durationField,
  integerField,
  invalidRequest,
  ownField,
  stringField,
} from './fields.ts';
import { listResponse, withKeyInfo } from './listing.ts';
import type { PolicyChange, PolicyPort, PolicyRecord, SystemRequest } from './system-ports.ts';

export async function listPolicies(system: SystemRequest): Promise<LogicalResponse | undefined> {
  const keys = await policyNames(system);
  const response = listResponse(keys);
  if (response === undefined || !isLegacy(system)) return response;
  return { data: { keys, policies: keys } };
}

export async function listPoliciesDetailed(
  system: SystemRequest,
): Promise<LogicalResponse | undefined> {
  const keys = await policyNames(system);
  const records = keys.flatMap((name) => policiesOf(system).get(name) ?? []);
  return withKeyInfo(
    listResponse(keys),
    records.map((record) => [record.name, policyInfo(record)] as const),
  );
}

export function readPolicy(system: SystemRequest): LogicalResponse | undefined {
  const record = policiesOf(system).get(nameOf(system).name);
  if (record === undefined) return undefined;
  const info = policyInfo(record);
  if (!isLegacy(system)) return { data: info };
  const { policy, ...rest } = info;
  return { data: { ...rest, rules: policy ?? '' } };
}

export async function writePolicy(system: SystemRequest): Promise<LogicalResponse | undefined> {
  const { request } = system;
  const { data } = request;
  const { name, warnings } = nameOf(system);
  let text = stringField(data, 'policy') ?? '';
  if (text === '' && isLegacy(system)) {
    text = stringField(data, 'rules') ?? '';
    warnings.push("'rules' is deprecated, please use 'policy' instead");
  }
  const change = changeOf({
    text: policyText(text),
    casRequired: booleanField(data, 'cas_required') ?? false,
    cas: integerField(data, 'cas'),
    expireTimeMs: expireTimeOf(system),
  });
  request.view.requireWritable?.();
  await policiesOf(system).set(name, change);
  return warnings.length === 0 ? undefined : { warnings };
}

export async function patchPolicy(system: SystemRequest): Promise<LogicalResponse | undefined> {
  const { request } = system;
  const { data } = request;
  const { name, warnings } = nameOf(system);
  request.view.requireWritable?.();
  const current = policiesOf(system).get(name);
  if (current === undefined) throw new ServerError('unsupported-path', 'policy not found');
  const change = changeOf({
    text: policyText(stringField(data, 'policy') ?? current.text),
    casRequired: booleanField(data, 'cas_required') ?? current.casRequired,
    // Nobody may have written between the read above and this write.
    cas: integerField(data, 'cas') ?? current.version,
    expireTimeMs: expireTimeOf(system) ?? current.expireTimeMs,
  });
  await policiesOf(system).set(name, change);
  return warnings.length === 0 ? undefined : { warnings };
}

export async function deletePolicy(system: SystemRequest): Promise<undefined> {
  system.request.view.requireWritable?.();
  await policiesOf(system).delete(nameOf(system).name);
}

async function policyNames(system: SystemRequest): Promise<string[]> {
  const { request, captures } = system;
  const prefix = captures[0] ?? '';
  const names = await policiesOf(system).list();
  const matching = names.filter((name) => name !== 'root' && name.startsWith(prefix));
  const hasRoot = request.namespace.id === ROOT_NAMESPACE.id && prefix === '';
  return hasRoot ? [...matching, 'root'] : matching;
}

function policiesOf({ request, ports }: SystemRequest): PolicyPort {
  return ports.policies(request.namespace);
}

function policyInfo(record: PolicyRecord): JsonObject {
  return {
    name: record.name,
    version: record.version,
    cas_required: record.casRequired,
    policy: record.text,
    // Identity templates do not exist here; both are what OpenBao says of a policy without them.
    allow_wildcards_in_identity_templates: false,
    allow_slashes_in_identity_templates: false,
    ...(record.expireTimeMs === null ? {} : { expiration: formatTime(record.expireTimeMs) }),
    ...(record.modifiedMs === null ? {} : { modified: formatTime(record.modifiedMs) }),
  };
}

function nameOf({ captures }: SystemRequest): { name: string; warnings: string[] } {
  const given = captures[0] ?? '';
  const name = given.toLowerCase();
  return { name, warnings: given === name ? [] : [`policy name was converted to ${name}`] };
}

/** Policies may be sent in base64. */
function policyText(given: string): string {
  const text = given.trim() === '' ? '' : given;
  if (text === '') throw invalidRequest("'policy' parameter not supplied or empty");
  const compact = text.replaceAll(/[\r\n]/g, '');
  const isBase64 = compact.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(compact);
  return isBase64 ? Buffer.from(compact, 'base64').toString('utf8') : text;
}

function expireTimeOf({ request, ports }: SystemRequest): number | null {
  const { data } = request;
  const expiration = ownField(data, 'expiration');
  const ttlSeconds = durationField(data, 'ttl');
  if (expiration !== undefined && ttlSeconds !== undefined) {
    throw invalidRequest("cannot supply both 'expiration' and 'ttl' for policies");
  }
  const nowMs = ports.clock();
  let expirationMs: number | null = null;
  if (ttlSeconds !== undefined) expirationMs = nowMs + ttlSeconds * 1000;
  if (expiration !== undefined) {
    expirationMs =
      typeof expiration === 'number' ? expiration * 1000 : Date.parse(String(expiration));
    if (!Number.isFinite(expirationMs)) {
      throw invalidRequest(
        'Field validation failed: error converting input for field "expiration": not a time',
      );
    }
  }
  if (expirationMs !== null && expirationMs <= nowMs) {
    throw invalidRequest('refusing to update policy as expiration time has already elapsed');
  }
  return expirationMs;
}

function changeOf(change: {
  text: string;
  casRequired: boolean;
  cas: number | undefined;
  expireTimeMs: number | null;
}): PolicyChange {
  const { text, casRequired, cas, expireTimeMs } = change;
  return {
    text,
    casRequired,
    ...(cas === undefined ? {} : { cas }),
    ...(expireTimeMs === null ? {} : { expireTimeMs }),
  };
}

function isLegacy({ request }: SystemRequest): boolean {
  return /^policy(?:\/|$)/.test(request.path);
}
