/**
 * The server's configuration: HCL or JSON, OpenBao's own keys where they exist
 * (internal/command/server/config.go), each setting with unit, default and bounds. Read once.
 */

import { readFileSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';

import {
  boolean,
  durationMs,
  integer,
  oneOf,
  readFields,
  text,
  type FieldValues,
} from './config-fields.ts';
import { HclError, hclBlocks, parseHcl, type HclBlock, type HclObject } from './hcl.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

const TOP_LEVEL = {
  /** What other nodes and redirected clients reach this node by; the listener if absent. */
  api_addr: text(undefined),
  /** What peers reach the cluster port by; the listener's `cluster_address` if absent. */
  cluster_addr: text(undefined),
  cluster_name: text(undefined),
  log_level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  default_lease_ttl: durationMs(768 * HOUR, { min: SECOND, max: 87_600 * HOUR }),
  max_lease_ttl: durationMs(768 * HOUR, { min: SECOND, max: 87_600 * HOUR }),
  default_max_request_duration: durationMs(90 * SECOND, { min: SECOND, max: HOUR }),
  disable_standby_reads: boolean(false),
  disable_cache: boolean(false),
  /** Entries of the physical cache. */
  cache_size: integer(131_072, { min: 1, max: 16 * MIB }),
  enable_response_header_raft_node_id: boolean(false),
  enable_response_header_hostname: boolean(false),
  // Ours.
  /** `sys/internal/state-hash`, for tests that compare nodes. */
  introspection: boolean(false),
  /** Forward before the work where the outcome is certain, not only at the first write. */
  early_forward: boolean(true),
  /** Whether a standby that becomes active keeps what it has loaded, or unseals anew. */
  promotion: oneOf(['reuse', 'rebuild'], 'reuse'),
  /** A forwarded write is answered once the standby that forwarded it has applied it. */
  await_forwarded_writes: boolean(true),
  /** How long a request that only an active node can answer waits for one to appear. */
  leader_wait: durationMs(5 * SECOND, { min: 0, max: 10 * MINUTE }),
} as const;

const RAFT = {
  path: text(undefined),
  /** Made up and kept beside the data if absent. */
  node_id: text(undefined),
  /**
   * Election timeout in seconds. OpenBao's default is 5, and its advice for production is 1, which
   * is the default here.
   */
  performance_multiplier: integer(1, { min: 1, max: 10 }),
  trailing_logs: integer(10_240, { min: 16, max: 10_000_000 }),
  /** No more than the log takes: it cannot write a larger entry, and a node whose log fails ends. */
  max_entry_size: integer(MIB, { min: 64 * KIB, max: 8 * MIB }),
  /** Whether a node that joins by `retry_join` is to stay without a vote. */
  retry_join_as_non_voter: boolean(false),
  // Ours.
  /** As `trailing_logs`, in bytes; the lesser bound counts. */
  trailing_bytes: integer(64 * MIB, { min: MIB, max: 4096 * MIB }),
  /** How long a server must be healthy to become a voter, until `autopilot/configuration` says. */
  autopilot_server_stabilization_time: durationMs(10 * SECOND, { min: 0, max: HOUR }),
  /** Tell followers of a new commit index at once, or with the next append or `commit_timeout`. */
  commit_notify: oneOf(['push', 'piggyback'], 'push'),
  commit_timeout: durationMs(50, { min: 1, max: 10 * SECOND }),
  /** Let a leader that a quorum has answered of late answer linearizable reads alone. */
  leader_lease: oneOf(['off', 'on'], 'off'),
  /** Whether a committed write is on disk before it is visible, or visible first: same promises. */
  fsm_mode: oneOf(['sync', 'overlay'], 'overlay'),
  log_thread: oneOf(['worker', 'inline'], 'worker'),
  /** Whether raft, with the cluster port and the peers, has a thread of its own. */
  raft_threads: oneOf(['inline', 'worker'], 'inline'),
  /** Writes that wait or are in flight; more are refused with 503 and `Retry-After`. */
  max_pending_writes: integer(4096, { min: 1, max: 1_000_000 }),
  /** Bytes per second of snapshots that are built, sent (all together), installed; 0: no limit. */
  snapshot_rate: integer(32 * MIB, { min: 0, max: 1024 * 1024 * MIB }),
} as const;

/** A member to ask, of OpenBao's `retry_join`: certificates as PEM texts or as files of them. */
const RETRY_JOIN = {
  leader_api_addr: text(undefined),
  leader_ca_cert: text(undefined),
  leader_ca_cert_file: text(undefined),
  leader_client_cert: text(undefined),
  leader_client_cert_file: text(undefined),
  leader_client_key: text(undefined),
  leader_client_key_file: text(undefined),
  leader_tls_servername: text(undefined),
} as const;

const LISTENER = {
  address: text('127.0.0.1:8200'),
  /** One port above `address` if absent. */
  cluster_address: text(undefined),
  tls_disable: boolean(false),
  tls_cert_file: text(undefined),
  tls_key_file: text(undefined),
  max_request_size: integer(32 * MIB, { min: KIB, max: 32 * MIB }),
  max_request_json_strings: integer(1000, { min: 1, max: 1_000_000 }),
  max_connections: integer(10_000, { min: 1, max: 1_000_000 }),
  consistency_missing_header_forward: boolean(false),
  consistency_fallback_behavior: oneOf(['fail', 'forward-active-node'], 'fail'),
  // Ours, see `docs/consistency.md`: what a read gets that does not say what it wants.
  consistency_default: oneOf(['stale', 'bounded', 'linearizable', 'leader'], 'stale'),
  /** The bound of a bounded read that gives none; 0: it has to. */
  consistency_max_staleness: durationMs(0, { min: 0, max: HOUR }),
  /** How long a read waits to be proved current, before it is refused. */
  consistency_read_wait: durationMs(2 * SECOND, { min: 1, max: MINUTE }),
  consistency_max_index_wait: durationMs(0, { min: 0, max: MINUTE }),
  /** What OpenBao ships, or what its RFC says. */
  consistency_fail_status: oneOf([429, 412], 429),
} as const;

const LISTENER_TELEMETRY = { unauthenticated_metrics_access: boolean(false) } as const;

/** OpenBao's keys that change nothing here; the node says so once. */
const IGNORED = [
  'ui',
  'raw_storage_endpoint',
  'disable_mlock',
  'disable_sealwrap',
  'disable_indexing',
  'pid_file',
  'log_format',
  'plugin_directory',
  'telemetry',
];

const IGNORED_OF_RAFT = [
  'snapshot_threshold',
  'snapshot_interval',
  'max_transaction_size',
  'autopilot_update_interval',
  'autopilot_reconcile_interval',
];

/** Keys of `storage "raft"` that may also stand at the top level. */
const RAFT_AT_TOP = ['commit_notify', 'commit_timeout', 'fsm_mode', 'log_thread', 'raft_threads'];

export type RetryJoin = FieldValues<typeof RETRY_JOIN> & { readonly leader_api_addr: string };

export type Config = FieldValues<typeof TOP_LEVEL> & {
  readonly raft: Omit<FieldValues<typeof RAFT>, 'path'> & {
    readonly path: string;
    readonly retryJoin: readonly RetryJoin[];
  };
  readonly listener: FieldValues<typeof LISTENER> &
    FieldValues<typeof LISTENER_TELEMETRY> & {
      readonly host: string;
      readonly port: number;
      readonly clusterHost: string;
      readonly clusterPort: number;
      readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
    };
  /** `host:port`, or undefined: then that of the listener. */
  readonly clusterAddress: string | undefined;
  readonly ignored: readonly string[];
};

/** The message is `file:line:column: what is wrong`. */
export class ConfigError extends Error {
  constructor(file: string, message: string, options?: ErrorOptions) {
    super(`${file}:${message}`, options);
    this.name = 'ConfigError';
  }
}

/** Throws `ConfigError`, or the error of reading the file. */
export function loadConfig(file: string): Config {
  return parseConfig(readFileSync(file, 'utf8'), file);
}

export function parseConfig(source: string, file: string): Config {
  try {
    return readConfig(parseHcl(source));
  } catch (error) {
    if (error instanceof HclError) throw new ConfigError(file, error.message, { cause: error });
    throw error;
  }
}

function readConfig(document: HclObject): Config {
  const isRaftKey = (key: string): boolean => RAFT_AT_TOP.includes(key);
  const atTop = document.items.filter(({ key }) => isRaftKey(key));
  const rest = { ...document, items: document.items.filter(({ key }) => !isRaftKey(key)) };
  const blocks = ['storage', 'listener', ...IGNORED];
  const topLevel = readFields(rest, TOP_LEVEL, blocks);
  const raftBlock = onlyBlock(document, 'storage', 'raft');
  const raftBody = { ...raftBlock.body, items: [...atTop, ...raftBlock.body.items] };
  const { path, ...raft } = readFields(raftBody, RAFT, ['retry_join', ...IGNORED_OF_RAFT]);
  // It goes out in headers, which cannot hold anything else.
  if (raft.node_id !== undefined && !/^[!-~]+$/.test(raft.node_id)) {
    throw placed(raftBody, 'node_id', 'expected ASCII characters that can be seen');
  }
  if (path === undefined || path === '') {
    throw new HclError(raftBlock, 'storage "raft" needs a path');
  }
  const clusterAddress = topLevel.cluster_addr;
  if (topLevel.max_lease_ttl < topLevel.default_lease_ttl) {
    throw placed(document, 'max_lease_ttl', 'must not be below default_lease_ttl');
  }
  if (topLevel.api_addr !== undefined && !/^https?:\/\/[^/]+\/?$/.test(topLevel.api_addr)) {
    throw placed(document, 'api_addr', 'expected an address like "https://10.0.0.1:8200"');
  }
  return {
    ...topLevel,
    raft: {
      ...raft,
      path: isAbsolute(path) ? path : resolve(path),
      retryJoin: hclBlocks(raftBlock.body, 'retry_join', 'none').map(readRetryJoin),
    },
    listener: readListener(onlyBlock(document, 'listener', 'tcp')),
    clusterAddress:
      clusterAddress === undefined ? undefined : clusterHostPort(document, clusterAddress),
    ignored: [...document.items, ...raftBlock.body.items]
      .map(({ key }) => key)
      .filter((key) => IGNORED.includes(key) || IGNORED_OF_RAFT.includes(key)),
  };
}

function readRetryJoin({ body }: HclBlock): RetryJoin {
  const fields = readFields(body, RETRY_JOIN, []);
  const { leader_api_addr: address } = fields;
  if (address === undefined || !/^https?:\/\/[^/]+\/?$/.test(address)) {
    throw placed(body, 'leader_api_addr', 'expected an address like "https://10.0.0.1:8200"');
  }
  return { ...fields, leader_api_addr: address.replace(/\/$/, '') };
}

function readListener({ body, line, column }: HclBlock): Config['listener'] {
  const listener = readFields(body, LISTENER, ['telemetry']);
  const [telemetryBlock] = hclBlocks(body, 'telemetry', 'none');
  const noBlock: HclObject = { line, column, items: [] };
  const telemetry = readFields(telemetryBlock?.body ?? noBlock, LISTENER_TELEMETRY, []);
  if (listener.consistency_default === 'bounded' && listener.consistency_max_staleness === 0) {
    throw placed(body, 'consistency_default', 'bounded needs consistency_max_staleness');
  }
  const { host, port } = hostPort(body, 'address', listener.address);
  const cluster = listener.cluster_address;
  const clusterPlace =
    cluster === undefined
      ? { host, port: port === 0 ? 0 : port + 1 }
      : hostPort(body, 'cluster_address', cluster);
  return {
    ...listener,
    ...telemetry,
    host,
    port,
    clusterHost: clusterPlace.host,
    clusterPort: clusterPlace.port,
    tls: tlsFiles({ body, line, column, label: 'tcp' }, listener),
  };
}

function tlsFiles(
  block: HclBlock,
  listener: FieldValues<typeof LISTENER>,
): Config['listener']['tls'] {
  const { tls_disable: isDisabled, tls_cert_file: certFile, tls_key_file: keyFile } = listener;
  if (isDisabled) return undefined;
  if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile };
  throw new HclError(
    block,
    'listener "tcp" needs tls_cert_file and tls_key_file, or tls_disable = true',
  );
}

function onlyBlock(document: HclObject, key: string, label: string): HclBlock {
  const blocks = hclBlocks(document, key, 'required');
  const [block, second] = blocks;
  if (block === undefined) throw new HclError(document, `a ${key} "${label}" block is missing`);
  if (block.label !== label) {
    throw new HclError(block, `${key} "${block.label}" is not supported, only "${label}"`);
  }
  if (second !== undefined) throw new HclError(second, `more than one ${key} block`);
  return block;
}

/** `host:port` or `[v6]:port`. */
function hostPort(body: HclObject, key: string, address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw placed(body, key, 'expected an address like "127.0.0.1:8200"');
  }
  return { host, port };
}

function clusterHostPort(document: HclObject, address: string): string {
  const bare = address.replace(/^https?:\/\//, '').replace(/\/$/, '');
  hostPort(document, 'cluster_addr', bare);
  return bare;
}

function placed(body: HclObject, key: string, message: string): HclError {
  return new HclError(body.items.find((item) => item.key === key) ?? body, `${key}: ${message}`);
}
