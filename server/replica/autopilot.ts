/**
 * What the leader makes of its servers' health: who may become a voter, who is dead for good. The
 * rules are those of hashicorp/raft-autopilot with OpenBao's promoter (internal/physical/raft/
 * raft_autopilot*.go), but that changes which are due together are made together, as one joint one.
 *
 * Everything here is computed from what is handed in; `membership.ts` acts on it.
 */

import type { AutopilotConfiguration, AutopilotServer, AutopilotState } from '../core/ports.ts';
import type { NodeId, Server } from '../raft/message.ts';
import { Quorum, quorumSize } from '../raft/quorum.ts';
import type { RaftStatus } from '../raft/raft.ts';
import { LogExtents } from './log-extents.ts';
import { TICK_MS } from './tick-schedule.ts';

/** OpenBao's defaults. */
export const DEFAULT_AUTOPILOT: AutopilotConfiguration = {
  cleanupDeadServers: false,
  lastContactThresholdMs: 10_000,
  deadServerLastContactThresholdMs: 24 * 3_600_000,
  maxTrailingLogs: 1000,
  minQuorum: 0,
  serverStabilizationMs: 10_000,
};

/** A learner so close can be caught up within one append. */
const PROMOTION_LAG_ENTRIES_MAX = 100;
/** Activity since the leader last began to count would be too fickle: it starts from nothing. */
const PROMOTION_QUIET_TICKS_MAX = 2000 / TICK_MS;

export type Observation = {
  readonly nowMs: number;
  /** Of a leader. */
  readonly raft: RaftStatus;
  readonly configuration: AutopilotConfiguration;
  /** Servers that are to stay without a vote. */
  isNonVoter(id: NodeId): boolean;
};

type Seen = { readonly isHealthy: boolean; readonly sinceMs: number };

/** The memory of one leadership: since when each server is as it is. */
export class HealthWatch {
  readonly #term: number;
  readonly #firstMs: number;
  #seen: ReadonlyMap<NodeId, Seen> = new Map();
  readonly #extents = new LogExtents();

  constructor({ nowMs, raft }: Pick<Observation, 'nowMs' | 'raft'>) {
    this.#term = raft.currentTerm;
    this.#firstMs = nowMs;
  }

  get term(): number {
    return this.#term;
  }

  observe(observation: Observation): AutopilotState {
    const { nowMs, raft } = observation;
    const quorum = new Quorum(raft.configuration);
    const dueIndex = this.#dueIndex(observation);
    const seen = new Map<NodeId, Seen>();
    const servers = raft.configuration.servers.map((server) => {
      const isVoter = quorum.includes(server.id);
      const facts = factsOf(server, { ...observation, isVoter, dueIndex });
      const before = this.#seen.get(server.id);
      const isSame = before?.isHealthy === facts.isHealthy;
      const now = isSame ? before : { isHealthy: facts.isHealthy, sinceMs: nowMs };
      seen.set(server.id, now);
      return { ...facts, stableMs: nowMs - now.sinceMs };
    });
    this.#seen = seen;
    return summarize(raft.id, servers);
  }

  /** What every state machine should have made durable by now; 0 while that is not known. */
  #dueIndex({ nowMs, raft, configuration }: Observation): number {
    const { lastContactThresholdMs } = configuration;
    this.#extents.add({ atMs: nowMs, lastIndex: raft.lastIndex }, lastContactThresholdMs);
    return this.#extents.lastIndexAt(nowMs - lastContactThresholdMs);
  }

  /**
   * As long as nobody can have been watched for the stabilization time, it is not asked for: a new
   * leader would otherwise hold up a cluster that is just being founded.
   */
  stabilizationMs({ nowMs, configuration }: Observation): number {
    const { serverStabilizationMs } = configuration;
    return nowMs - this.#firstMs > serverStabilizationMs ? serverStabilizationMs : 0;
  }
}

type Facts = Omit<AutopilotServer, 'stableMs'>;

/**
 * How far behind a server is, is told by its log. The applied index that servers report is that of
 * their disk, and may trail the log by a flush of everything that was written meanwhile: no number
 * of entries bounds that for a healthy server, a time does. So who does not apply what it has, is
 * found out as late as who is silent.
 */
function factsOf(
  { id, address }: Server,
  observed: Observation & { readonly isVoter: boolean; readonly dueIndex: number },
): Facts {
  const { raft, configuration, isNonVoter, isVoter, dueIndex } = observed;
  const isLeader = id === raft.id;
  const progress = raft.progress.get(id);
  const lastContactMs = isLeader ? 0 : (progress?.quietTicks ?? 0) * TICK_MS;
  const lastIndex = progress?.matchIndex ?? 0;
  // Who has not confirmed anything in this term is not known to be led by this leader.
  const isLed = lastIndex > 0;
  const isDead =
    configuration.cleanupDeadServers &&
    configuration.deadServerLastContactThresholdMs < lastContactMs;
  return {
    id,
    address,
    status: isLeader ? 'leader' : isVoter ? 'voter' : 'non-voter',
    nodeType: isNonVoter(id) ? 'non-voter' : 'voter',
    nodeStatus: isDead ? 'left' : 'alive',
    lastContactMs,
    lastTerm: isLed ? raft.currentTerm : 0,
    lastIndex,
    isHealthy:
      !isDead &&
      isLed &&
      lastContactMs <= configuration.lastContactThresholdMs &&
      raft.lastIndex <= lastIndex + configuration.maxTrailingLogs &&
      dueIndex <= (progress?.appliedIndex ?? 0) + configuration.maxTrailingLogs,
  };
}

function summarize(leader: NodeId, servers: readonly AutopilotServer[]): AutopilotState {
  const voters = servers.filter(({ status }) => status !== 'non-voter');
  const healthyCount = voters.filter(({ isHealthy }) => isHealthy).length;
  return {
    isHealthy: servers.every(({ isHealthy }) => isHealthy),
    failureTolerance: Math.max(0, healthyCount - quorumSize(voters.length)),
    leader,
    voters: voters.map(({ id }) => id),
    nonVoters: servers.filter(({ nodeType }) => nodeType === 'non-voter').map(({ id }) => id),
    servers,
  };
}

/** Servers without a vote that may get one. */
export function findPromotions(
  { servers }: AutopilotState,
  { raft }: Observation,
  stabilizationMs: number,
): NodeId[] {
  return servers
    .filter(({ status, nodeType, isHealthy, stableMs }) => {
      return (
        status === 'non-voter' && nodeType === 'voter' && isHealthy && stabilizationMs <= stableMs
      );
    })
    .map(({ id }) => id)
    .filter((id) => {
      const peer = raft.progress.get(id);
      if (peer?.kind !== 'replicate') return false;
      if (PROMOTION_QUIET_TICKS_MAX < peer.quietTicks) return false;
      return raft.lastIndex - peer.matchIndex <= PROMOTION_LAG_ENTRIES_MAX;
    });
}

/** Voters that are to be none. Of the leader only a transfer, or the operator, takes the vote. */
export function findDemotions({ servers }: AutopilotState): NodeId[] {
  return servers
    .filter(({ status, nodeType }) => status === 'voter' && nodeType === 'non-voter')
    .map(({ id }) => id);
}

/**
 * Dead servers that may go: never so many that fewer than `minQuorum` are left of those that vote
 * or will, and never a majority of the voters at once; those without a vote first.
 */
export function findRemovals(
  { servers }: AutopilotState,
  { minQuorum }: AutopilotConfiguration,
): NodeId[] {
  const dead = servers
    .filter(({ nodeStatus }) => nodeStatus === 'left')
    .toSorted((left, right) => Number(left.status === 'voter') - Number(right.status === 'voter'));
  const removals: NodeId[] = [];
  let potential = servers.filter(({ nodeType }) => nodeType === 'voter').length;
  const voterCount = servers.filter(({ status }) => status !== 'non-voter').length;
  let minorityLeft = voterCount - quorumSize(voterCount);
  for (const { id, status, nodeType } of dead) {
    const isPotential = nodeType === 'voter';
    if (isPotential && potential - 1 < minQuorum) continue;
    if (status === 'voter' && minorityLeft < 1) continue;
    if (status === 'voter') minorityLeft -= 1;
    if (isPotential) potential -= 1;
    removals.push(id);
  }
  return removals;
}
