/**
 * `npm run rejoin -- [--writes N] [--rate N] [--snapshot-rate BYTES]`: what it takes to bring a
 * follower back that missed so many writes, and what that costs the others. Exit code 1 where the
 * follower answered what is not true any more, or came back without a snapshot.
 */

import { parseArgs } from 'node:util';

import type { Summary } from './response-times.ts';
import { runRejoin } from './run.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      writes: { type: 'string', default: '100000' },
      rate: { type: 'string', default: '100' },
      'snapshot-rate': { type: 'string', default: String(32 * 1024 * 1024) },
    },
  });
  const result = await runRejoin({
    writes: wholeNumber(values.writes),
    rate: wholeNumber(values.rate),
    ...{ concurrency: 64, valueBytes: 256, phaseMs: 10_000 },
    storage: { snapshot_rate: wholeNumber(values['snapshot-rate']) },
    say: (line) => console.error(line),
  });
  const mib = (result.snapshotBytes / 1024 / 1024).toFixed(1);
  console.log(`missed writes      ${result.missedWrites}`);
  console.log(`back after         ${Math.round(result.rejoinMs)} ms`);
  console.log(`snapshots          ${result.snapshotCount}, ${mib} MiB`);
  console.log(`stale answers      ${result.staleAnswers.join('; ') || 'none'}`);
  for (const [name, summary] of Object.entries(result.phases)) console.log(row(name, summary));
  return result.staleAnswers.length === 0 && result.snapshotCount > 0 ? 0 : 1;
}

function row(name: string, { count, failures, p50Ms, p99Ms, maxMs }: Summary): string {
  const times = [p50Ms, p99Ms, maxMs].map((ms) => ms.toFixed(1)).join(' / ');
  return `writes ${name.padEnd(11)} p50 / p99 / max ${times} ms, ${count} done, ${failures} failed`;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new Error(`not a whole number: ${text}`);
  return value;
}
