/**
 * Several policies compiled into one answer: may this operation on this path happen?
 *
 * Follows openbao internal/vault/policy/acl.go (`NewACL`, `AllowOperation`, `Capabilities`,
 * `CheckAllowedFromNonExactPaths`). An exact rule beats all others. Among the rest OpenBao prefers,
 * in this order: the later first wildcard or glob; no final glob; fewer `+`; the longer; the
 * lexicographically greater.
 *
 * The first criterion is the length of the literal head of a rule, so all inexact rules live in one
 * radix tree keyed by that head: walking down a path meets the rules in rising priority, the
 * deepest match wins, and the other criteria only sort the few rules of one node. A check touches
 * each character of the path once and allocates nothing.
 */

import assert from 'node:assert/strict';
import type { Json, JsonObject, Operation } from './backend.ts';
import { CAPABILITY } from './policy.ts';
import type { CapabilityName, ParameterRules, PathRules, Policy } from './policy.ts';
import { lesserBound } from './bounds.ts';
import { parametersAllowed, replacementLimit } from './acl-parameters.ts';
import { RadixTree } from './radix-tree.ts';

export type AclResult = {
  readonly allowed: boolean;
  /** Whether the rule grants `sudo`, which paths marked as root need besides `allowed`. */
  readonly sudo: boolean;
  /** A list must run with this instead of the `limit` in its data (`pagination_limit`, `max`). */
  readonly limit?: string;
};

export type Acl = {
  /** True if the token's only policy is `root`: everything is allowed. */
  readonly isRoot: boolean;
  /** When a rule expires and the policies must be compiled again; null means never. */
  readonly expireTimeMs: number | null;
  /** `wrapTtlSeconds` is what the client asked for; 0 if the response is not to be wrapped. */
  check(operation: Operation, path: string, data: JsonObject, wrapTtlSeconds?: number): AclResult;
  /** Sorted, as sys/capabilities prints them; `['deny']` for none, `['root']` for root. */
  capabilities(path: string): string[];
  /** Whether anything below this mount (a path ending in `/`) is granted. */
  hasMountAccess(mountPath: string): boolean;
};

/** What the rules for one path grant together. */
export type Permissions = {
  capabilities: number;
  allowedParameters: ParameterRules | undefined;
  deniedParameters: ParameterRules | undefined;
  requiredParameters: readonly string[];
  minWrappingTtlSeconds: number;
  maxWrappingTtlSeconds: number;
  paginationLimit: number;
  /** False if `check` may decide by the capabilities alone. */
  hasConstraints: boolean;
};

const ALLOWED: AclResult = { allowed: true, sudo: false };
const ALLOWED_SUDO: AclResult = { allowed: true, sudo: true };
const DENIED: AclResult = { allowed: false, sudo: false };
const DENIED_SUDO: AclResult = { allowed: false, sudo: true };
const NO_PARAMETERS: readonly Json[] = [];

const CAPABILITY_OF: { readonly [operation in Operation]: number } = {
  create: CAPABILITY.create,
  read: CAPABILITY.read,
  update: CAPABILITY.update,
  patch: CAPABILITY.patch,
  delete: CAPABILITY.delete,
  list: CAPABILITY.list,
  scan: CAPABILITY.scan,
  help: 0,
};

const ROOT_ACL: Acl = {
  isRoot: true,
  expireTimeMs: null,
  check: () => ALLOWED_SUDO,
  capabilities: () => ['root'],
  hasMountAccess: () => true,
};

/**
 * Rules that expired before `nowMs` are left out. Throws if `root` comes together with others,
 * which no token may have.
 */
export function compileAcl(policies: readonly Policy[], nowMs: number): Acl {
  if (policies.some((policy) => policy.name === 'root')) {
    assert(policies.length === 1, 'other policies present along with root');
    return ROOT_ACL;
  }
  const live = policies
    .flatMap((policy) => policy.paths)
    .filter((rules) => rules.expireTimeMs === null || nowMs <= rules.expireTimeMs);
  const expirations = live.flatMap((rules) => rules.expireTimeMs ?? []);
  return new CompiledAcl(live, expirations.length === 0 ? null : Math.min(...expirations));
}

/** A rule that is not exact, within the node of its literal head. */
type InexactRule = {
  readonly path: string;
  readonly isPrefix: boolean;
  /** Segments of the path without its final `*`, from the one that holds the first `+`. */
  readonly segments: readonly string[];
  /** Where those segments begin in a path; -1 for a plain prefix, which always matches here. */
  readonly segmentsStart: number;
  readonly wildcardCount: number;
  readonly permissions: Permissions;
};

class CompiledAcl implements Acl {
  readonly isRoot = false;
  readonly expireTimeMs: number | null;
  readonly #exact = new Map<string, Permissions>();
  readonly #inexact = new RadixTree<InexactRule[]>();
  readonly #inexactRules: InexactRule[] = [];
  /** Rule lists met on the way down, reused by each check: checks are synchronous. */
  readonly #visited: InexactRule[][] = [];

  constructor(rules: readonly PathRules[], expireTimeMs: number | null) {
    this.expireTimeMs = expireTimeMs;
    const wildcard = new Map<string, Permissions>();
    const prefix = new Map<string, Permissions>();
    for (const rule of rules) {
      const target = rule.hasSegmentWildcards ? wildcard : rule.isPrefix ? prefix : this.#exact;
      const existing = target.get(rule.path);
      if (existing === undefined) target.set(rule.path, permissionsOf(rule));
      else merge(existing, rule);
    }
    for (const [path, permissions] of prefix) this.#add(prefixRule(path, permissions), path);
    for (const [path, permissions] of wildcard) {
      this.#add(wildcardRule(path, permissions), path.slice(0, path.indexOf('+')));
    }
    this.#inexact.forEach((found) => found.sort(comparePriority));
  }

  check(operation: Operation, path: string, data: JsonObject, wrapTtlSeconds = 0): AclResult {
    if (operation === 'help') return ALLOWED;
    const isListing = operation === 'list' || operation === 'scan';
    const permissions = this.#find(path, isListing);
    if (permissions === undefined) return DENIED;
    const { capabilities } = permissions;
    const sudo = (capabilities & CAPABILITY.sudo) !== 0;
    const refused = sudo ? DENIED_SUDO : DENIED;
    const granted = sudo ? ALLOWED_SUDO : ALLOWED;
    if ((capabilities & CAPABILITY_OF[operation]) === 0) return refused;
    if (permissions.hasConstraints) {
      if (!wrappingAllowed(permissions, wrapTtlSeconds)) return refused;
      if (!isListing && operation !== 'delete' && !parametersAllowed(permissions, data)) {
        return refused;
      }
    }
    if (!isListing || (permissions.paginationLimit <= 0 && data['limit'] !== 'max')) return granted;
    const limit = replacementLimit(permissions, data);
    if (limit === 'refused') return refused;
    return limit === undefined ? granted : { allowed: true, sudo, limit };
  }

  capabilities(path: string): string[] {
    const bits = this.#find(path, true)?.capabilities ?? 0;
    if (bits === 0 || (bits & CAPABILITY.deny) !== 0) return ['deny'];
    return CAPABILITY_NAMES.filter((name) => (bits & CAPABILITY[name]) !== 0);
  }

  hasMountAccess(mountPath: string): boolean {
    if (this.capabilities(mountPath)[0] !== 'deny') return true;
    for (const [path, permissions] of this.#exact) {
      if (path.startsWith(mountPath) && grantsSomething(permissions)) return true;
    }
    return this.#inexactRules.some(
      (rule) => grantsSomething(rule.permissions) && reaches(rule, mountPath),
    );
  }

  #add(rule: InexactRule, head: string): void {
    this.#inexactRules.push(rule);
    const found = this.#inexact.get(head);
    if (found === undefined) this.#inexact.set(head, [rule]);
    else found.push(rule);
  }

  #find(requestPath: string, isListing: boolean): Permissions | undefined {
    let path = requestPath;
    while (path.charCodeAt(0) === SLASH) path = path.slice(1);
    const exact = this.#exact.get(path);
    if (exact !== undefined) return exact;
    if (!isListing || !path.endsWith('/')) return this.#findInexact(path);
    const trimmed = path.slice(0, -1);
    return this.#exact.get(trimmed) ?? this.#findInexact(path) ?? this.#findInexact(trimmed);
  }

  #findInexact(path: string): Permissions | undefined {
    const visited = this.#visited;
    let depth = this.#inexact.collect(path, visited);
    while (depth > 0) {
      depth -= 1;
      const rules = visited[depth] ?? [];
      for (const rule of rules) {
        if (rule.segmentsStart === -1 || matches(rule, path)) return rule.permissions;
      }
    }
    return undefined;
  }
}

const SLASH = 47;

const CAPABILITY_NAMES: readonly CapabilityName[] = [
  'create',
  'delete',
  'list',
  'patch',
  'read',
  'scan',
  'sudo',
  'update',
];

function prefixRule(path: string, permissions: Permissions): InexactRule {
  return { path, isPrefix: true, segments: [], segmentsStart: -1, wildcardCount: 0, permissions };
}

function wildcardRule(fullPath: string, permissions: Permissions): InexactRule {
  const isPrefix = fullPath.endsWith('*');
  const path = isPrefix ? fullPath.slice(0, -1) : fullPath;
  const segmentsStart = path.lastIndexOf('/', path.indexOf('+')) + 1;
  const segments = path.slice(segmentsStart).split('/');
  const wildcardCount = segments.filter((segment) => segment === '+').length;
  return { path, isPrefix, segments, segmentsStart, wildcardCount, permissions };
}

/** Best first; both rules have the same literal head. */
function comparePriority(left: InexactRule, right: InexactRule): number {
  if (left.isPrefix !== right.isPrefix) return left.isPrefix ? 1 : -1;
  if (left.wildcardCount !== right.wildcardCount) return left.wildcardCount - right.wildcardCount;
  if (left.path.length !== right.path.length) return right.path.length - left.path.length;
  return left.path < right.path ? 1 : -1;
}

/** The path already begins with the literal head; `+` stands for one segment, even an empty one. */
function matches(rule: InexactRule, path: string): boolean {
  const { segments, isPrefix } = rule;
  let start = rule.segmentsStart;
  for (let index = 0; index < segments.length; index += 1) {
    if (start > path.length) return false;
    const segment = segments[index] ?? '';
    const isLast = index === segments.length - 1;
    const slash = path.indexOf('/', start);
    const end = slash === -1 ? path.length : slash;
    if (isLast && isPrefix && segment !== '+') return path.startsWith(segment, start);
    if (segment !== '+') {
      if (end - start !== segment.length || !path.startsWith(segment, start)) return false;
    }
    start = end + 1;
  }
  // One past the end means that the last segment of the path was used up.
  return isPrefix || start > path.length;
}

/** Whether a path that the rule matches may lie below `mountPath`. */
function reaches(rule: InexactRule, mountPath: string): boolean {
  if (rule.segmentsStart === -1) return rule.path.startsWith(mountPath);
  const mount = mountPath.replace(/\/$/, '').split('/');
  const segments = rule.path.split('/');
  return mount.every((part, index) => {
    const segment = segments[index];
    if (segment === undefined) return false;
    if (segment === '+' || segment === part) return true;
    return rule.isPrefix && index === segments.length - 1 && part.startsWith(segment);
  });
}

function grantsSomething(permissions: Permissions): boolean {
  return permissions.capabilities !== 0 && (permissions.capabilities & CAPABILITY.deny) === 0;
}

function wrappingAllowed(permissions: Permissions, wrapTtlSeconds: number): boolean {
  const { minWrappingTtlSeconds: min, maxWrappingTtlSeconds: max } = permissions;
  if (max > 0 && (wrapTtlSeconds === 0 || wrapTtlSeconds > max)) return false;
  if (min > 0 && wrapTtlSeconds < min) return false;
  // Merging may leave nothing between the two.
  return min === 0 || max === 0 || min <= max;
}

function permissionsOf(rules: PathRules): Permissions {
  const permissions: Permissions = {
    capabilities: rules.capabilities,
    allowedParameters: rules.allowedParameters,
    deniedParameters: rules.deniedParameters,
    requiredParameters: rules.requiredParameters,
    minWrappingTtlSeconds: rules.minWrappingTtlSeconds,
    maxWrappingTtlSeconds: rules.maxWrappingTtlSeconds,
    paginationLimit: rules.paginationLimit,
    hasConstraints: false,
  };
  return markConstraints(permissions);
}

/** Deny wins for good; else capabilities add up, and so do the parameter lists. */
function merge(existing: Permissions, rules: PathRules): void {
  if ((existing.capabilities & CAPABILITY.deny) !== 0) return;
  if ((rules.capabilities & CAPABILITY.deny) !== 0) {
    existing.capabilities = CAPABILITY.deny;
    existing.allowedParameters = undefined;
    existing.deniedParameters = undefined;
    markConstraints(existing);
    return;
  }
  existing.capabilities |= rules.capabilities;
  existing.maxWrappingTtlSeconds = lesserBound(
    existing.maxWrappingTtlSeconds,
    rules.maxWrappingTtlSeconds,
  );
  existing.minWrappingTtlSeconds = lesserBound(
    existing.minWrappingTtlSeconds,
    rules.minWrappingTtlSeconds,
  );
  existing.paginationLimit = lesserBound(existing.paginationLimit, rules.paginationLimit);
  existing.allowedParameters = mergeParameters(existing.allowedParameters, rules.allowedParameters);
  existing.deniedParameters = mergeParameters(existing.deniedParameters, rules.deniedParameters);
  existing.requiredParameters = [
    ...new Set([...existing.requiredParameters, ...rules.requiredParameters]),
  ];
  markConstraints(existing);
}

/** An empty list means every value, so it outweighs any other list. */
function mergeParameters(
  existing: ParameterRules | undefined,
  added: ParameterRules | undefined,
): ParameterRules | undefined {
  if (added === undefined || added.size === 0) return existing;
  if (existing === undefined) return added;
  const merged = new Map(existing);
  for (const [name, values] of added) {
    const before = merged.get(name);
    const isAny = values.length === 0 || before?.length === 0;
    merged.set(name, isAny ? NO_PARAMETERS : [...values, ...(before ?? [])]);
  }
  return merged;
}

function markConstraints(permissions: Permissions): Permissions {
  permissions.hasConstraints =
    permissions.minWrappingTtlSeconds > 0 ||
    permissions.maxWrappingTtlSeconds > 0 ||
    permissions.requiredParameters.length > 0 ||
    (permissions.allowedParameters?.size ?? 0) > 0 ||
    (permissions.deniedParameters?.size ?? 0) > 0;
  return permissions;
}
