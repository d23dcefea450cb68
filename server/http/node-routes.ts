/**
 * The routes that concern this very node, work while it is sealed, and are never forwarded
 * (OpenBao http/sys_*.go): no envelope, no token.
 */

import { joinTlsComplaint } from '../cluster/join-tls.ts';
import type { JsonObject } from '../core/backend.ts';
import type { SealStatus } from '../core/seal.ts';
import { ServerError } from '../errors.ts';
import { EMPTY_BODY, type Answer, type Incoming } from './exchange.ts';
import type { Identity, NodeCore, NodePosition } from './node-port.ts';
import { parseBody, type JsonLimits } from './request-body.ts';

export type NodeRoutes = {
  readonly core: NodeCore;
  readonly position: NodePosition;
  readonly identity: Identity;
  readonly jsonLimits: JsonLimits;
};

export type NodeRoute = (
  node: NodeRoutes,
  incoming: Incoming,
  query: URLSearchParams,
) => Promise<Answer> | Answer;

/** By path, then by method. PUT is POST, as everywhere. */
const ROUTES: ReadonlyMap<string, { readonly [method: string]: NodeRoute }> = new Map([
  ['sys/init', { GET: readInit, POST: initialize }],
  ['sys/unseal', { POST: unseal }],
  ['sys/seal-status', { GET: sealStatus }],
  ['sys/health', { GET: health, HEAD: health }],
  ['sys/leader', { GET: leader }],
  ['sys/storage/raft/join', { POST: join }],
]);

/** Undefined: not a route of the node. Throws `unsupported-operation`. */
export function findNodeRoute(method: string, path: string): NodeRoute | undefined {
  const methods = ROUTES.get(path);
  if (methods === undefined) return undefined;
  const route = methods[method === 'PUT' ? 'POST' : method];
  if (route === undefined) {
    throw new ServerError('unsupported-operation', `unsupported method ${method}`);
  }
  return route;
}

function readInit({ core }: NodeRoutes): Answer {
  return json(200, { initialized: core.isInitialized() });
}

async function initialize(node: NodeRoutes, incoming: Incoming): Promise<Answer> {
  const data = bodyOf(node, incoming);
  refuseForeignSealFields(data);
  const shares = integerField(data, 'secret_shares');
  const threshold = integerField(data, 'secret_threshold');
  const { keys, rootToken } = await node.core.initialize({ shares, threshold });
  return json(200, {
    keys: keys.map((key) => key.toString('hex')),
    keys_base64: keys.map((key) => key.toString('base64')),
    root_token: rootToken,
  });
}

/** Keys that were to be encrypted, or kept for recovery, must not be answered in the clear instead. */
function refuseForeignSealFields(data: JsonObject): void {
  const given = (names: readonly string[]): string =>
    names.filter((name) => isGiven(data[name])).join(',');
  const recovery = given(['recovery_shares', 'recovery_threshold', 'recovery_pgp_keys']);
  if (recovery !== '') {
    const reason = `parameters ${recovery} not applicable to seal type shamir`;
    throw new ServerError('invalid-request', reason);
  }
  const encryption = given(['pgp_keys', 'root_token_pgp_key']);
  if (encryption !== '') {
    throw new ServerError('invalid-request', `parameters ${encryption} are not supported`);
  }
}

/** What Go takes for the zero value is as good as absent. */
function isGiven(value: unknown): boolean {
  const isEmptyList = Array.isArray(value) && value.length === 0;
  return value !== undefined && value !== null && value !== 0 && value !== '' && !isEmptyList;
}

async function unseal(node: NodeRoutes, incoming: Incoming): Promise<Answer> {
  const data = bodyOf(node, incoming);
  if (data['reset'] === true) return json(200, sealFields(node, node.core.resetUnseal()));
  const key = data['key'];
  if (typeof key !== 'string' || key === '') {
    const text = "'key' must be specified in request body as JSON, or 'reset' set to true";
    throw new ServerError('invalid-request', text);
  }
  return json(200, sealFields(node, await node.core.unseal(decodeKey(key))));
}

function sealStatus(node: NodeRoutes): Answer {
  return json(200, sealFields(node, node.core.sealStatus()));
}

function sealFields({ identity }: NodeRoutes, status: SealStatus): JsonObject {
  return {
    type: status.type,
    initialized: status.initialized,
    sealed: status.sealed,
    t: status.t,
    n: status.n,
    progress: status.progress,
    nonce: status.nonce,
    version: identity.version,
    commit_date: '',
    migration: false,
    ...(status.sealed ? {} : clusterFields(identity)),
    recovery_seal: false,
    storage_type: 'raft',
  };
}

/** Statuses can be chosen by the load balancer that asks (http/sys_health.go). */
function health(node: NodeRoutes, incoming: Incoming, query: URLSearchParams): Answer {
  const { core, identity } = node;
  const isInitialized = core.isInitialized();
  const isSealed = core.isSealed();
  const isStandby = core.standby();
  const isStandbyOk = flag(query, 'standbyok');
  const active = statusParameter(query, 'activecode', 200);
  const standby = statusParameter(query, 'standbycode', 429);
  const sealed = statusParameter(query, 'sealedcode', 503);
  const uninitialized = statusParameter(query, 'uninitcode', 501);
  let status = active;
  if (!isInitialized) status = uninitialized;
  else if (isSealed) status = sealed;
  else if (isStandby && !isStandbyOk) status = standby;
  const answer = json(status, {
    initialized: isInitialized,
    sealed: isSealed,
    standby: isStandby,
    replication_performance_mode: isSealed ? 'unknown' : 'primary',
    replication_dr_mode: isSealed ? 'unknown' : 'disabled',
    server_time_utc: Math.floor(Date.now() / 1000),
    version: identity.version,
    ...(isSealed ? {} : clusterFields(identity)),
  });
  return incoming.method === 'HEAD' ? { ...answer, body: EMPTY_BODY } : answer;
}

/** Go leaves out what is false or zero there (internal/vault/logical_system.go `LeaderResponse`). */
function leader({ core, position }: NodeRoutes): Answer {
  if (core.isSealed()) throw new ServerError('sealed', 'Vault is sealed');
  const current = core.leader();
  const activeTime = current?.activeTimeMs ?? null;
  return json(200, {
    ha_enabled: true,
    ...(current?.isSelf === true ? { is_self: true } : {}),
    ...(activeTime === null ? {} : { active_time: new Date(activeTime).toISOString() }),
    leader_address: current?.redirectAddress ?? '',
    leader_cluster_address: current === undefined ? '' : `https://${current.clusterAddress}`,
    raft_committed_index: position.committedIndex(),
    raft_applied_index: position.appliedIndex(),
  });
}

/** internal/http/sys_raft.go. Addresses of a cloud (`auto_join`) are not looked up. */
async function join(node: NodeRoutes, incoming: Incoming): Promise<Answer> {
  const data = bodyOf(node, incoming);
  if (textField(data, 'auto_join') !== undefined) {
    throw new ServerError('invalid-request', 'auto_join is not supported: give leader_api_addr');
  }
  const address = textField(data, 'leader_api_addr') ?? '';
  if (!/^https?:\/\/[^/]+\/?$/.test(address)) {
    throw new ServerError('invalid-request', 'leader_api_addr must be an http or https address');
  }
  const tls = {
    caCert: textField(data, 'leader_ca_cert'),
    clientCert: textField(data, 'leader_client_cert'),
    clientKey: textField(data, 'leader_client_key'),
    serverName: textField(data, 'leader_tls_servername'),
  };
  const complaint = joinTlsComplaint(tls);
  if (complaint !== undefined) throw new ServerError('invalid-request', complaint);
  const joined = await node.core.requestJoin({
    peers: [{ apiAddress: address.replace(/\/$/, ''), tls }],
    nonVoter: data['non_voter'] === true,
    retry: data['retry'] === true,
  });
  return json(200, { joined });
}

/** Empty is absent, as in OpenBao. */
function textField(data: JsonObject, name: string): string | undefined {
  const value = data[name];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value === 'string') return value;
  throw new ServerError('invalid-request', `${name} must be a string`);
}

function clusterFields(identity: Identity): JsonObject {
  const name = identity.clusterName();
  const id = identity.clusterId();
  return {
    ...(name === undefined ? {} : { cluster_name: name }),
    ...(id === undefined ? {} : { cluster_id: id }),
  };
}

function bodyOf(node: NodeRoutes, { body, head }: Incoming): JsonObject {
  return parseBody(body, head.contentType, node.jsonLimits);
}

function integerField(data: JsonObject, name: string): number {
  const value = data[name] ?? 0;
  if (typeof value !== 'number' || !Number.isInteger(value)) {
    throw new ServerError('invalid-request', `${name} must be an integer`);
  }
  return value;
}

/** Hexadecimal as `sys/init` prints it first, else base64. */
function decodeKey(text: string): Buffer {
  if (/^(?:[0-9a-f]{2})+$/i.test(text)) return Buffer.from(text, 'hex');
  const key = Buffer.from(text, 'base64');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || key.length === 0) {
    throw new ServerError('invalid-request', "'key' must be a valid hex or base64 string");
  }
  return key;
}

/** As Go's `strconv.ParseBool`; a name alone says nothing (parseutil.ParseBool). */
function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name) ?? '';
  if (/^(?:1|t|true|TRUE|True|T)$/.test(value)) return true;
  if (/^(?:|0|f|false|FALSE|False|F)$/.test(value)) return false;
  throw new ServerError('invalid-request', `bad value for ${name} parameter`);
}

function statusParameter(query: URLSearchParams, name: string, byDefault: number): number {
  const text = query.get(name);
  if (text === null) return byDefault;
  const status = /^\d+$/.test(text) ? Number(text) : 0;
  // OpenBao takes any number, and breaks the connection over one that HTTP does not know.
  if (status < 200 || status > 999) {
    throw new ServerError('invalid-request', `${name} must be an HTTP status`);
  }
  return status;
}

function json(status: number, body: JsonObject): Answer {
  return {
    status,
    headers: ['Cache-Control', 'no-store', 'Content-Type', 'application/json'],
    body: `${JSON.stringify(body)}\n`,
  };
}
