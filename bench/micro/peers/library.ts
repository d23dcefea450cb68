/**
 * Our replicas against hashicorp/raft, three processes each, in turns: every round gives each party
 * one slice of each load, in an order that alternates, so that what the machine does to one it
 * does to all. Ratios are of the slices of one round.
 */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { measuredRatio, median } from '../../analysis/paired.ts';
import type { Measured } from '../../analysis/gates.ts';
import { createRandom, type Random } from '../../random.ts';
import { PeerCluster, type Loaded, type PeerProgram } from './peer.ts';
import { TARGETS, type Row } from './target.ts';

export type Programs = {
  /** Undefined where it could not be built: its ratios are refused. */
  readonly hashicorp: ((tls: boolean) => PeerProgram) | undefined;
  readonly reference: (tls: boolean, syncDelayMs: number) => PeerProgram;
};

export type LibraryOptions = {
  readonly directory: string;
  readonly rounds: number;
  readonly sliceMs: number;
  readonly report: (progress: string) => void;
};

const CALLERS = [1, 16, 64, 256] as const;
/** Isolated writes: each waits until the cluster is idle again. */
const ISOLATED = { count: 150, gapMs: 10, ms: 30_000, markEvery: 1 };
const WARM_UP_MS = 2_000;
const MARK_EVERY = 50;
export const SYNC_DELAY_MS = 3;

type Slice = {
  readonly loaded: Loaded;
  readonly lagsUs: readonly number[];
  readonly cpuUs: { readonly leader: number; readonly follower: number };
};
type Party = {
  readonly name: 'reference' | 'hashicorp';
  readonly tls: boolean;
  readonly cluster: PeerCluster;
  readonly slices: Map<number, Slice[]>;
  readonly isolatedLagsUs: number[];
};

/** P1 to P6, P9 and P13, with TLS and without. */
export async function compareLibraries(
  programs: Programs,
  options: LibraryOptions,
): Promise<Row[]> {
  const random = createRandom(1, 'resample');
  const parties: Party[] = [];
  try {
    for (const tls of [true, false]) {
      parties.push(await startParty('reference', programs.reference(tls, 0), tls, options));
      const hashicorp = programs.hashicorp?.(tls);
      if (hashicorp) parties.push(await startParty('hashicorp', hashicorp, tls, options));
    }
    for (const { cluster } of parties) await cluster.load({ concurrency: 16, ms: WARM_UP_MS });
    for (let round = 0; round < options.rounds; round += 1) {
      options.report(`round ${round + 1} of ${options.rounds}`);
      await runRound(parties, round, options.sliceMs);
    }
  } finally {
    await Promise.all(parties.map(({ cluster }) => cluster.stop()));
  }
  const rows = [true, false].flatMap((tls) =>
    rowsOf(
      parties.filter((p) => p.tls === tls),
      random,
    ),
  );
  return [...rows, await slowDisk(programs, options)];
}

async function startParty(
  name: Party['name'],
  program: PeerProgram,
  tls: boolean,
  { directory }: LibraryOptions,
): Promise<Party> {
  const own = join(directory, `${name}-${tls ? 'tls' : 'plain'}`);
  mkdirSync(own, { recursive: true });
  const cluster = await PeerCluster.start(program, own);
  return { name, tls, cluster, slices: new Map(), isolatedLagsUs: [] };
}

async function runRound(parties: readonly Party[], round: number, ms: number): Promise<void> {
  const order = round % 2 === 0 ? parties : parties.toReversed();
  for (const callers of CALLERS) {
    for (const { cluster, slices } of order) {
      const before = await cluster.cpuUs();
      const loaded = await cluster.load({ concurrency: callers, ms, markEvery: MARK_EVERY });
      const after = await cluster.cpuUs();
      const cpuUs = {
        leader: after.leader - before.leader,
        follower: after.follower - before.follower,
      };
      const slice = { loaded, cpuUs, lagsUs: await cluster.lagsUs(loaded) };
      slices.set(callers, [...(slices.get(callers) ?? []), slice]);
    }
  }
  for (const { cluster, isolatedLagsUs } of order) {
    isolatedLagsUs.push(...(await cluster.lagsUs(await cluster.load(ISOLATED))));
  }
}

function rowsOf(parties: readonly Party[], random: Random): Row[] {
  const ours = parties.find(({ name }) => name === 'reference');
  assert(ours !== undefined);
  const peer = parties.find(({ name }) => name === 'hashicorp');
  const { tls } = ours;
  const ratio = (callers: number, of: (loaded: Loaded) => number): Measured => {
    if (peer === undefined) return { refused: 'hashicorp/raft could not be built here' };
    const theirs = peer.slices.get(callers) ?? [];
    const pairs = (ours.slices.get(callers) ?? []).map((slice, round) => {
      const other = theirs[round];
      assert(other !== undefined);
      return { left: of(other.loaded), right: of(slice.loaded) };
    });
    return measuredRatio(pairs, random);
  };
  const throughput = ({ ops, ms }: Loaded): number => ops / ms;
  const busy = ours.slices.get(64) ?? [];
  const perOp = (of: (slice: Slice) => number): Measured => ({
    value: middle(busy.map((slice) => of(slice) / slice.loaded.ops)),
    unit: 'us',
  });
  const lag = (q: number, samples: readonly number[]): Measured => quantileOf(samples, q);
  return [
    { target: TARGETS.P1, tls, measured: ratio(1, ({ p50Us }) => p50Us) },
    { target: TARGETS.P2, tls, measured: ratio(16, throughput) },
    { target: TARGETS.P3, tls, measured: ratio(64, throughput) },
    { target: TARGETS.P4, tls, measured: ratio(256, throughput) },
    { target: TARGETS.P5a, tls, measured: lag(0.5, ours.isolatedLagsUs) },
    { target: TARGETS.P5b, tls, measured: lag(0.99, ours.isolatedLagsUs) },
    {
      target: TARGETS.P6,
      tls,
      measured: lag(
        0.99,
        busy.flatMap(({ lagsUs }) => lagsUs),
      ),
    },
    { target: TARGETS.P13a, tls, measured: perOp(({ cpuUs }) => cpuUs.leader) },
    { target: TARGETS.P13b, tls, measured: perOp(({ cpuUs }) => cpuUs.follower) },
  ];
}

/**
 * One caller on disks that take 3 ms longer to sync. A leader that waits for its own disk before it
 * replicates needs two such syncs for a commit, one that does both at once a little more than one.
 */
async function slowDisk({ reference }: Programs, options: LibraryOptions): Promise<Row> {
  const own = join(options.directory, 'slow-disk');
  mkdirSync(own, { recursive: true });
  const cluster = await PeerCluster.start(reference(false, SYNC_DELAY_MS), own);
  try {
    await cluster.load({ ms: WARM_UP_MS });
    await delay(100);
    await cluster.syncsUs();
    const { p50Us } = await cluster.load({ ms: 4 * options.sliceMs });
    // What one sync takes there, of which the delay is but the larger part.
    const syncUs = middle(await cluster.syncsUs());
    const measured = { value: p50Us / syncUs, unit: 'ratio' };
    return { target: TARGETS.P9, tls: false, measured };
  } finally {
    await cluster.stop();
  }
}

/** A quantile without an interval; refused where too few samples lie beyond it. */
export function quantileOf(samples: readonly number[], q: number): Measured {
  const beyond = samples.length * (1 - q);
  if (beyond < BEYOND_MIN) return { refused: `${samples.length} samples are too few` };
  const sorted = samples.toSorted((left, right) => left - right);
  const value = sorted[Math.floor(q * sorted.length)];
  assert(value !== undefined);
  if (!Number.isFinite(value)) return { refused: 'marks never arrived on a follower' };
  return { value, unit: 'us', samples: sorted.length };
}

/** Fewer, and the quantile is but an extreme. */
const BEYOND_MIN = 5;

export function middle(values: readonly number[]): number {
  return median(values.toSorted((left, right) => left - right));
}
