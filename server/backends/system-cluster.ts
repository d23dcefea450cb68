/**
 * Paths about the cluster and this node: HA, Raft membership, keys, metrics, host (OpenBao
 * internal/vault/logical_system.go, logical_system_raft.go).
 */

import type { LogicalResponse } from '../core/backend.ts';
import { ServerError } from '../errors.ts';
import { formatTime } from '../duration.ts';
import { booleanField, invalidRequest, stringField } from './fields.ts';
import { listResponse, scanResponse } from './listing.ts';
import { requireToken } from './system-access.ts';
import type { SystemRequest } from './system-ports.ts';

/** logical_system_raft.go maxServerIDLength. */
const NODE_ID_BYTES_MAX = 16_384;

export async function readHaStatus({ ports }: SystemRequest): Promise<LogicalResponse> {
  const nodes = await ports.ha.nodes();
  return {
    data: {
      nodes: nodes.map((node) => ({
        hostname: node.hostname,
        api_address: node.apiAddress,
        cluster_address: node.clusterAddress,
        active_node: node.isActive,
        last_echo: node.lastEcho,
        version: node.version,
      })),
    },
  };
}

export async function seal({ ports }: SystemRequest): Promise<undefined> {
  await ports.ha.seal();
}

export async function stepDown({ ports }: SystemRequest): Promise<undefined> {
  await ports.ha.stepDown();
}

export function keyStatus({ ports }: SystemRequest): LogicalResponse {
  const { term, installTimeMs, encryptions } = ports.keyStatus();
  return { data: { term, install_time: formatTime(installTimeMs), encryptions } };
}

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
  await system.ports.raft.removeServer(nodeId);
}

export async function createChallenge(system: SystemRequest): Promise<LogicalResponse> {
  return { data: await system.ports.raft.challenge(nodeIdOf(system)) };
}

export async function answerChallenge(system: SystemRequest): Promise<LogicalResponse> {
  const { data } = system.request;
  const nodeId = nodeIdOf(system);
  const answer = stringField(data, 'answer') ?? '';
  if (answer === '') throw invalidRequest('no answer provided');
  const clusterAddress = stringField(data, 'cluster_addr') ?? '';
  if (clusterAddress === '') throw invalidRequest('no cluster_addr provided');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(answer)) {
    throw invalidRequest('could not base64 decode answer');
  }
  const nonVoter = booleanField(data, 'non_voter') ?? false;
  return { data: await system.ports.raft.answer({ nodeId, clusterAddress, answer, nonVoter }) };
}

/** Always Prometheus text: there is no in-memory sink whose JSON OpenBao answers by default. */
export async function metrics({ request, ports }: SystemRequest): Promise<LogicalResponse> {
  const format = stringField(request.data, 'format') ?? '';
  if (format !== '' && format !== 'prometheus') {
    return {
      status: 400,
      raw: {
        contentType: 'text/plain',
        body: `metric response format ${JSON.stringify(format)} unknown`,
      },
    };
  }
  const body = await ports.metrics();
  return { raw: { contentType: 'text/plain; version=0.0.4; charset=utf-8', body } };
}

export function hostInfo({ ports }: SystemRequest): LogicalResponse {
  return { data: ports.hostInfo() };
}

export async function stateHash({ ports }: SystemRequest): Promise<LogicalResponse> {
  if (ports.stateHash === undefined) {
    throw new ServerError('unsupported-path', 'unsupported path');
  }
  const { index, hash } = await ports.stateHash();
  return { data: { index, hash } };
}

/** Only the root namespace exists, and a namespace lists what is below it. */
export function listNamespaces(system: SystemRequest): LogicalResponse | undefined {
  const { operation } = system.request;
  // `internal/ui/namespaces` is open to requests without a token, but answers only with one.
  if (operation === 'read') requireToken(system);
  return operation === 'list' ? listResponse([]) : scanResponse([]);
}

/** OpenBao calls it `server_id`. */
function nodeIdOf({ request }: SystemRequest): string {
  const nodeId = stringField(request.data, 'server_id') ?? stringField(request.data, 'node_id');
  if (nodeId === undefined || nodeId === '') throw invalidRequest('no server id provided');
  if (Buffer.byteLength(nodeId) > NODE_ID_BYTES_MAX) {
    throw invalidRequest('server id exceeds max length');
  }
  return nodeId;
}
