/**
 * What a rule says of a request's fields: required, denied and allowed parameters, and the page
 * size of a list (openbao internal/vault/policy/acl.go, second half of `AllowOperation`).
 */

import { isDeepStrictEqual } from 'node:util';
import type { Permissions } from './acl.ts';
import type { Json, JsonObject } from './backend.ts';

type Constraints = Pick<
  Permissions,
  'requiredParameters' | 'deniedParameters' | 'allowedParameters' | 'paginationLimit'
>;

export function parametersAllowed(constraints: Constraints, data: JsonObject): boolean {
  for (const name of constraints.requiredParameters) {
    if (!Object.hasOwn(data, name.toLowerCase())) return false;
  }
  const fields = Object.entries(data);
  if (fields.length === 0) return true;
  const denied = constraints.deniedParameters;
  if (denied !== undefined && denied.size > 0) {
    if (denied.has('*')) return false;
    for (const [name, value] of fields) {
      const values = denied.get(name.toLowerCase());
      if (values !== undefined && listed(value, values)) return false;
    }
  }
  const allowed = constraints.allowedParameters;
  if (allowed === undefined || allowed.size === 0) return true;
  const allowsAll = allowed.has('*');
  return fields.every(([name, value]) => {
    const values = allowed.get(name.toLowerCase());
    return values === undefined ? allowsAll : listed(value, values);
  });
}

/**
 * The `limit` with which a list must run; undefined leaves it as it is. `max` asks for the largest
 * page allowed, also where none is set.
 */
export function replacementLimit(
  constraints: Constraints,
  data: JsonObject,
): string | 'refused' | undefined {
  const asked = Object.hasOwn(data, 'limit') ? data['limit'] : undefined;
  const largest = constraints.paginationLimit;
  if (largest <= 0) return asked === 'max' ? '0' : undefined;
  if (asked === undefined) {
    const isRequired = constraints.requiredParameters.some((p) => p.toLowerCase() === 'limit');
    return isRequired ? 'refused' : String(largest);
  }
  if (asked === 'max') return String(largest);
  const isNumber = typeof asked === 'number' || (typeof asked === 'string' && asked.trim() !== '');
  const limit = isNumber ? Number(asked) : Number.NaN;
  if (!Number.isSafeInteger(limit) || limit < 0 || limit > largest) return 'refused';
  return limit === 0 ? String(largest) : undefined;
}

/** An empty list holds every value. Strings may begin or end with `*`. */
function listed(value: Json, values: readonly Json[]): boolean {
  if (values.length === 0) return true;
  return values.some((pattern) =>
    typeof pattern === 'string' && typeof value === 'string'
      ? globMatches(pattern, value)
      : isDeepStrictEqual(pattern, value),
  );
}

/** `*` at the beginning, at the end or both (go-secure-stdlib strutil, `GlobbedStringsMatch`). */
export function globMatches(pattern: string, value: string): boolean {
  if (pattern.length < 2) return pattern === '*' || pattern === value;
  const hasPrefix = pattern.startsWith('*');
  const hasSuffix = pattern.endsWith('*');
  if (hasPrefix && hasSuffix) return value.includes(pattern.slice(1, -1));
  if (hasPrefix) return value.endsWith(pattern.slice(1));
  if (hasSuffix) return value.startsWith(pattern.slice(0, -1));
  return pattern === value;
}
