/** One run: a cluster, a load, a nemesis for so many cycles or so long, and the audit. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { toEdn } from '../../server/testing/history/edn.ts';
import { toJsonLines } from '../../server/testing/history/history-event.ts';
import type { Operation, ReadLevel } from '../../server/testing/history/operation.ts';
import { Random } from '../../server/testing/random.ts';
import { auditHistory, type Check } from './audit.ts';
import { createKvClient } from './kv-client.ts';
import { Load } from './load.ts';
import type { Nemesis } from './nemesis.ts';
import { probeLevels } from './read-levels.ts';
import { stageOf, type NemesisName } from './stage.ts';

export type RunOptions = {
  readonly nemesis: NemesisName;
  /** The run ends at the first of the two. */
  readonly cyclesMax: number;
  readonly secondsMax: number;
  readonly nodeCount: number;
  readonly raftThreads: 'inline' | 'worker';
  readonly operationsPerSecond: number;
  /** Of the reads, those that are linearizable; as likely as any other level if absent. */
  readonly linearizableShare?: number | undefined;
  readonly seed: number;
  /** Where the history is written, if anywhere. */
  readonly historyDirectory: string | undefined;
  /** Hears of each damage as it happens. */
  onProgress?: ((line: string) => void) | undefined;
};

export type Damage = { readonly what: string; readonly atNs: number };

export type RunReport = {
  readonly nemesis: NemesisName;
  readonly seconds: number;
  readonly cycleCount: number;
  readonly levels: readonly ReadLevel[];
  readonly operations: readonly Operation[];
  readonly droppedCount: number;
  readonly damages: readonly Damage[];
  readonly checks: readonly Check[];
};

const BOUND_MS = 500;
const WARM_UP_MS = 500;
/** After the last cycle the load goes on: what was broken has to work again. */
const COOL_DOWN_MS = 1_500;

/**
 * Undefined where this process may not do what the nemesis does. Throws where the run itself fails,
 * as when a node does not come back.
 */
export async function runChaos(options: RunOptions): Promise<RunReport | undefined> {
  const random = new Random(options.seed, 'nemesis');
  const { nodeCount, raftThreads, linearizableShare } = options;
  const stage = await stageOf(options.nemesis, { nodeCount, raftThreads, random });
  if (stage === undefined) return undefined;
  let hasAnswer = false;
  try {
    const { cluster } = stage;
    const client = createKvClient(cluster.cluster.token);
    const levels = await probeLevels(cluster, client);
    const load = new Load({
      client,
      random: new Random(options.seed, 'load'),
      operationsPerSecond: options.operationsPerSecond,
      levels,
      linearizableShare,
      boundMs: BOUND_MS,
      nodes: () => cluster.nodes,
    });
    load.start();
    const damages = await disturb(stage.nemesis, load, options);
    await load.stop();
    const seconds = load.nowNs() / 1e9;
    const { operations, droppedCount, keyspace } = load;
    writeHistory(operations, options);
    const checks = await auditHistory(operations, { cluster, client, keys: keyspace.keys });
    hasAnswer = checks.every(({ violations }) => violations.length === 0);
    return {
      nemesis: options.nemesis,
      seconds,
      cycleCount: new Set(damages.map(({ cycle }) => cycle)).size,
      levels,
      operations,
      droppedCount,
      damages,
      checks,
    };
  } finally {
    await stage.end({ keepsFiles: !hasAnswer });
  }
}

async function disturb(
  nemesis: Nemesis,
  load: Load,
  { cyclesMax, secondsMax, onProgress }: RunOptions,
): Promise<(Damage & { readonly cycle: number })[]> {
  const damages: (Damage & { readonly cycle: number })[] = [];
  await delay(WARM_UP_MS);
  for (let cycle = 1; cycle <= cyclesMax && load.nowNs() < secondsMax * 1e9; cycle += 1) {
    await nemesis.cycle((what) => {
      damages.push({ cycle, what, atNs: load.nowNs() });
      onProgress?.(`${nemesis.name} ${cycle}: ${what}, ${load.operations.length} operations`);
    });
  }
  await delay(COOL_DOWN_MS);
  return damages;
}

/** Before the audit: of a run that fails there, the history is what is wanted. */
function writeHistory(
  operations: readonly Operation[],
  { historyDirectory, nemesis, seed }: RunOptions,
): void {
  if (historyDirectory === undefined) return;
  mkdirSync(historyDirectory, { recursive: true });
  const name = join(historyDirectory, `${nemesis}-${seed}`);
  writeFileSync(`${name}.jsonl`, toJsonLines(operations));
  writeFileSync(`${name}.edn`, toEdn(operations, 'transactions'));
}
