/**
 * `npm run differential -- [--seed N] [--seeds K] [--steps S] [--minutes M] [--trace] [--shrink]
 * [--mutants [--only TEXT] [--table FILE]]`:
 * our raft core in lockstep with etcd's (Debian's `golang-etcd-server-dev`). Where that is not
 * installed it says so and ends with 0.
 *
 * - `--shrink` leaves only the steps that a failure needs; `--trace` prints every step.
 * - `--mutants` plants bugs into our side, and tells which of them the comparison finds.
 * - `--stop` ends at the first failure; `--json` prints the outcome for a program to read;
 *   `--oracle` is etcd's side, built already.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { minimize } from '../../server/testing/simulation/shrink.ts';
import { writeMutantTable } from '../mutant-table.ts';
import { runConfchangeScripts } from './confchange-scripts.ts';
import type { Tally } from './datadriven.ts';
import { runInteractionScripts } from './interaction-scripts.ts';
import { runMutants } from './mutants.ts';
import { buildOracle, ETCD_RAFT, missingPackages, Oracle, ORACLE_SOURCES } from './oracle.ts';
import { runQuorumScripts } from './quorum-scripts.ts';
import { runScenario } from './run.ts';
import { scenarioOf, type Scenario } from './step.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string' },
    steps: { type: 'string', default: '200' },
    minutes: { type: 'string' },
    trace: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    stop: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    table: { type: 'string' },
    oracle: { type: 'string' },
  },
});

/** Enough for those that can be found at all. */
const MUTANT_SEEDS = 300;
const TABLE_HEAD = ['| mutant | seeds | noticed by, or why not |', '| --- | --: | --- |'];

const totals = new Map<string, number>();
const failures: { readonly seed: number; readonly key: string }[] = [];

const absent = missingPackages();
if (values.oracle !== undefined) await compare(values.oracle);
else if (absent.length === 0) await buildAndCompare();
else console.log(`differential: skipped, it needs: apt-get install ${absent.join(' ')}`);

async function buildAndCompare(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-differential-'));
  try {
    const program = join(directory, 'oracle');
    buildOracle(ORACLE_SOURCES, program);
    if (!values.mutants) {
      await reportAllScripts(program);
      return await compare(program);
    }
    const seeds = Number(values.seeds ?? MUTANT_SEEDS);
    const { rows, missed } = runMutants(program, { seeds, only: values.only });
    if (missed > 0) process.exitCode = 1;
    if (values.table !== undefined) writeMutantTable(values.table, { head: TABLE_HEAD, rows });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function reportAllScripts(program: string): Promise<void> {
  reportScripts('quorum', runQuorumScripts(ETCD_RAFT));
  reportScripts('confchange', runConfchangeScripts(ETCD_RAFT));
  const oracle = new Oracle(program);
  for (const carried of ['ours', 'etcd'] as const) {
    const tally = await runInteractionScripts(ETCD_RAFT, oracle, carried);
    reportScripts(`interaction (messages: ${carried})`, tally);
  }
  oracle.end();
}

function reportScripts(name: string, { files, equal, meant, wrong }: Tally): void {
  for (const line of wrong) console.error(`${name}/${line}`);
  if (wrong.length > 0) process.exitCode = 1;
  console.log(
    `${name}: ${files} scripts, ${equal} cases agree, ${meant.length} differ on purpose, ` +
      `${wrong.length} are wrong`,
  );
}

async function compare(program: string): Promise<void> {
  const oracle = new Oracle(program);
  await runSeeds(oracle);
  oracle.end();
}

async function runSeeds(oracle: Oracle): Promise<void> {
  const isTimed = values.minutes !== undefined;
  const endMs = isTimed ? Date.now() + 60_000 * Number(values.minutes) : Infinity;
  const first = Number(values.seed);
  const count = Number(values.seeds ?? (isTimed ? Infinity : 1));
  const startMs = Date.now();
  let done = 0;
  for (let seed = first; seed < first + count && Date.now() < endMs; seed += 1) {
    const scenario = scenarioOf(seed, Number(values.steps));
    const isClean = await runSeed(scenario, oracle);
    done += 1;
    if (!isClean && values.stop) break;
  }
  if (values.json) {
    console.log(JSON.stringify({ failures, totals: Object.fromEntries(totals) }));
    return;
  }
  for (const [name, total] of [...totals].toSorted(([a], [b]) => a.localeCompare(b))) {
    console.log(`${String(total).padStart(10)}  ${name}`);
  }
  const seconds = (Date.now() - startMs) / 1000;
  console.log(
    `${done - failures.length} seeds agree, ${failures.length} do not, ${seconds.toFixed(1)} s`,
  );
}

async function runSeed(scenario: Scenario, oracle: Oracle): Promise<boolean> {
  try {
    const trace = values.trace ? (line: string): void => console.log(line) : undefined;
    const lockstep = await runScenario(scenario, oracle, trace);
    for (const [name, count] of Object.entries(lockstep.coverage)) add(name, count);
    add('reads compared', lockstep.comparedReads);
    add('entries committed', lockstep.committedEntries);
    for (const [name, count] of lockstep.differences) add(`difference: ${name}`, count);
    return true;
  } catch (error) {
    const key = error instanceof Error ? error.message : String(error);
    failures.push({ seed: scenario.seed, key });
    process.exitCode = 1;
    if (!values.json) await reportFailure(scenario, key, oracle);
    return false;
  }
}

function add(name: string, count: number): void {
  totals.set(name, (totals.get(name) ?? 0) + count);
}

async function reportFailure(scenario: Scenario, key: string, oracle: Oracle): Promise<void> {
  console.error(`seed ${scenario.seed}: ${key}`);
  const steps = values.steps === '200' ? '' : ` --steps ${values.steps}`;
  console.error(`replay it with: npm run differential -- --seed ${scenario.seed}${steps} --trace`);
  if (!values.shrink) return;
  const left = await minimize(scenario.steps, async (rest) => {
    try {
      await runScenario({ ...scenario, steps: rest }, oracle);
      return false;
    } catch {
      return true;
    }
  });
  console.error(`${left.length} of ${scenario.steps.length} steps are needed:`);
  await runScenario({ ...scenario, steps: left }, oracle, (line) =>
    console.error(`  ${line}`),
  ).catch((cause: unknown) => console.error(String(cause)));
}
