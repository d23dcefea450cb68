/**
 * Metrics of what holds the state: snapshots, what waits in memory, threads. hashicorp/raft's and
 * OpenBao's names where they count the same; their timers are summaries in milliseconds. The list is
 * in `docs/metrics.md`.
 */

import { Gauge } from 'prom-client';
import type { Registry } from 'prom-client';

import type { AutopilotState } from './core/ports.ts';
import type { ReplicaStatus } from './replica/status.ts';
import type { DurationStatistics } from './storage/durations.ts';

export type Add = (name: string, help: string, value: () => number) => void;
export type Adders = {
  readonly gauge: Add;
  readonly counter: Add;
  readonly registers: Registry[];
};

export function addState({ gauge, counter, registers }: Adders, status: () => ReplicaStatus): void {
  addSnapshots({ gauge, counter, registers }, status);
  const machine = (): ReplicaStatus['machine'] => status().machine;
  gauge(
    'baobench_store_unflushed_bytes',
    'What readers see from memory, and is not on disk yet.',
    () => machine().store.unflushedBytes,
  );
  addDurations(counter, 'baobench_store_flush', 'Synced batches of the state machine', () => {
    return machine().store.flushes;
  });
  gauge(
    'baobench_raft_apply_queue_bytes',
    'Of committed entries that wait to be applied.',
    () => machine().applyQueueBytes,
  );
  counter(
    'baobench_raft_chunked_commands_total',
    'Commands that became several entries.',
    () => machine().chunking.commands,
  );
  counter('baobench_raft_chunks_total', 'Those entries.', () => machine().chunking.chunks);
  gauge(
    'baobench_sessions',
    'Of standbys, by which forwarded requests are known.',
    () => machine().sessionCount,
  );
  addDurations(counter, 'baobench_raft_mailbox_wait', "Waits of raft's thread for this one", () => {
    return status().statistics.mailbox;
  });
  labelled(registers, {
    name: 'baobench_raft_peer_backlog_bytes',
    help: 'What the network has not taken yet.',
    label: 'peer_id',
    values: () => status().statistics.peers.map(({ id, backlogBytes }) => [id, backlogBytes]),
  });
}

function addSnapshots({ counter }: Adders, status: () => ReplicaStatus): void {
  addDurations(counter, 'vault_raft_snapshot_persist', 'Snapshots built as files', () => {
    return status().machine.snapshotsBuilt;
  });
  counter(
    'baobench_raft_snapshot_built_bytes_total',
    'What they had.',
    () => status().machine.snapshotsBuilt.totalBytes,
  );
  addDurations(
    counter,
    'vault_raft_replication_installSnapshot',
    'Snapshots sent to followers, until they were installed there',
    () => status().statistics.snapshotsSent,
  );
  counter(
    'baobench_raft_snapshot_sent_bytes_total',
    'What was sent of them.',
    () => status().statistics.snapshotsSent.totalBytes,
  );
  addDurations(
    counter,
    'vault_raft_rpc_installSnapshot',
    'Snapshots received, until they were installed',
    () => status().statistics.snapshotsReceived,
  );
  counter(
    'baobench_raft_snapshot_received_bytes_total',
    'What they had.',
    () => status().statistics.snapshotsReceived.totalBytes,
  );
  addDurations(
    counter,
    'vault_raft_fsm_restore',
    'Whole states, received or restored, put in the place of the one there was',
    () => status().machine.replacements,
  );
}

/** OpenBao's autopilot gauges; on the leader only. */
export function addAutopilot(
  { gauge, registers }: Adders,
  state: () => AutopilotState | undefined,
): void {
  gauge('vault_autopilot_healthy', '1 if all servers are healthy; on the leader.', () =>
    Number(state()?.isHealthy ?? false),
  );
  gauge(
    'vault_autopilot_failure_tolerance',
    'So many healthy voters may fail; on the leader.',
    () => state()?.failureTolerance ?? 0,
  );
  gauge(
    'vault_raft_peers',
    'Servers of the configuration; on the leader.',
    () => state()?.servers.length ?? 0,
  );
  labelled(registers, {
    name: 'vault_autopilot_node_healthy',
    help: 'On the leader: 1 if the server is healthy.',
    label: 'node_id',
    values: () => (state()?.servers ?? []).map(({ id, isHealthy }) => [id, Number(isHealthy)]),
  });
  labelled(registers, {
    name: 'vault_raft_storage_follower_last_heartbeat_ms',
    help: 'On the leader: since a follower was last heard.',
    label: 'peer_id',
    values: () =>
      (state()?.servers ?? [])
        .filter(({ status }) => status !== 'leader')
        .map(({ id, lastContactMs }) => [id, lastContactMs]),
  });
}

function addDurations(
  counter: Add,
  name: string,
  what: string,
  durations: () => DurationStatistics,
): void {
  counter(`${name}_count`, `${what}.`, () => durations().count);
  counter(`${name}_sum`, `${what}: how long, in milliseconds.`, () => durations().totalMs);
}

function labelled(
  registers: Registry[],
  gauge: {
    readonly name: string;
    readonly help: string;
    readonly label: string;
    readonly values: () => (readonly [string, number])[];
  },
): void {
  const { name, help, label, values } = gauge;
  const metric: Gauge = new Gauge({
    name,
    help,
    labelNames: [label],
    registers,
    collect: (): void => {
      metric.reset();
      for (const [of, value] of values()) metric.set({ [label]: of }, value);
    },
  });
}
