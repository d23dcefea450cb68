/** The short form of `npm run saturation`; ten minutes of it are for a machine of one's own. */

import { expect, test } from 'vitest';

import { BLOCK_MS } from '../server/injected-block.ts';
import { saturate } from './saturation-run.ts';

test('blocked main threads under saturation do not cost the leader its place (N-05)', async () => {
  const report = await saturate({ seconds: 6, raftThreads: 'worker', connectionsPerNode: 8 });
  expect(report.leaderChanges).toBe(0);
  for (const node of report.nodes) {
    expect(node.elections, node.id).toBe(0);
    // The threads that matter were really blocked, and the nodes were really busy.
    expect(node.mainDelayMsMax, node.id).toBeGreaterThan(BLOCK_MS / 2);
    expect(node.answers, node.id).toBeGreaterThan(0);
    expect(node.raftDelayMsMax, node.id).toBeGreaterThan(0);
  }
}, 60_000);
