/**
 * Paths about this node and its place in the cluster: HA, keys, metrics, host (OpenBao
 * internal/vault/logical_system.go).
 */

import type { LogicalResponse } from '../core/backend.ts';
import { unsupportedPathError } from '../errors.ts';
import { formatTime } from '../duration.ts';
import { stringField } from './fields.ts';
import { listResponse, scanResponse } from './listing.ts';
import { requireToken } from './system-access.ts';
import type { SystemRequest } from './system-ports.ts';

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
        upgrade_version: node.version,
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
    throw unsupportedPathError();
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
