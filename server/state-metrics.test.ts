import { afterEach, expect, test } from 'vitest';
import { createMetrics, createTally } from './metrics.ts';
import type { ReplicaStatus } from './replica/status.ts';
import { until } from './testing/core-node.ts';
import { getAt, put, ReplicaCluster } from './testing/replica-cluster.ts';
import type { ClusterMember } from './testing/replica-cluster.ts';

let cluster: ReplicaCluster | undefined;
afterEach(async () => {
  await cluster?.close();
  cluster = undefined;
});

/** Of one scrape, by name with its labels. */
async function scraped(
  member: ClusterMember,
  change: (status: ReplicaStatus) => ReplicaStatus = (status) => status,
): Promise<Map<string, number>> {
  const { replica } = member;
  const metrics = createMetrics(
    {
      isActive: () => true,
      isUnsealed: () => true,
      inFlight: () => 0,
      replica: () => change(replica.status()),
      autopilot: () => replica.replication.autopilotState(),
      reads: () => replica.readStatistics(),
      stalenessMs: () => undefined,
      raftDelay: () => undefined,
    },
    createTally(),
  );
  const lines = (await metrics.text()).split('\n').filter((line) => /^[a-z]/.test(line));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

test('a snapshot shows on who built and sent it, and on who received and installed it', async () => {
  cluster = await ReplicaCluster.formed(3, {
    settings: { trailingLogs: 0, trailingBytesMax: 4_000 },
  });
  const leader = await cluster.leader();
  const away = cluster.members().find((member) => member !== leader)?.id ?? '';
  await cluster.stop(away);
  for (let number = 0; number < 20; number += 1) await put(leader, `k/${number}`, 'x'.repeat(500));
  // Who joined got a snapshot, too.
  const before = await scraped(leader);
  const { count } = leader.replica.status().statistics.snapshotsSent;
  const returned = await cluster.restart(away);
  const index = await put(leader, 'after', 'it');
  expect(await getAt(returned, 'after', index)).toBe('it');
  await until(() => leader.replica.status().statistics.snapshotsSent.count === count + 1);

  const sender = await scraped(leader);
  for (const [name, value] of sender) sender.set(name, value - (before.get(name) ?? 0));
  const receiver = await scraped(returned);
  const bytes = sender.get('baobench_raft_snapshot_built_bytes_total') ?? 0;
  expect(bytes).toBeGreaterThan(20 * 500);
  const counts = {
    vault_raft_snapshot_persist: [1, 0],
    vault_raft_replication_installSnapshot: [1, 0],
    vault_raft_rpc_installSnapshot: [0, 1],
    vault_raft_fsm_restore: [0, 1],
  };
  for (const [name, expected] of Object.entries(counts)) {
    const of = (suffix: string): (number | undefined)[] =>
      [sender, receiver].map((metrics) => metrics.get(`${name}_${suffix}`));
    expect(of('count'), name).toEqual(expected);
    expect(of('sum').map((sum = NaN) => sum > 0)).toEqual(expected.map((each) => each > 0));
  }
  expect(sender.get('baobench_raft_snapshot_sent_bytes_total')).toBe(bytes);
  expect(receiver.get('baobench_raft_snapshot_received_bytes_total')).toBe(bytes);
});

test('what waits in memory, what is cut into chunks, and the health of each server', async () => {
  cluster = await ReplicaCluster.formed(2, { fsmMode: 'overlay' });
  const leader = await cluster.leader();
  const other = cluster.members().find((member) => member !== leader);
  await put(leader, 'whole', 'x'.repeat(1000));
  const before = await scraped(leader);
  expect(before.get('baobench_raft_chunked_commands_total')).toBe(0);
  await put(leader, 'large', 'x'.repeat(800_000));
  // In the turn in which it became visible, nothing of it is on disk.
  const after = await scraped(leader);
  expect(after.get('baobench_store_unflushed_bytes')).toBeGreaterThan(800_000);
  expect(after.get('baobench_raft_chunked_commands_total')).toBe(1);
  expect(after.get('baobench_raft_chunks_total')).toBe(2);
  expect(after.get('baobench_sessions')).toBe(0);
  expect(after.get('baobench_raft_apply_queue_bytes')).toBe(0);
  expect(after.get(`baobench_raft_peer_backlog_bytes{peer_id="${other?.id}"}`)).toBeDefined();

  await until(() => leader.replica.status().machine.store.unflushedBytes === 0);
  const flushed = await scraped(leader);
  const flushes = 'baobench_store_flush_count';
  expect(flushed.get(flushes)).toBeGreaterThan(before.get(flushes) ?? Infinity);
  expect(flushed.get('baobench_store_flush_sum')).toBeGreaterThan(0);
  const health = new RegExp('^vault_autopilot_node_healthy');
  const servers = [...flushed].filter(([name]) => health.test(name));
  expect(servers.map(([name]) => name)).toHaveLength(2);
  expect(flushed.get('vault_autopilot_failure_tolerance')).toBe(0);
  expect(flushed.get('vault_raft_peers')).toBe(2);
});

test('what the other thread says of itself', async () => {
  cluster = await ReplicaCluster.formed(1);
  const mailbox = { count: 3, lastMs: 1, totalMs: 12, maxMs: 9 };
  const metrics = await scraped(await cluster.leader(), (status) => ({
    ...status,
    statistics: {
      ...status.statistics,
      mailbox,
      peers: [
        { id: 'b', backlogBytes: 7 },
        { id: 'c', backlogBytes: 8 },
      ],
    },
  }));
  expect(metrics.get('baobench_raft_mailbox_wait_count')).toBe(3);
  expect(metrics.get('baobench_raft_mailbox_wait_sum')).toBe(12);
  expect(metrics.get('baobench_raft_peer_backlog_bytes{peer_id="b"}')).toBe(7);
  expect(metrics.get('baobench_raft_peer_backlog_bytes{peer_id="c"}')).toBe(8);
});
