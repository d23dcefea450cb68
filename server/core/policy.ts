/**
 * One ACL policy: text to rules. Compiling several policies into one answer is `acl.ts`.
 *
 * Follows openbao internal/vault/policy/policy.go (`ParseACLPolicyWithTemplating`, `parsePaths`).
 * Unknown keys and unknown capabilities are errors. Three of OpenBao's keys (`mfa_methods`,
 * `control_group`, `list_scan_response_keys_filter_path`) are refused rather than ignored: each
 * takes rights away, and a policy must not grant more here than it does there.
 */

import { parseDurationSeconds } from '../duration.ts';
import { HclError, hclAttribute, hclBlocks, hclToPlain, isHclObject, parseHcl } from '../hcl.ts';
import type { HclBlock, HclObject, HclValue } from '../hcl.ts';
import type { Json } from './backend.ts';

/** Bits of `PathRules.capabilities`. */
export const CAPABILITY = {
  deny: 1,
  create: 2,
  read: 4,
  update: 8,
  delete: 16,
  list: 32,
  sudo: 64,
  patch: 128,
  scan: 256,
} as const;

export type CapabilityName = keyof typeof CAPABILITY;

/** Values allowed or denied for a parameter; an empty list stands for every value. */
export type ParameterRules = ReadonlyMap<string, readonly Json[]>;

export type PathRules = {
  /** Without a leading slash, and without the final `*` unless it has segment wildcards. */
  readonly path: string;
  readonly isPrefix: boolean;
  readonly hasSegmentWildcards: boolean;
  readonly capabilities: number;
  /** Keys in lower case. Undefined means no constraint. */
  readonly allowedParameters: ParameterRules | undefined;
  readonly deniedParameters: ParameterRules | undefined;
  readonly requiredParameters: readonly string[];
  /** 0 means no bound. */
  readonly minWrappingTtlSeconds: number;
  readonly maxWrappingTtlSeconds: number;
  readonly paginationLimit: number;
  /** The rule is void after this moment; null means never. */
  readonly expireTimeMs: number | null;
};

export type Policy = {
  readonly name: string;
  readonly text: string;
  readonly paths: readonly PathRules[];
  /**
   * Whether a path has an identity template (`{{...}}`). Without an entity such a path can match
   * nothing, so it is left out of `paths`.
   */
  readonly templated: boolean;
};

/** What is wrong with a policy, in OpenBao's words where it has some. */
export class PolicyError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(`failed to parse policy: ${message}`, options);
    this.name = 'PolicyError';
  }
}

const PATH_KEYS = new Set([
  'comment',
  'policy',
  'capabilities',
  'allowed_parameters',
  'denied_parameters',
  'required_parameters',
  'min_wrapping_ttl',
  'max_wrapping_ttl',
  'pagination_limit',
  'expiration',
]);
const UNSUPPORTED_PATH_KEYS = new Set([
  'mfa_methods',
  'control_group',
  'list_scan_response_keys_filter_path',
]);

const LEGACY_POLICIES: { readonly [name: string]: readonly CapabilityName[] } = {
  deny: ['deny'],
  read: ['read', 'list'],
  write: ['create', 'read', 'update', 'delete', 'list'],
  sudo: ['create', 'read', 'update', 'delete', 'list', 'sudo'],
};

/** Throws `PolicyError`. */
export function parsePolicy(name: string, text: string): Policy {
  try {
    const root = parseHcl(text);
    checkKeys(root, new Set(['name', 'path']));
    let templated = false;
    const paths: PathRules[] = [];
    for (const block of hclBlocks(root, 'path', 'required')) {
      const rules = parsePath(block);
      if (hasTemplate(block.label)) templated = true;
      else paths.push(rules);
    }
    return { name, text, paths, templated };
  } catch (error) {
    if (error instanceof HclError) throw new PolicyError(error.message, { cause: error });
    throw error;
  }
}

function parsePath({ label, body }: HclBlock): PathRules {
  const place = `path ${JSON.stringify(label)}:`;
  checkKeys(body, PATH_KEYS, place);
  const path = label.startsWith('/') ? label.slice(1) : label;
  if (path.includes('+*')) {
    throw new PolicyError(
      `path ${JSON.stringify(path)}: invalid use of wildcards ('+*' is forbidden)`,
    );
  }
  const hasSegmentWildcards = path === '+' || path.startsWith('+/') || path.includes('/+');
  const isPrefix = path.endsWith('*');
  const minWrappingTtlSeconds = readDuration(body, 'min_wrapping_ttl');
  const maxWrappingTtlSeconds = readDuration(body, 'max_wrapping_ttl');
  if (maxWrappingTtlSeconds !== 0 && maxWrappingTtlSeconds < minWrappingTtlSeconds) {
    throw new PolicyError('max_wrapping_ttl cannot be less than min_wrapping_ttl');
  }
  return {
    path: isPrefix && !hasSegmentWildcards ? path.slice(0, -1) : path,
    isPrefix,
    hasSegmentWildcards,
    capabilities: readCapabilities(body, place),
    allowedParameters: readParameters(body, 'allowed_parameters', place),
    deniedParameters: readParameters(body, 'denied_parameters', place),
    requiredParameters: readStrings(body, 'required_parameters', place),
    minWrappingTtlSeconds,
    maxWrappingTtlSeconds,
    paginationLimit: readCount(body, 'pagination_limit', place),
    expireTimeMs: readExpiration(body, place),
  };
}

function checkKeys(body: HclObject, valid: ReadonlySet<string>, place?: string): void {
  const prefix = place === undefined ? '' : `${place} `;
  for (const item of body.items) {
    if (place !== undefined && UNSUPPORTED_PATH_KEYS.has(item.key)) {
      throw new PolicyError(`${prefix}${item.key} on line ${item.line} is not supported`);
    }
    if (!valid.has(item.key)) {
      throw new PolicyError(
        `${prefix}invalid key ${JSON.stringify(item.key)} on line ${item.line}`,
      );
    }
  }
}

function hasTemplate(path: string): boolean {
  const [head, ...pieces] = path.split('{{');
  const unbalanced =
    head?.includes('}}') === true || pieces.some((p) => p.split('}}').length !== 2);
  if (unbalanced) {
    throw new PolicyError('failed to validate policy templating: unbalanced templating characters');
  }
  return pieces.length > 0;
}

function readCapabilities(body: HclObject, place: string): number {
  const names = readStrings(body, 'capabilities', place);
  const legacy = hclAttribute(body, 'policy');
  if (legacy !== undefined && legacy !== '') {
    const expanded = typeof legacy === 'string' ? LEGACY_POLICIES[legacy] : undefined;
    if (expanded === undefined) {
      throw new PolicyError(`${place} invalid policy ${JSON.stringify(hclToPlain(legacy))}`);
    }
    // An old-style deny replaces what is listed; the others add to it.
    if (legacy === 'deny') return CAPABILITY.deny;
    names.push(...expanded);
  }
  let bits = 0;
  for (const name of names) {
    if (name === 'deny') return CAPABILITY.deny;
    if (!isCapability(name)) {
      throw new PolicyError(`${place} invalid capability ${JSON.stringify(name)}`);
    }
    bits |= CAPABILITY[name];
  }
  return bits;
}

function isCapability(name: string): name is CapabilityName {
  return Object.hasOwn(CAPABILITY, name);
}

function readStrings(body: HclObject, key: string, place: string): string[] {
  const value = hclAttribute(body, key);
  if (value === undefined) return [];
  const list: readonly HclValue[] = Array.isArray(value) ? value : [value];
  return list.map((element) => {
    if (typeof element === 'string') return element;
    if (typeof element === 'number') return String(element);
    throw new PolicyError(`${place} ${key} must be a list of strings`);
  });
}

function readParameters(body: HclObject, key: string, place: string): ParameterRules | undefined {
  const value = hclAttribute(body, key);
  if (value === undefined || value === null) return undefined;
  // OpenBao's JSON policies may wrap the object in a list, as HCL 1 does for any object.
  const objects: readonly HclValue[] = Array.isArray(value) ? value : [value];
  const rules = new Map<string, readonly Json[]>();
  for (const object of objects) {
    if (!isHclObject(object)) throw new PolicyError(`${place} ${key} must be a map of lists`);
    for (const item of object.items) {
      if (!Array.isArray(item.value)) {
        throw new PolicyError(`${place} ${key}: ${JSON.stringify(item.key)} must be a list`);
      }
      // hclToPlain yields nothing that JSON has not.
      rules.set(item.key.toLowerCase(), hclToPlain(item.value) as readonly Json[]);
    }
  }
  return rules;
}

function readDuration(body: HclObject, key: string): number {
  const value = hclAttribute(body, key);
  if (value === undefined || value === null) return 0;
  const seconds = parseDurationSeconds(value);
  if (seconds === undefined) {
    throw new PolicyError(`error parsing ${key}: ${JSON.stringify(hclToPlain(value))}`);
  }
  return seconds;
}

function readCount(body: HclObject, key: string, place: string): number {
  const value = hclAttribute(body, key);
  if (value === undefined) return 0;
  const count = typeof value === 'string' ? Number(value) : value;
  if (typeof count !== 'number' || !Number.isSafeInteger(count)) {
    throw new PolicyError(`${place} ${key} must be a whole number`);
  }
  return Math.max(0, count);
}

/** RFC 3339, or seconds since the epoch (go-secure-stdlib parseutil, `ParseAbsoluteTime`). */
function readExpiration(body: HclObject, place: string): number | null {
  const value = hclAttribute(body, 'expiration');
  if (value === undefined || value === '') return null;
  const text = String(hclToPlain(value));
  const timeMs = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (!Number.isFinite(timeMs)) {
    throw new PolicyError(`${place} invalid expiration time: ${JSON.stringify(text)}`);
  }
  return timeMs;
}
