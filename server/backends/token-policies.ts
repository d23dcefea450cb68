/**
 * Which policies a new token gets (openbao internal/vault/token_store.go, `resolveTokenPolicies`;
 * sdk/helper/policyutil, `SanitizePolicies`).
 */

import { invalidRequest } from './fields.ts';

/** Grants nothing by itself to whoever could choose it: only response wrapping hands it out. */
const NON_ASSIGNABLE = 'response-wrapping';

export type RolePolicies = {
  readonly allowedPolicies: readonly string[];
  readonly disallowedPolicies: readonly string[];
  readonly allowedPoliciesGlob: readonly string[];
  readonly disallowedPoliciesGlob: readonly string[];
  readonly noDefaultPolicy: boolean;
};

export type PolicyRequest = {
  readonly requested: readonly string[];
  readonly noDefaultPolicy: boolean;
  readonly parentPolicies: readonly string[];
  readonly hasSudo: boolean;
  readonly role: RolePolicies | undefined;
};

/** Sorted and without duplicates. Throws `invalid-request`. */
export function resolvePolicies(request: PolicyRequest): string[] {
  const { names, addDefault } = choosePolicies(request);
  let policies = sanitizePolicies(names, addDefault);
  if (request.noDefaultPolicy) policies = policies.filter((name) => name !== 'default');
  if (policies.includes(NON_ASSIGNABLE)) {
    throw invalidRequest(`cannot assign policy "${NON_ASSIGNABLE}"`);
  }
  return policies;
}

/** Lower case, sorted, each once; `root` swallows all others. */
export function sanitizePolicies(names: readonly string[], addDefault: boolean): string[] {
  const clean = names.map((name) => name.trim().toLowerCase()).filter((name) => name !== '');
  if (clean.includes('root')) return ['root'];
  return [...new Set(addDefault ? [...clean, 'default'] : clean)].toSorted();
}

/** `*` stands for any characters, anywhere (ryanuber/go-glob). */
export function globMatches(pattern: string, value: string): boolean {
  const [head = '', ...rest] = pattern.split('*');
  const tail = rest.pop();
  if (tail === undefined) return value === pattern;
  if (!value.startsWith(head)) return false;
  let offset = head.length;
  for (const part of rest) {
    const found = value.indexOf(part, offset);
    if (found === -1) return false;
    offset = found + part.length;
  }
  return offset + tail.length <= value.length && value.endsWith(tail);
}

type Choice = { readonly names: readonly string[]; readonly addDefault: boolean };

function choosePolicies(request: PolicyRequest): Choice {
  const { requested, role, parentPolicies, noDefaultPolicy } = request;
  if (role !== undefined && restricts(role)) {
    return { names: policiesByRole(request, role), addDefault: false };
  }
  // `default` is inherited only if the parent has it.
  if (requested.length === 0) return { names: parentPolicies, addDefault: false };
  if (request.hasSudo) return { names: requested, addDefault: !noDefaultPolicy };
  const parent = sanitizePolicies(parentPolicies, false);
  if (!sanitizePolicies(requested, false).every((name) => parent.includes(name))) {
    throw invalidRequest('child policies must be subset of parent');
  }
  return { names: requested, addDefault: !noDefaultPolicy && parent.includes('default') };
}

function restricts(role: RolePolicies): boolean {
  return (
    role.allowedPolicies.length > 0 ||
    role.disallowedPolicies.length > 0 ||
    role.allowedPoliciesGlob.length > 0 ||
    role.disallowedPoliciesGlob.length > 0
  );
}

/** A role that allows or disallows policies replaces the comparison with the parent. */
function policiesByRole(request: PolicyRequest, role: RolePolicies): string[] {
  const addDefault =
    !request.noDefaultPolicy &&
    !role.noDefaultPolicy &&
    !role.disallowedPolicies.includes('default') &&
    !role.disallowedPoliciesGlob.some((glob) => globMatches(glob, 'default'));
  const requested =
    request.requested.length === 0 ? [] : sanitizePolicies(request.requested, addDefault);
  const policies = allowedByRole(request, role, requested, addDefault);
  for (const name of policies) {
    const isDisallowed =
      role.disallowedPolicies.includes(name) ||
      role.disallowedPoliciesGlob.some((glob) => globMatches(glob, name));
    if (isDisallowed) {
      throw invalidRequest(`token policy ${JSON.stringify(name)} is disallowed by this role`);
    }
  }
  return policies;
}

function allowedByRole(
  request: PolicyRequest,
  role: RolePolicies,
  requested: string[],
  addDefault: boolean,
): string[] {
  if (role.allowedPolicies.length === 0 && role.allowedPoliciesGlob.length === 0) {
    if (requested.length > 0) return requested;
    return sanitizePolicies(request.parentPolicies, addDefault);
  }
  const allowed = sanitizePolicies(role.allowedPolicies, addDefault);
  if (requested.length === 0) return allowed;
  const globs = sanitizePolicies(role.allowedPoliciesGlob, false);
  const isAllowed = (name: string): boolean =>
    allowed.includes(name) || globs.some((glob) => globMatches(glob, name));
  if (requested.every(isAllowed)) return requested;
  throw invalidRequest(
    `token policies (${quoteList(requested)}) must be subset of the role's allowed policies ` +
      `(${quoteList(allowed)}) or glob policies (${quoteList(globs)})`,
  );
}

/** Go's `%q` of a list: `["a" "b"]`. */
function quoteList(names: readonly string[]): string {
  return `[${names.map((name) => JSON.stringify(name)).join(' ')}]`;
}
