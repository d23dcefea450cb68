/**
 * `npm run saturation -- [--minutes 10] [--threads worker|inline] [--connections 32]
 * [--json]`: prints what saturation and blocked main threads do to a cluster. Exit code 1 if its
 * leader changed.
 */

import { parseArgs } from 'node:util';

import { BLOCK_MS } from '../server/injected-block.ts';
import { saturate, type SaturationReport } from './saturation-run.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    threads: { type: 'string', default: 'worker' },
    connections: { type: 'string', default: '32' },
    json: { type: 'boolean', default: false },
  },
});
const minutes = Number(values.minutes);
const connectionsPerNode = Number(values.connections);
const raftThreads = values.threads;
const isKnown = raftThreads === 'worker' || raftThreads === 'inline';
if (!isKnown || !(minutes > 0) || !(connectionsPerNode > 0)) {
  console.error('usage: --minutes M --threads worker|inline --connections N');
  process.exit(2);
}
const report = await saturate({ seconds: minutes * 60, raftThreads, connectionsPerNode });
if (values.json) console.log(JSON.stringify(report));
else print(report);
process.exit(report.leaderChanges === 0 ? 0 : 1);

function print({ seconds, leaderChanges, termBefore, termAfter, nodes }: SaturationReport): void {
  console.log(
    `${nodes.length} nodes, raft_threads = ${values.threads}, ${seconds} s, ` +
      `${connectionsPerNode} connections a node, main threads blocked for ${BLOCK_MS} ms`,
  );
  console.table(
    nodes.map((node) => ({
      node: node.id + (node.isActive ? ' (active)' : ''),
      blocks: node.blocks,
      'answers/s': Math.round(node.answers / seconds),
      failures: node.failures,
      'stood for election': node.elections,
      'tick late max ms': Math.round(node.tickLatenessMsMax),
      'main loop late p99 ms': Math.round(node.mainDelayMsP99),
      'main loop late max ms': Math.round(node.mainDelayMsMax),
      'raft loop late max ms': Math.round(node.raftDelayMsMax),
    })),
  );
  console.log(`leader changes: ${leaderChanges} (term ${termBefore} before, ${termAfter} after)`);
}
