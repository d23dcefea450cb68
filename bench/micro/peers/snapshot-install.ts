/**
 * What it takes to give a new server a large state, and what that costs who writes meanwhile. Two
 * voters hold the state, and their logs no longer reach back to its beginning; a third server comes
 * with an empty disk, gets a snapshot, and goes again, once a round.
 *
 * The time counts from the moment in which the leader is told of the server until that has applied
 * all that the leader had then: the file is built, sent, stored, checked, and made a store.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Measured } from '../../analysis/gates.ts';
import { middle } from './library.ts';
import { PeerCluster, PeerNode, type Paced, type PeerProgram } from './peer.ts';
import { TARGETS, type Row } from './target.ts';

export type SnapshotInstallOptions = {
  readonly program: PeerProgram;
  readonly tls: boolean;
  readonly directory: string;
  readonly installs: number;
  readonly report: (progress: string) => void;
};

const KEYS = 1_000_000;
const VALUE_BYTES = 300;
const VOTERS = 2;
/** More than a log keeps for those who lag, or for a snapshot of the last round. */
const LATER_WRITES = 12_000;
const WRITES_PER_SECOND = 300;
/** What was written last is still being compacted. */
const SETTLE_MS = 8_000;
/** Long enough for a p99 of the writes before. */
const BEFORE_MS = 10_000;
const LOOK_MS = 20;
const INSTALL_MS_MAX = 180_000;

type Install = { readonly ms: number; readonly before: Paced; readonly during: Paced };

/** P15. */
export async function measureSnapshotInstall(options: SnapshotInstallOptions): Promise<Row[]> {
  const { program, tls, installs, report } = options;
  const directory = join(options.directory, `install-${tls ? 'tls' : 'plain'}`);
  mkdirSync(directory, { recursive: true });
  const cluster = await PeerCluster.start(program, directory, VOTERS);
  try {
    report(`${KEYS} keys for a snapshot`);
    const leader = cluster.leader();
    await leader.ask({ do: 'fill', keys: KEYS, bytes: VALUE_BYTES });
    await leader.ask({ do: 'pace', ratePerSecond: WRITES_PER_SECOND });
    const results: Install[] = [];
    for (let number = 1; number <= installs; number += 1) {
      await cluster.load({ concurrency: 64, count: LATER_WRITES, ms: INSTALL_MS_MAX });
      const node = { id: `n${VOTERS + number}`, program, directory };
      const result = await installOnce(leader, node);
      results.push(result);
      const bytes = snapshotBytes(join(directory, leader.id));
      report(`snapshot ${number} of ${installs}, ${bytes} bytes: ${describe(result)}`);
    }
    await leader.ask({ do: 'stop-pace' });
    return rowsOf(results, tls);
  } finally {
    await cluster.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function installOnce(
  leader: PeerNode,
  { id, program, directory }: { id: string; program: PeerProgram; directory: string },
): Promise<Install> {
  await delay(SETTLE_MS);
  await leader.ask({ do: 'paced' });
  await delay(BEFORE_MS);
  const before = (await leader.ask({ do: 'paced' })) as Paced;
  const node = await PeerNode.start(id, program, directory);
  try {
    // What it costs to start a process is none of this.
    await leader.ask({ do: 'paced' });
    const startMs = performance.now();
    const index = (await leader.ask({ do: 'applied' })) as number;
    await leader.ask({ do: 'add', id, address: node.address });
    await node.ask({ do: 'start' });
    while (((await node.ask({ do: 'applied' })) as number) < index) {
      assert(performance.now() - startMs < INSTALL_MS_MAX, 'the snapshot does not arrive');
      await delay(LOOK_MS);
    }
    const ms = performance.now() - startMs;
    const during = (await leader.ask({ do: 'paced' })) as Paced;
    await leader.ask({ do: 'remove', id });
    return { ms, before, during };
  } finally {
    await node.stop();
    rmSync(join(directory, id), { recursive: true, force: true });
  }
}

/** Throws where the leader has built none: the newcomer was brought up by the log. */
function snapshotBytes(directory: string): number {
  const snapshots = join(directory, 'snapshots');
  const name = readdirSync(snapshots).find((each) => each.endsWith('.outgoing'));
  assert(name !== undefined, 'no snapshot was built');
  return statSync(join(snapshots, name)).size;
}

function describe({ ms, before, during }: Install): string {
  const times = [before, during].map((paced) => `${p99Of(paced).toFixed(2)} ms`);
  return `${ms.toFixed(0)} ms, write p99 ${times.join(' before, ')} during`;
}

function rowsOf(installs: readonly Install[], tls: boolean): Row[] {
  const failures = installs.reduce(
    (sum, { before, during }) => sum + before.failures + during.failures,
    0,
  );
  const measured = (of: (install: Install) => number, unit: string): Measured =>
    failures > 0
      ? { refused: `${failures} writes failed` }
      : { value: middle(installs.map(of)), unit, samples: installs.length };
  return [
    { target: TARGETS.P15a, tls, measured: measured(({ ms }) => 1_000 * ms, 'us') },
    {
      target: TARGETS.P15b,
      tls,
      measured: measured(({ before, during }) => p99Of(during) / p99Of(before), 'ratio'),
    },
  ];
}

function p99Of({ latenciesMs }: Paced): number {
  return latenciesMs[Math.floor(0.99 * latenciesMs.length)] ?? NaN;
}
