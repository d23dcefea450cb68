/** Backups of the cluster's state (OpenBao internal/vault/logical_system_raft.go). */

import type { LogicalResponse } from '../core/backend.ts';
import { invalidRequest } from './fields.ts';
import type { SystemRequest } from './system-ports.ts';

export async function saveSnapshot({ ports }: SystemRequest): Promise<LogicalResponse> {
  const stream = await ports.snapshots.save();
  return { raw: { contentType: 'application/gzip', body: '', stream } };
}

/** A state that this cluster's keys do not open is refused. */
export function restore(system: SystemRequest): Promise<undefined> {
  return restoreWith(system, { force: false });
}

export function forceRestore(system: SystemRequest): Promise<undefined> {
  return restoreWith(system, { force: true });
}

async function restoreWith(
  { request, ports }: SystemRequest,
  options: { readonly force: boolean },
): Promise<undefined> {
  if (request.stream === undefined) throw invalidRequest('no reader for request');
  await ports.snapshots.restore(request.stream, options);
}
