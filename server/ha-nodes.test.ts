import { expect, test } from 'vitest';
import type { AutopilotServer, ClusterServer } from './core/ports.ts';
import { haNodes } from './ha-nodes.ts';

const NOW_MS = Date.UTC(2024, 0, 1);

function server(id: string): ClusterServer {
  return { id, address: `${id}:8201`, suffrage: 'voter', isLeader: id === 'b' };
}

function watched(id: string, lastContactMs: number, lastTerm = 4): AutopilotServer {
  return {
    ...{ id, address: `${id}:8201`, status: 'voter', nodeType: 'voter', nodeStatus: 'alive' },
    ...{ lastContactMs, lastTerm, lastIndex: 9, isHealthy: true, stableMs: 0 },
  };
}

test('each member was heard when it was heard, and the active node stands last', () => {
  const redirectAddress = 'http://b:8200';
  const nodes = haNodes({
    leader: {
      ...{ isSelf: true, nodeId: 'b', redirectAddress },
      ...{ clusterAddress: 'b:8201', activeTimeMs: 0 },
    },
    servers: ['a', 'b', 'c', 'd'].map(server),
    autopilot: {
      ...{ isHealthy: true, failureTolerance: 1, leader: 'b', voters: [], nonVoters: [] },
      servers: [watched('a', 1500), watched('b', 0), watched('c', 700, 0)],
    },
    ...{ hostname: 'host', version: '1', nowMs: NOW_MS },
  });
  const rest = { isActive: false, apiAddress: '', version: '1' };
  expect(nodes).toEqual([
    {
      ...{ ...rest, hostname: 'a', clusterAddress: 'https://a:8201' },
      lastEcho: '2023-12-31T23:59:58.500Z',
    },
    // Never in this term, and not watched yet.
    { ...rest, hostname: 'c', clusterAddress: 'https://c:8201', lastEcho: null },
    { ...rest, hostname: 'd', clusterAddress: 'https://d:8201', lastEcho: null },
    {
      ...{ isActive: true, hostname: 'host', clusterAddress: 'https://b:8201', lastEcho: null },
      ...{ apiAddress: redirectAddress, version: '1' },
    },
  ]);
});
