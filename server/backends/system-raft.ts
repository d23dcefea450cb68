/** Paths below `sys/storage/raft/` (OpenBao internal/vault/logical_system_raft.go). */

import type { JsonObject, LogicalResponse } from '../core/backend.ts';
import type { AutopilotConfiguration, AutopilotServer } from '../core/ports.ts';
import { formatDuration, formatTime } from '../duration.ts';
import { ServerError, asMultierror, isServerError } from '../errors.ts';
import { booleanField, countField, durationField, invalidRequest, stringField } from './fields.ts';
import type { SystemRequest } from './system-ports.ts';

/** logical_system_raft.go maxServerIDLength. */
const NODE_ID_BYTES_MAX = 16_384;
/** Who cleans up dead servers must say how many are to be left, and not too few. */
const MIN_QUORUM_MIN = 3;
const DEAD_SERVER_THRESHOLD_MS_MIN = 60_000;

export function raftConfiguration({ ports }: SystemRequest): LogicalResponse {
  const { servers, index } = ports.raft.configuration();
  return {
    data: {
      config: {
        servers: servers.map((server) => ({
          node_id: server.id,
          address: server.address,
          leader: server.isLeader,
          protocol_version: '3',
          voter: server.suffrage === 'voter',
        })),
        index,
      },
    },
  };
}

export async function removePeer(system: SystemRequest): Promise<undefined> {
  const nodeId = nodeIdOf(system);
  await asOpenBaoRefuses(system.ports.raft.removeServer(nodeId));
}

/** What its raft refuses OpenBao returns as an error without a response. */
async function asOpenBaoRefuses(change: Promise<void>): Promise<void> {
  try {
    await change;
  } catch (error) {
    if (!isServerError(error, 'refused')) throw error;
    throw new ServerError('refused', asMultierror(error.message), { cause: error });
  }
}

export async function promotePeer(system: SystemRequest): Promise<undefined> {
  await asOpenBaoRefuses(system.ports.raft.promoteServer(nodeIdOf(system)));
}

export async function demotePeer(system: SystemRequest): Promise<undefined> {
  await asOpenBaoRefuses(system.ports.raft.demoteServer(nodeIdOf(system)));
}

/** Without a state OpenBao answers as for what does not exist. */
export function readAutopilotState({ ports }: SystemRequest): LogicalResponse | undefined {
  const state = ports.raft.autopilot.state();
  if (state === undefined) return undefined;
  const { isHealthy, failureTolerance, leader, voters, nonVoters, servers } = state;
  const rows = servers.map((server) => [server.id, serverFields(server, ports)] as const);
  return {
    data: {
      healthy: isHealthy,
      failure_tolerance: failureTolerance,
      servers: Object.fromEntries(rows),
      leader,
      voters: [...voters],
      ...(nonVoters.length === 0 ? {} : { non_voters: [...nonVoters] }),
    },
  };
}

/** Every node runs the same version here, so what the leader runs is what OpenBao would be told. */
function serverFields(
  server: AutopilotServer,
  { clock, version }: SystemRequest['ports'],
): JsonObject {
  return {
    id: server.id,
    name: server.id,
    address: server.address,
    node_status: server.nodeStatus,
    last_contact: formatContact(Math.round(server.lastContactMs)),
    last_term: server.lastTerm,
    last_index: server.lastIndex,
    healthy: server.isHealthy,
    stable_since: formatTime(Math.round(clock() - server.stableMs)),
    status: server.status,
    version,
    node_type: server.nodeType,
  };
}

/** As Go prints it, to the millisecond below a minute. */
function formatContact(ms: number): string {
  if (ms === 0) return '0s';
  if (ms < 1000) return `${ms}ms`;
  return ms < 60_000 ? `${ms / 1000}s` : formatDuration(Math.round(ms / 1000));
}

export function readAutopilotConfiguration({ ports }: SystemRequest): LogicalResponse {
  const configuration = ports.raft.autopilot.configuration();
  return {
    data: {
      cleanup_dead_servers: configuration.cleanupDeadServers,
      last_contact_threshold: formatDuration(configuration.lastContactThresholdMs / 1000),
      dead_server_last_contact_threshold: formatDuration(
        configuration.deadServerLastContactThresholdMs / 1000,
      ),
      max_trailing_logs: configuration.maxTrailingLogs,
      min_quorum: configuration.minQuorum,
      server_stabilization_time: formatDuration(configuration.serverStabilizationMs / 1000),
    },
  };
}

/** Keeps what is not given. A 0 counts, where OpenBao's merge would pass it over. */
export async function writeAutopilotConfiguration({
  request,
  ports,
}: SystemRequest): Promise<undefined> {
  const change = autopilotChange(request.data);
  const effective = { ...ports.raft.autopilot.configuration(), ...change };
  const { cleanupDeadServers, minQuorum, deadServerLastContactThresholdMs } = effective;
  if (cleanupDeadServers && minQuorum < MIN_QUORUM_MIN) {
    throw invalidRequest(
      'min_quorum must be set when cleanup_dead_servers is set and it should at least be 3; ' +
        `cleanup_dead_servers: true, min_quorum: 0x${minQuorum.toString(16)}`,
    );
  }
  if (cleanupDeadServers && deadServerLastContactThresholdMs < DEAD_SERVER_THRESHOLD_MS_MIN) {
    throw invalidRequest(
      'dead_server_last_contact_threshold should not be set to less than 1m; ' +
        `received: ${deadServerLastContactThresholdMs / 1000}`,
    );
  }
  if (Object.keys(change).length > 0) await ports.raft.autopilot.set(change);
}

/** `disable_upgrade_migration` is taken and means nothing, as in OpenBao. */
function autopilotChange(data: JsonObject): Partial<AutopilotConfiguration> {
  booleanField(data, 'disable_upgrade_migration');
  const ms = (name: string): number | undefined => {
    const seconds = durationField(data, name);
    return seconds === undefined ? undefined : seconds * 1000;
  };
  const change = {
    cleanupDeadServers: booleanField(data, 'cleanup_dead_servers'),
    lastContactThresholdMs: ms('last_contact_threshold'),
    deadServerLastContactThresholdMs: ms('dead_server_last_contact_threshold'),
    maxTrailingLogs: countField(data, 'max_trailing_logs'),
    minQuorum: countField(data, 'min_quorum'),
    serverStabilizationMs: ms('server_stabilization_time'),
  };
  const given = Object.entries(change).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

export async function createChallenge(system: SystemRequest): Promise<LogicalResponse> {
  return { data: await system.ports.raft.challenge(nodeIdOf(system)) };
}

export async function answerChallenge(system: SystemRequest): Promise<LogicalResponse> {
  const { data } = system.request;
  const nodeId = nodeIdOf(system, 'no server_id provided');
  const answer = stringField(data, 'answer') ?? '';
  if (answer === '') throw invalidRequest('no answer provided');
  const clusterAddress = stringField(data, 'cluster_addr') ?? '';
  if (clusterAddress === '') throw invalidRequest('no cluster_addr provided');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(answer)) {
    throw invalidRequest('could not base64 decode answer');
  }
  const nonVoter = booleanField(data, 'non_voter') ?? false;
  const instance = stringField(data, 'instance') ?? '';
  if (!/^[0-9a-f]{32}$/.test(instance)) throw invalidRequest('no instance provided');
  const claim = { nodeId, instance, clusterAddress, nonVoter };
  return { data: await system.ports.raft.answer({ ...claim, answer }) };
}

function nodeIdOf({ request }: SystemRequest, complaint = 'no server id provided'): string {
  const nodeId = stringField(request.data, 'server_id');
  if (nodeId === undefined || nodeId === '') throw invalidRequest(complaint);
  if (Buffer.byteLength(nodeId) > NODE_ID_BYTES_MAX) {
    throw invalidRequest('server id exceeds max length');
  }
  return nodeId;
}
