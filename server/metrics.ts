/**
 * What a node counts, in Prometheus form under OpenBao's names where it has them. Requests only
 * add to plain numbers; everything else is asked for when somebody scrapes.
 */

import { Counter, Gauge, Registry } from 'prom-client';

import type { ReadStatistics } from './replica/reads.ts';
import { measureEventLoopDelay, type EventLoopDelay } from './event-loop-delay.ts';
import type { AutopilotState } from './core/ports.ts';
import type { RaftStatistics } from './replica/raft-statistics.ts';
import type { ReplicaStatus } from './replica/status.ts';
import { addAutopilot, addState } from './state-metrics.ts';
import type { Add, Adders } from './state-metrics.ts';
import type { DurationStatistics } from './storage/durations.ts';

export type MetricsSource = {
  isActive(): boolean;
  isUnsealed(): boolean;
  inFlight(): number;
  replica(): ReplicaStatus;
  /** Of a leader. */
  autopilot(): AutopilotState | undefined;
  reads(): ReadStatistics;
  /** Undefined while nothing is known. */
  stalenessMs(): number | undefined;
  /** Of raft's thread, if it has one. */
  raftDelay(): EventLoopDelay | undefined;
};

/** Added to on the way of a request; never reset. */
export type Tally = {
  requests: number;
  forwards: number;
  /** Answered with 429 or 412, as this node had not applied what the request asked for. */
  foundBehind: number;
  forwardErrors: number;
  /** Forwarded requests that this node executed as the active one. */
  forwardsServed: number;
  writes: number;
  /** Transactions that found something changed, each attempt by itself. */
  conflicts: number;
  /** Commits that found their request done already. */
  duplicates: number;
};

export function createTally(): Tally {
  return {
    requests: 0,
    forwards: 0,
    foundBehind: 0,
    forwardErrors: 0,
    forwardsServed: 0,
    writes: 0,
    conflicts: 0,
    duplicates: 0,
  };
}

export type Metrics = { text(): Promise<string>; readonly contentType: string };

const MICROSECONDS_PER_SECOND = 1e6;

export function createMetrics(source: MetricsSource, tally: Tally): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = (name: string, help: string, value: () => number): void => {
    const metric: Counter = new Counter({
      name,
      help,
      registers,
      collect: (): void => {
        metric.reset();
        metric.inc(value());
      },
    });
  };
  const gauge = (name: string, help: string, value: () => number): void => {
    const metric: Gauge = new Gauge({
      name,
      help,
      registers,
      collect: (): void => metric.set(value()),
    });
  };

  counter('vault_core_handle_request_count', 'Requests handled.', () => tally.requests);
  counter('vault_ha_rpc_client_forward_count', 'Requests forwarded.', () => tally.forwards);
  counter('vault_ha_rpc_client_forward_errors', 'Forwards that failed.', () => tally.forwardErrors);
  counter(
    'baobench_forwards_served_total',
    'Forwarded requests executed here.',
    () => tally.forwardsServed,
  );
  counter(
    'baobench_inconsistent_total',
    'Requests told that this node is behind.',
    () => tally.foundBehind,
  );
  counter('vault_raft_apply', 'Writes proposed.', () => tally.writes);
  counter(
    'baobench_transaction_conflicts_total',
    'Commits that found what they had read changed.',
    () => tally.conflicts,
  );
  counter(
    'baobench_duplicate_requests_total',
    'Commits of requests that had taken effect before.',
    () => tally.duplicates,
  );
  gauge('vault_core_active', '1 on the active node.', () => Number(source.isActive()));
  gauge('vault_core_unsealed', '1 unless sealed.', () => Number(source.isUnsealed()));
  gauge('vault_core_in_flight_requests', 'Requests under way.', () => source.inFlight());
  addReplica({ gauge, counter, registers }, source);
  addState({ gauge, counter, registers }, () => source.replica());
  addAutopilot({ gauge, counter, registers }, () => source.autopilot());
  addReads({ gauge, counter }, source);
  addRaft({ gauge, counter }, source);
  addEventLoops(registers, source);
  counter('process_cpu_seconds_total', 'User and system CPU time.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / MICROSECONDS_PER_SECOND;
  });
  gauge('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss());
  return { text: () => registry.metrics(), contentType: registry.contentType };
}

/** hashicorp/raft counts as `verify_leader` what proves the leader for a read, as a round does here. */
function addReads(
  { gauge, counter }: { readonly gauge: Add; readonly counter: Add },
  source: MetricsSource,
): void {
  counter('vault_raft_verify_leader', 'Read index rounds.', () => source.reads().roundCount);
  counter(
    'baobench_read_index_confirmed_total',
    'Read index rounds that were confirmed.',
    () => source.reads().confirmedCount,
  );
  counter(
    'baobench_linearizable_reads_total',
    'Requests that asked for a read index.',
    () => source.reads().requestCount,
  );
  counter(
    'baobench_linearizable_read_failures_total',
    'Requests that could not have it.',
    () => source.reads().failureCount,
  );
  gauge(
    'baobench_read_index_round_ms',
    'How long the last round took.',
    () => source.reads().lastRoundMs,
  );
  gauge(
    'baobench_staleness_ms',
    'This node holds all that is older than this; infinite where nothing is known.',
    () => source.stalenessMs() ?? Infinity,
  );
}

function addEventLoops(registers: Registry[], source: MetricsSource): void {
  const main = measureEventLoopDelay();
  const delay: Gauge<'thread' | 'statistic'> = new Gauge({
    name: 'baobench_event_loop_delay_seconds',
    help: 'How late an event loop runs what is due, since the node began.',
    labelNames: ['thread', 'statistic'],
    registers,
    collect: (): void => {
      const threads = { main: main(), raft: source.raftDelay() };
      for (const [thread, delays] of Object.entries(threads)) {
        for (const [statistic, seconds] of Object.entries(delays ?? {})) {
          delay.set({ thread, statistic }, seconds);
        }
      }
    },
  });
}

function mean({ count, totalMs }: DurationStatistics): number {
  return count === 0 ? 0 : totalMs / count;
}

/** hashicorp/raft's names, where it counts the same; its timers are summaries in milliseconds. */
function addRaft({ gauge, counter }: { gauge: Add; counter: Add }, source: MetricsSource): void {
  const statistics = (): RaftStatistics => source.replica().statistics;
  counter(
    'vault_raft_commitTime_count',
    'Batches of writes that this leader saw committed.',
    () => statistics().commits.count,
  );
  counter(
    'vault_raft_commitTime_sum',
    'How long they took from their proposal, in milliseconds.',
    () => statistics().commits.totalMs,
  );
  counter(
    'vault_raft_state_candidate',
    'How often this node stood for election, pre-votes included.',
    () => statistics().electionCount,
  );
  counter(
    'baobench_raft_append_sum_ms',
    'How long appends took to be durable.',
    () => statistics().appends.totalMs,
  );
  gauge(
    'baobench_raft_tick_lateness_max_ms',
    "The latest of raft's ticks since it started.",
    () => statistics().tickLatenessMsMax,
  );
  gauge(
    'baobench_raft_leader_contact_ms',
    'Since a follower last heard of its leader.',
    () => statistics().leaderContactMs,
  );
}

function addReplica({ gauge, counter, registers }: Adders, source: MetricsSource): void {
  const replica = (): ReplicaStatus => source.replica();
  gauge('vault_raft_storage_stats_applied_index', 'Applied index.', () => replica().appliedIndex);
  gauge('vault_raft_storage_stats_commit_index', 'Commit index.', () => replica().commitIndex);
  gauge('vault_raft_storage_stats_fsm_pending', 'Committed entries not applied yet.', () =>
    Math.max(0, replica().commitIndex - replica().appliedIndex),
  );
  gauge('vault_raft_storage_stats_term', 'Current term.', () => replica().term);
  gauge('baobench_raft_proposals', 'Writes that wait or are in flight.', () => replica().proposals);
  counter(
    'baobench_raft_appends_total',
    'Appends synced.',
    () => replica().statistics.appends.count,
  );
  gauge('baobench_raft_append_mean_ms', 'Mean time to make an append durable.', () =>
    mean(replica().statistics.appends),
  );
  const lag: Gauge<'peer_id'> = new Gauge({
    name: 'vault_raft_storage_follower_applied_index_delta',
    help: 'On the leader: committed entries that a peer is not known to have applied.',
    labelNames: ['peer_id'],
    registers,
    collect: (): void => {
      lag.reset();
      for (const { id, lagEntries } of replica().peers) lag.set({ peer_id: id }, lagEntries);
    },
  });
}
