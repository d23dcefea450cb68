/**
 * The tables of secrets engines (`sys/mounts`) and auth methods (`sys/auth`): list, read, enable,
 * disable, tune (OpenBao internal/vault/logical_system.go, handleMount*, handleEnableAuth,
 * handleTune*). Which paths and types can be mounted at all is the mount table's to say.
 */

import type { JsonObject } from '../core/backend.ts';
import { parseDurationSeconds } from '../duration.ts';
import {
  booleanField,
  invalidRequest,
  mapField,
  ownField,
  stringField,
  stringListField,
  stringMapField,
} from './fields.ts';
import type {
  ListingVisibility,
  MountDescription,
  MountSpec,
  MountTableKind,
  MountTokenType,
  MountTuning,
  SystemHandler,
  SystemRequest,
} from './system-ports.ts';

/** mount.go untunableMounts, and the fields which may be tuned all the same. */
const UNTUNABLE_PREFIXES = ['cubbyhole/', 'sys/', 'audit/', 'identity/'];
const TUNABLE_ANYWHERE = new Set(['audit_non_hmac_request_keys', 'audit_non_hmac_response_keys']);
const TUNE_FIELDS = [
  'default_lease_ttl',
  'max_lease_ttl',
  'description',
  'audit_non_hmac_request_keys',
  'audit_non_hmac_response_keys',
  'options',
  'listing_visibility',
  'passthrough_request_headers',
  'allowed_response_headers',
  'token_type',
  'user_lockout_config',
  'plugin_version',
];

export function listMounts(kind: MountTableKind): SystemHandler {
  return ({ request, ports }) => ({
    data: Object.fromEntries(
      ports.mounts
        .list(request.namespace, kind)
        .map((mount) => [mount.path, mountInfo(mount)] as const),
    ),
  });
}

export function readMount(kind: MountTableKind): SystemHandler {
  return ({ request, ports, captures }) => {
    const path = sanitizePath(captures[0] ?? '');
    const mount =
      kind === 'secret'
        ? ports.mounts.match(request.namespace, path)
        : ports.mounts.list(request.namespace, kind).find((each) => each.path === path);
    if (mount !== undefined) return { data: mountInfo(mount) };
    throw invalidRequest(
      kind === 'secret' ? `No secret engine mount at ${path}` : `No auth engine at ${path}`,
    );
  };
}

export function enableMount(kind: MountTableKind): SystemHandler {
  return async ({ request, ports, captures }) => {
    const spec = mountSpecOf(kind, sanitizePath(captures[0] ?? ''), request.data);
    const { defaultLeaseTtlSeconds, maxLeaseTtlSeconds } = spec;
    if (maxLeaseTtlSeconds !== 0 && defaultLeaseTtlSeconds > maxLeaseTtlSeconds) {
      throw invalidRequest('given default lease TTL greater than given max lease TTL');
    }
    const systemMax = ports.leaseTtl.maxSeconds;
    if (maxLeaseTtlSeconds === 0 && defaultLeaseTtlSeconds > systemMax) {
      throw invalidRequest(
        `given default lease TTL greater than system max lease TTL of ${systemMax}`,
      );
    }
    request.view.requireWritable?.();
    await ports.mounts.enable(request.namespace, spec);
    return undefined;
  };
}

/** Succeeds where nothing is mounted: whether there was a mount is not disclosed. */
export function disableMount(kind: MountTableKind): SystemHandler {
  return async ({ request, ports, captures }) => {
    const path = sanitizePath(captures[0] ?? '');
    request.view.requireWritable?.();
    await ports.mounts.disable(request.namespace, kind, path);
    return undefined;
  };
}

export function readTune(kind: MountTableKind): SystemHandler {
  return (system) => {
    const { path, mount } = tunedMount(kind, system);
    if (mount === undefined) throw invalidRequest(`cannot fetch sysview for path "${path}"`);
    const { ports } = system;
    const systemDefault = ports.leaseTtl.defaultSeconds;
    const systemMax = ports.leaseTtl.maxSeconds;
    const info: JsonObject = {
      description: mount.description,
      default_lease_ttl: mount.defaultLeaseTtlSeconds || systemDefault,
      max_lease_ttl: mount.maxLeaseTtlSeconds || systemMax,
      force_no_cache: mount.forceNoCache,
      ...(mount.externalEntropyAccess ? { external_entropy_access: true } : {}),
      ...(mount.kind === 'auth' ? { token_type: mount.tokenType } : {}),
      ...optionalConfig(mount),
      ...(Object.keys(mount.options).length === 0 ? {} : { options: mount.options }),
    };
    return { data: info };
  };
}

export function tuneMount(kind: MountTableKind): SystemHandler {
  return async (system) => {
    const { request, ports } = system;
    const { data } = request;
    request.view.requireWritable?.();
    const { path, mount } = tunedMount(kind, system);
    refuseUntunable(path, data);
    if (mount === undefined) {
      throw invalidRequest(`tune of path "${path}" failed: no mount entry found`);
    }
    const change = tuningOf(data, mount);
    const defaultTtl = change.defaultLeaseTtlSeconds ?? mount.defaultLeaseTtlSeconds;
    const maxTtl = change.maxLeaseTtlSeconds ?? mount.maxLeaseTtlSeconds;
    if (maxTtl !== 0 && maxTtl < defaultTtl) {
      throw invalidRequest(
        `backend max lease TTL of ${maxTtl} would be less than backend default lease TTL of ${defaultTtl}`,
      );
    }
    const target = { kind: mount.kind, path: mount.path };
    await ports.mounts.tune(request.namespace, target, change);
    return undefined;
  };
}

/** Mounted by the server itself: no plugins, so that nothing is said of their future. */
const BUILT_IN_TYPES = new Set(['cubbyhole', 'system', 'token']);

/** How OpenBao describes a mount (logical_system.go mountInfo). */
export function mountInfo(mount: MountDescription): JsonObject {
  const isBuiltIn = BUILT_IN_TYPES.has(mount.type);
  return {
    type: mount.type,
    description: mount.description,
    accessor: mount.accessor,
    local: mount.local,
    seal_wrap: mount.sealWrap,
    external_entropy_access: mount.externalEntropyAccess,
    options: isBuiltIn ? null : mount.options,
    uuid: mount.uuid,
    plugin_version: '',
    running_plugin_version: '',
    running_sha256: '',
    ...(isBuiltIn ? {} : { deprecation_status: 'supported' }),
    config: {
      default_lease_ttl: mount.defaultLeaseTtlSeconds,
      max_lease_ttl: mount.maxLeaseTtlSeconds,
      force_no_cache: mount.forceNoCache,
      ...optionalConfig(mount),
      ...(mount.kind === 'auth' ? { token_type: mount.tokenType } : {}),
    },
  };
}

/** A mount path: no slash in front, one at the end. */
export function sanitizePath(path: string): string {
  const directory = path.endsWith('/') ? path : `${path}/`;
  return directory.startsWith('/') ? directory.slice(1) : directory;
}

function mountSpecOf(kind: MountTableKind, path: string, data: JsonObject): MountSpec {
  checkMountPath(path);
  const config = mapField(data, 'config') ?? {};
  const { type, options } = mountTypeOf(kind, data, config);
  return {
    kind,
    path,
    type,
    options,
    description: stringField(data, 'description') ?? '',
    local: booleanField(data, 'local') ?? false,
    sealWrap: booleanField(data, 'seal_wrap') ?? false,
    externalEntropyAccess: booleanField(data, 'external_entropy_access') ?? false,
    defaultLeaseTtlSeconds: ttlOf(config, 'default_lease_ttl', 'default TTL') ?? 0,
    maxLeaseTtlSeconds: ttlOf(config, 'max_lease_ttl', 'max TTL') ?? 0,
    forceNoCache: booleanField(config, 'force_no_cache') ?? false,
    listingVisibility: listingVisibilityOf(config) ?? '',
    tokenType: (kind === 'auth' ? tokenTypeOf(config) : undefined) ?? 'default-service',
    auditNonHmacRequestKeys: stringListField(config, 'audit_non_hmac_request_keys') ?? [],
    auditNonHmacResponseKeys: stringListField(config, 'audit_non_hmac_response_keys') ?? [],
    passthroughRequestHeaders: stringListField(config, 'passthrough_request_headers') ?? [],
    allowedResponseHeaders: stringListField(config, 'allowed_response_headers') ?? [],
  };
}

function mountTypeOf(
  kind: MountTableKind,
  data: JsonObject,
  config: JsonObject,
): { type: string; options: MountSpec['options'] } {
  let type = stringField(data, 'type') ?? '';
  const options = stringMapField(data, 'options') ?? {};
  if (type === '') throw invalidRequest('backend type must be specified as a string');
  if (type === 'plugin') {
    type = stringField(config, 'plugin_name') ?? stringField(data, 'plugin_name') ?? '';
    if (type === '') throw invalidRequest('plugin_name must be provided for plugin backend');
  }
  if (kind === 'secret' && (type === 'kv-v1' || type === 'kv-v2')) {
    return { type: 'kv', options: { ...options, version: type === 'kv-v1' ? '1' : '2' } };
  }
  const version = options['version'] ?? '';
  if (kind === 'secret' && type === 'kv') {
    if (!['', '1', '2'].includes(version)) {
      throw invalidRequest(`invalid version provided: ${version}`);
    }
  } else if (version !== '') {
    const noun = kind === 'secret' ? 'secrets engine' : 'auth method';
    throw invalidRequest(`${noun} ${JSON.stringify(type)} does not allow setting a version`);
  }
  return { type, options };
}

/** logical_system.go validateMountPath. */
function checkMountPath(path: string): void {
  const segments = path.slice(0, -1).split('/');
  if (segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
    throw invalidRequest(`path '${path}' does not match cleaned path`);
  }
  if (!/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(path)) {
    throw invalidRequest('path cannot contain non-printable characters');
  }
}

/** `sys/mounts/auth/x/tune` reaches auth mounts too, as it does in OpenBao. */
function tunedMount(
  kind: MountTableKind,
  { request, ports, captures }: SystemRequest,
): { path: string; mount: MountDescription | undefined } {
  const given = sanitizePath(captures[0] ?? '');
  const path = kind === 'auth' ? `auth/${given}` : given;
  return { path, mount: ports.mounts.match(request.namespace, path) };
}

function refuseUntunable(path: string, data: JsonObject): void {
  if (!UNTUNABLE_PREFIXES.some((prefix) => path.startsWith(prefix))) return;
  const field = TUNE_FIELDS.find(
    (name) => Object.hasOwn(data, name) && !TUNABLE_ANYWHERE.has(name),
  );
  if (field !== undefined) throw invalidRequest(`cannot tune parameter ${field} of ${path}`);
}

function tuningOf(data: JsonObject, mount: MountDescription): Partial<MountTuning> {
  const tokenType = tokenTypeOf(data);
  if (tokenType !== undefined && mount.kind !== 'auth') {
    throw invalidRequest("'token_type' can only be modified on auth mounts");
  }
  if (tokenType !== undefined && mount.type === 'token') {
    throw invalidRequest("'token_type' cannot be set for 'token' or 'ns_token' auth mounts");
  }
  return withoutUndefined({
    tokenType,
    description: stringField(data, 'description'),
    defaultLeaseTtlSeconds: ttlOf(data, 'default_lease_ttl', 'default TTL'),
    maxLeaseTtlSeconds: ttlOf(data, 'max_lease_ttl', 'max TTL'),
    listingVisibility: listingVisibilityOf(data),
    options: tunedOptions(data, mount),
    auditNonHmacRequestKeys: stringListField(data, 'audit_non_hmac_request_keys'),
    auditNonHmacResponseKeys: stringListField(data, 'audit_non_hmac_response_keys'),
    passthroughRequestHeaders: stringListField(data, 'passthrough_request_headers'),
    allowedResponseHeaders: stringListField(data, 'allowed_response_headers'),
  });
}

/** What is not asked for stays; an empty value leaves an option out. */
function tunedOptions(
  data: JsonObject,
  mount: MountDescription,
): MountTuning['options'] | undefined {
  const change = stringMapField(data, 'options');
  if (change === undefined || Object.keys(change).length === 0) return undefined;
  const current = Number(mount.options['version'] ?? '1');
  const wanted = Number(change['version'] ?? current);
  if (wanted !== 1 && wanted !== 2) {
    throw invalidRequest(`invalid version provided: ${change['version'] ?? ''}`);
  }
  if (wanted < current) throw invalidRequest(`cannot downgrade mount from version ${current}`);
  if (wanted > current) {
    throw invalidRequest(`upgrading a mount from version ${current} to ${wanted} is not supported`);
  }
  const merged = Object.entries({ ...mount.options, ...change });
  return Object.fromEntries(merged.filter(([, value]) => value !== ''));
}

/** `system` (or nothing) is the server's own; undefined leaves what is set. */
function ttlOf(data: JsonObject, name: string, noun: string): number | undefined {
  const value = ownField(data, name);
  if (value === undefined || value === '' || value === null) return undefined;
  if (value === 'system') return 0;
  const seconds = parseDurationSeconds(value);
  if (seconds !== undefined && seconds >= 0) return seconds;
  throw invalidRequest(`unable to parse ${noun} of ${JSON.stringify(value)}: not a duration`);
}

function listingVisibilityOf(data: JsonObject): ListingVisibility | undefined {
  const value = stringField(data, 'listing_visibility');
  if (value === undefined || value === '' || value === 'hidden' || value === 'unauth') {
    return value;
  }
  throw invalidRequest(`invalid listing_visibility ${value}`);
}

function tokenTypeOf(data: JsonObject): MountTokenType | undefined {
  const value = stringField(data, 'token_type');
  switch (value) {
    case undefined:
      return undefined;
    case '':
    case 'default-service':
      return 'default-service';
    case 'default-batch':
    case 'service':
    case 'batch':
      return value;
    default:
      throw invalidRequest("invalid value for 'token_type'");
  }
}

function optionalConfig(mount: MountDescription): JsonObject {
  const lists = {
    audit_non_hmac_request_keys: mount.auditNonHmacRequestKeys,
    audit_non_hmac_response_keys: mount.auditNonHmacResponseKeys,
    passthrough_request_headers: mount.passthroughRequestHeaders,
    allowed_response_headers: mount.allowedResponseHeaders,
  };
  const visibility = mount.listingVisibility;
  return {
    ...(visibility === '' ? {} : { listing_visibility: visibility }),
    ...Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0)),
  };
}

function withoutUndefined<T extends object>(
  object: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const defined = Object.entries(object).filter(([, value]) => value !== undefined);
  // Only undefined values were dropped, so every key that is left has its own type.
  return Object.fromEntries(defined) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
