/**
 * The bodies of logical answers, field for field and in the order of OpenBao's `HTTPResponse`
 * (sdk/logical/response.go), by template around data that is serialised once.
 */

import type { Auth, JsonObject, LogicalResponse, Operation } from '../core/backend.ts';

/** `data` of these is repeated at the top level (http/sys_injector, `handleLogicalWithInjector`). */
const INJECTED_PATHS = new Set([
  'sys/audit',
  'sys/auth',
  'sys/capabilities',
  'sys/capabilities-accessor',
  'sys/capabilities-self',
  'sys/config/cors',
  'sys/ha-status',
  'sys/key-status',
  'sys/mounts',
  'sys/policy',
  'sys/rotate',
]);
const INJECTED_PREFIXES = [
  'sys/audit/',
  'sys/auth/',
  'sys/mounts/',
  'sys/policy/',
  'sys/config/auditing/',
] as const;

export function isInjected(path: string): boolean {
  if (!path.startsWith('sys/')) return false;
  const trimmed = path.endsWith('/') ? path.slice(0, -1) : path;
  return (
    INJECTED_PATHS.has(trimmed) || INJECTED_PREFIXES.some((prefix) => trimmed.startsWith(prefix))
  );
}

/** 200, unless there is nothing to tell: then 404 for a read or list, and 204 for the rest. */
export function statusFor(operation: Operation, response: LogicalResponse | undefined): number {
  if (response === undefined) return operation === 'read' || operation === 'list' ? 404 : 204;
  if (response.status !== undefined) return response.status;
  if (operation === 'list' && isEmptyList(response)) return 404;
  return hasContent(response) ? 200 : 204;
}

export function envelope(requestId: string, response: LogicalResponse, injected: boolean): string {
  const data = response.dataJson ?? JSON.stringify(response.data ?? null);
  const warnings =
    response.warnings === undefined || response.warnings.length === 0
      ? 'null'
      : JSON.stringify(response.warnings);
  const auth = response.auth === undefined ? 'null' : JSON.stringify(authFields(response.auth));
  return `{"request_id":"${requestId}","lease_id":"","renewable":false,"lease_duration":${
    response.leaseDurationSeconds ?? 0
  },"data":${data},"wrap_info":null,"warnings":${warnings},"auth":${auth}${
    injected ? topLevel(response.data) : ''
  }}\n`;
}

/** The fields of the envelope win over fields of the same name. */
const ENVELOPE_FIELDS = new Set([
  'request_id',
  'lease_id',
  'renewable',
  'lease_duration',
  'data',
  'wrap_info',
  'warnings',
  'auth',
]);

function topLevel(data: JsonObject | null | undefined): string {
  if (data === undefined || data === null) return '';
  return Object.entries(data)
    .filter(([key]) => !ENVELOPE_FIELDS.has(key))
    .map(([key, value]) => `,${JSON.stringify(key)}:${JSON.stringify(value)}`)
    .join('');
}

function authFields(auth: Auth): JsonObject {
  return {
    client_token: auth.clientToken,
    accessor: auth.accessor,
    policies: auth.policies,
    token_policies: auth.tokenPolicies,
    metadata: auth.metadata,
    lease_duration: auth.leaseDurationSeconds,
    renewable: auth.renewable,
    entity_id: auth.entityId,
    token_type: auth.tokenType,
    orphan: auth.orphan,
    mfa_requirement: null,
    num_uses: auth.numUses,
  };
}

function hasContent(response: LogicalResponse): boolean {
  return (
    response.dataJson !== undefined ||
    (response.data !== undefined && response.data !== null) ||
    response.auth !== undefined ||
    (response.warnings !== undefined && response.warnings.length > 0)
  );
}

/** OpenBao: a list without `keys`, or with none, is nothing (sdk/logical/response_util.go). */
function isEmptyList(response: LogicalResponse): boolean {
  if (response.dataJson !== undefined || response.auth !== undefined) return false;
  if (response.warnings !== undefined && response.warnings.length > 0) return false;
  const keys = response.data?.['keys'];
  return keys === undefined || (Array.isArray(keys) && keys.length === 0);
}
