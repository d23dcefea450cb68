/**
 * `npm run fsm-modes`: the state machine's two modes against each other, three processes each over
 * TLS, in turns: what a batch that is visible before it is durable buys a standby's lag, and what
 * it costs or saves elsewhere. What is compared is the slices of one round: lags by their difference,
 * for a standby may have applied a write before it is acknowledged, and everything else by ratio.
 *
 * Options: `--rounds`, `--slice-ms`.
 */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import type { Measured } from '../../analysis/gates.ts';
import { measuredDifference, measuredRatio } from '../../analysis/paired.ts';
import { createRandom } from '../../random.ts';
import { PeerCluster } from '../peers/peer.ts';

const REFERENCE = fileURLToPath(new URL('../peers/reference-node.js', import.meta.url));
const MODES = ['sync', 'overlay'] as const;
const CALLERS = [1, 16, 64] as const;
/** Isolated writes: each waits until the cluster is idle again. */
const ISOLATED = { count: 100, gapMs: 10, ms: 30_000, markEvery: 1 };
const MARK_EVERY = 50;
const WARM_UP_MS = 2_000;

type Party = {
  readonly cluster: PeerCluster;
  /** One value a round. */
  readonly figures: Map<string, number[]>;
};

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '8' },
    'slice-ms': { type: 'string', default: '1000' },
  },
});

const directory = mkdtempSync(join(tmpdir(), 'baobench-fsm-modes-'));
const parties: Party[] = [];
try {
  const credentials = await writeCredentials();
  for (const mode of MODES) parties.push(await startParty(mode, credentials));
  for (const { cluster } of parties) await cluster.load({ concurrency: 16, ms: WARM_UP_MS });
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const party of round % 2 === 0 ? parties : parties.toReversed()) await runSlices(party);
  }
  print();
} finally {
  await Promise.all(parties.map(({ cluster }) => cluster.stop()));
  rmSync(directory, { recursive: true, force: true });
}

async function writeCredentials(): Promise<string> {
  const path = join(directory, 'credentials');
  mkdirSync(path);
  const { certificatePem, privateKeyPem } = await createClusterCredentials();
  writeFileSync(join(path, 'certificate.pem'), certificatePem);
  writeFileSync(join(path, 'key.pem'), privateKeyPem, { mode: 0o600 });
  return path;
}

async function startParty(mode: string, credentials: string): Promise<Party> {
  const own = join(directory, mode);
  mkdirSync(own);
  const cluster = await PeerCluster.start(
    (id, path) => [process.execPath, REFERENCE, id, path, credentials, 'tls', '0', mode],
    own,
  );
  return { cluster, figures: new Map() };
}

async function runSlices({ cluster, figures }: Party): Promise<void> {
  const note = (name: string, value: number): void => {
    figures.set(name, [...(figures.get(name) ?? []), value]);
  };
  const isolated = await cluster.load(ISOLATED);
  const lags = await cluster.lagsUs(isolated);
  note('standby lag of isolated writes, p50 us', quantile(lags, 0.5));
  note('standby lag of isolated writes, p90 us', quantile(lags, 0.9));
  for (const callers of CALLERS) {
    const before = await cluster.cpuUs();
    const loaded = await cluster.load({
      concurrency: callers,
      ms: Number(values['slice-ms']),
      markEvery: MARK_EVERY,
    });
    const after = await cluster.cpuUs();
    const perOp = (us: number): number => us / loaded.ops;
    note(`${callers} callers, writes/s`, loaded.ops / (loaded.ms / 1_000));
    note(`${callers} callers, commit p50 us`, loaded.p50Us);
    note(`${callers} callers, CPU us/write leader`, perOp(after.leader - before.leader));
    note(`${callers} callers, CPU us/write follower`, perOp(after.follower - before.follower));
    note(`${callers} callers, standby lag p50 us`, quantile(await cluster.lagsUs(loaded), 0.5));
  }
}

function print(): void {
  const [sync, overlay] = parties;
  assert(sync !== undefined && overlay !== undefined);
  const random = createRandom(1, 'resample');
  console.log(`${''.padEnd(42)}      sync   overlay   compared`);
  for (const [name, left] of sync.figures) {
    const right = overlay.figures.get(name) ?? [];
    const pairs = left.map((value, round) => ({ left: value, right: right[round] ?? NaN }));
    const isLag = name.includes('lag');
    const compared = isLag
      ? measuredDifference(
          pairs.map((pair) => pair.right - pair.left),
          'us',
          random,
        )
      : measuredRatio(pairs, random);
    const medians = [left, right].map((each) => quantile(each, 0.5).toFixed(0).padStart(10));
    console.log(`${name.padEnd(42)}${medians.join('')}   ${text(compared)}`);
  }
}

function text(measured: Measured): string {
  if ('refused' in measured) return measured.refused;
  const { value, unit, low = NaN, high = NaN } = measured;
  const digits = unit === 'us' ? 0 : 2;
  const sign = unit === 'us' ? '' : '×';
  return `${sign}${value.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}] ${unit}`;
}

function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
