/** What a node says of its share in the cluster, for `sys/` endpoints and metrics. */

import type { RaftStatus } from '../raft/raft.ts';
import type { MachineStatistics } from './machine-statistics.ts';
import { NO_STATISTICS } from './raft-statistics.ts';
import type { RaftStatistics } from './raft-statistics.ts';

export type PeerStatus = {
  readonly id: string;
  readonly matchIndex: number;
  readonly appliedIndex: number;
  /** Committed entries that the peer is not known to have applied. */
  readonly lagEntries: number;
  readonly kind: 'probe' | 'replicate' | 'snapshot';
  /** Heard from within the last election timeout. */
  readonly recentActive: boolean;
};

export type ReplicaStatus = {
  readonly nodeId: string;
  /** `stopped` before `start` and after `stop`. */
  readonly role: RaftStatus['role'] | 'stopped';
  readonly leaderId: string | undefined;
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly lastIndex: number;
  readonly firstIndex: number;
  /** Writes that wait or are in flight. */
  readonly proposals: number;
  /** On the leader: every other server. Empty elsewhere. */
  readonly peers: readonly PeerStatus[];
  readonly statistics: RaftStatistics;
  readonly machine: MachineStatistics;
};

export function statusOf(node: {
  readonly nodeId: string;
  readonly appliedIndex: number;
  readonly proposals: number;
  readonly raft: RaftStatus | undefined;
  readonly statistics: RaftStatistics | undefined;
  readonly machine: MachineStatistics;
}): ReplicaStatus {
  const { nodeId, appliedIndex, proposals, raft } = node;
  const peers = [...(raft?.progress ?? [])]
    .filter(([id]) => id !== nodeId)
    .map(([id, peer]) => ({
      id,
      matchIndex: peer.matchIndex,
      appliedIndex: peer.appliedIndex,
      lagEntries: Math.max(0, (raft?.commitIndex ?? 0) - peer.appliedIndex),
      kind: peer.kind,
      recentActive: peer.recentActive,
    }));
  return {
    nodeId,
    role: raft?.role ?? 'stopped',
    leaderId: raft?.leaderId ?? undefined,
    term: raft?.currentTerm ?? 0,
    commitIndex: raft?.commitIndex ?? 0,
    appliedIndex,
    lastIndex: raft?.lastIndex ?? 0,
    firstIndex: raft?.firstIndex ?? 0,
    proposals,
    peers,
    statistics: node.statistics ?? NO_STATISTICS,
    machine: node.machine,
  };
}
