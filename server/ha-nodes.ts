/** What `sys/ha-status` says of the members (OpenBao internal/vault/ha.go, `getHAMembers`). */

import type { HaNode } from './backends/system-ports.ts';
import type { Leader } from './core/core-options.ts';
import type { AutopilotState, ClusterServer } from './core/ports.ts';

/**
 * Asked on the active node. Only that says where clients reach it; of the others the cluster address
 * is known, and when they were last heard: raft's messages are the echo.
 */
export function haNodes(known: {
  readonly leader: Leader | undefined;
  readonly servers: readonly ClusterServer[];
  readonly autopilot: AutopilotState | undefined;
  /** Of this machine. */
  readonly hostname: string;
  readonly version: string;
  readonly nowMs: number;
}): HaNode[] {
  const { leader, servers, autopilot, hostname, version, nowMs } = known;
  const nodes = servers.map(({ id, address }): HaNode => {
    const isActive = id === leader?.nodeId;
    const heard = autopilot?.servers.find((server) => server.id === id);
    // Not heard in this term is not heard, as far as this node can tell.
    const isHeard = !isActive && heard !== undefined && heard.lastTerm > 0;
    return {
      hostname: isActive && leader.isSelf ? hostname : id,
      apiAddress: isActive ? leader.redirectAddress : '',
      clusterAddress: `https://${address}`,
      isActive,
      lastEcho: isHeard ? new Date(nowMs - heard.lastContactMs).toISOString() : null,
      version,
    };
  });
  // By the address of the API, as in OpenBao: those without one come first.
  return nodes.toSorted((one, other) => Number(one.isActive) - Number(other.isActive));
}
