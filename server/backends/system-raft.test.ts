import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../core/backend.ts';
import type { AutopilotServer, AutopilotState } from '../core/ports.ts';
import { createSystemNode, NOW_MS } from './testing/system-ports.ts';
import { createSystem } from './system.ts';
import type { SystemPorts } from './system-ports.ts';

const CONFIGURATION = 'storage/raft/autopilot/configuration';

function server(fields: Partial<AutopilotServer>): AutopilotServer {
  return {
    id: 'n1',
    address: '127.0.0.1:8201',
    status: 'leader',
    nodeType: 'voter',
    nodeStatus: 'alive',
    lastContactMs: 0,
    lastTerm: 3,
    lastIndex: 40,
    isHealthy: true,
    stableMs: 60_000,
    ...fields,
  };
}

const STATE: AutopilotState = {
  isHealthy: false,
  failureTolerance: 0,
  leader: 'n1',
  voters: ['n1'],
  nonVoters: ['n2'],
  servers: [
    server({}),
    server({
      id: 'n2',
      status: 'non-voter',
      nodeType: 'non-voter',
      lastContactMs: 12_340,
      isHealthy: false,
      stableMs: 2340,
    }),
  ],
};

describe('autopilot/state', () => {
  test('has the fields and notations of OpenBao', async () => {
    const { send } = createSystemNode({ autopilotState: STATE });
    const first = {
      id: 'n1',
      name: 'n1',
      address: '127.0.0.1:8201',
      node_status: 'alive',
      last_contact: '0s',
      last_term: 3,
      last_index: 40,
      healthy: true,
      stable_since: new Date(NOW_MS - 60_000).toISOString().replace('.000Z', 'Z'),
      status: 'leader',
      version: '0.1.0',
      node_type: 'voter',
    };
    const second = {
      ...first,
      id: 'n2',
      name: 'n2',
      last_contact: '12.34s',
      healthy: false,
      stable_since: new Date(NOW_MS - 2340).toISOString().replace('0Z', 'Z'),
      status: 'non-voter',
      node_type: 'non-voter',
    };
    expect(await send('read', 'storage/raft/autopilot/state')).toEqual({
      data: {
        healthy: false,
        failure_tolerance: 0,
        servers: { n1: first, n2: second },
        leader: 'n1',
        voters: ['n1'],
        non_voters: ['n2'],
      },
    });
  });

  test.each([
    [140, '140ms'],
    [1280, '1.28s'],
    [61_280, '1m1s'],
    [86_400_000, '24h0m0s'],
  ])('prints %i ms without contact as %s', async (lastContactMs, text) => {
    const autopilotState = { ...STATE, servers: [server({ lastContactMs })], nonVoters: [] };
    const { send } = createSystemNode({ autopilotState });
    const response = await send('read', 'storage/raft/autopilot/state');
    expect(response?.data).toMatchObject({ servers: { n1: { last_contact: text } } });
    expect(response?.data).not.toHaveProperty('non_voters');
  });

  test('is not there before the leader has looked', async () => {
    expect(await createSystemNode().send('read', 'storage/raft/autopilot/state')).toBeUndefined();
  });
});

describe('autopilot/configuration', () => {
  test('is read in the notation of Go', async () => {
    expect(await createSystemNode().send('read', CONFIGURATION)).toEqual({
      data: {
        cleanup_dead_servers: false,
        last_contact_threshold: '10s',
        dead_server_last_contact_threshold: '24h0m0s',
        max_trailing_logs: 1000,
        min_quorum: 0,
        server_stabilization_time: '10s',
      },
    });
  });

  test('a write changes what it names', async () => {
    const { send, calls } = createSystemNode();
    const data = {
      cleanup_dead_servers: true,
      dead_server_last_contact_threshold: '5m',
      last_contact_threshold: 20,
      min_quorum: '3',
      disable_upgrade_migration: true,
    };
    expect(await send('update', CONFIGURATION, data)).toBeUndefined();
    expect(await send('update', CONFIGURATION, { server_stabilization_time: 0 })).toBeUndefined();
    expect(await send('update', CONFIGURATION, {})).toBeUndefined();
    expect(calls).toEqual([
      [
        'setAutopilot',
        {
          cleanupDeadServers: true,
          lastContactThresholdMs: 20_000,
          deadServerLastContactThresholdMs: 300_000,
          minQuorum: 3,
        },
      ],
      ['setAutopilot', { serverStabilizationMs: 0 }],
    ]);
  });

  test.each<[JsonObject, string]>([
    [{ cleanup_dead_servers: true }, 'min_quorum must be set'],
    [{ cleanup_dead_servers: true, min_quorum: 2 }, 'min_quorum: 0x2'],
    [
      { cleanup_dead_servers: true, min_quorum: 3, dead_server_last_contact_threshold: '59s' },
      'less than 1m',
    ],
    [{ max_trailing_logs: -1 }, 'max_trailing_logs'],
    [{ last_contact_threshold: '-1s' }, 'negative'],
    [{ last_contact_threshold: 'soon' }, 'duration'],
    [{ cleanup_dead_servers: 'maybe' }, 'bool'],
  ])('refuses %j', async (data, message) => {
    const { send, calls } = createSystemNode();
    await expect(send('update', CONFIGURATION, data)).rejects.toThrow(
      expect.objectContaining({
        code: 'invalid-request',
        message: expect.stringContaining(message),
      }),
    );
    expect(calls).toEqual([]);
  });

  test('what would be wrong with what is set already is refused too', async () => {
    const autopilotConfiguration = { cleanupDeadServers: true, minQuorum: 3 };
    const { send } = createSystemNode({ autopilotConfiguration });
    await expect(send('update', CONFIGURATION, { min_quorum: 1 })).rejects.toThrow(
      'min_quorum: 0x1',
    );
  });
});

describe('peers', () => {
  test.each([
    ['remove-peer', 'removeServer'],
    ['promote', 'promoteServer'],
    ['demote', 'demoteServer'],
  ])('%s names one by server_id', async (path, port) => {
    const { send, calls } = createSystemNode();
    expect(await send('update', `storage/raft/${path}`, { server_id: 'n2' })).toBeUndefined();
    expect(calls).toEqual([[port, 'n2']]);
    await expect(send('update', `storage/raft/${path}`, {})).rejects.toThrow('no server id');
  });

  test('all that only the active node can answer is forwarded before any work', () => {
    const { forward } = createSystem({} as SystemPorts).specialPaths;
    const paths = [
      'remove-peer',
      'promote',
      'demote',
      'autopilot/state',
      'autopilot/configuration',
    ];
    for (const path of paths) expect(forward).toContain(`storage/raft/${path}`);
  });
});
