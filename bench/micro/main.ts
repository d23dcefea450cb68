/**
 * `npm run micro`: times the pieces that each request or write passes, one by one, in this process.
 *
 * It says where to look when a whole node is slow, and what a change to one piece did; how fast a
 * cluster is, only `npm run bench` can tell. As it calls the server's own functions, this folder
 * alone in `bench` may import `server`.
 */

import { tmpdir } from 'node:os';

import { filesystemOf } from '../measure/environment.ts';
import { formatNumber } from '../report/format.ts';
import { runBenchmarks, type MicroFigures } from './benchmark.ts';
import { raftSteps } from './raft-steps.ts';
import { recording } from './recording.ts';
import { requestPath } from './request-path.ts';
import { storageWrites } from './storage-writes.ts';

const NAME_WIDTH = 53;
const COLUMN_WIDTH = 12;

const figures: MicroFigures[] = [];
for (const open of [raftSteps, storageWrites, requestPath, recording]) {
  const group = await open();
  try {
    figures.push(...(await runBenchmarks(group.benchmarks)));
  } finally {
    await group.close();
  }
}
console.log(table(figures).join('\n'));

function table(rows: readonly MicroFigures[]): string[] {
  return [
    `Node ${process.versions.node}, ${process.arch}, disk ${filesystemOf(tmpdir())}; ns per call`,
    '',
    line('', ['median', 'MAD', 'p99', 'samples', 'calls each']),
    ...rows.map(({ name, medianNs, madNs, p99Ns, sampleCount, callsPerSample }) => {
      const times = [medianNs, madNs, p99Ns].map(formatNumber);
      return line(name, [...times, String(sampleCount), String(callsPerSample)]);
    }),
    '',
    'MAD: median absolute deviation. p99 is of samples, which are means of the calls in them.',
  ];
}

function line(name: string, cells: readonly string[]): string {
  return name.padEnd(NAME_WIDTH) + cells.map((each) => each.padStart(COLUMN_WIDTH)).join('');
}
