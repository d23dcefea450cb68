/**
 * `npm run sim -- [--world core|node] [--seed N] [--seeds K] [--minutes M] [--row R]
 * [--workload W] [--matrix] [--report] [--trace] [--shrink]`: runs seeds from N on, for K of them or for M minutes. A seed that fails prints the command that replays it,
 * and the exit code is 1.
 *
 * - `--world`: the raft core alone, which is fast, or whole nodes, which is deep.
 * - `--row`, `--workload`: one kind of trouble alone, and clients that all want the same
 *   (`simulation/matrix.ts`).
 * - `--matrix`: every cell of rows and workloads, on whole nodes, and a table of them; `--seeds` is
 *   then the most of one cell.
 * - `--report` prints what the seeds have covered.
 * - `--trace` prints every event of every node.
 * - `--shrink` takes away what the failure does not need, and prints what is left: the nemesis, the
 *   operations, and a golden script of it.
 * - `--stop` ends at the first failure; `--json` prints the outcome for a program to read.
 */

import { parseArgs } from 'node:util';

import { runCoreWorld, type RunOptions, type RunReport } from './simulation/core-world.ts';
import { addCoverage, emptyCoverage, formatCoverage } from './simulation/coverage.ts';
import { failureKey } from './simulation/failure.ts';
import { ROWS, SWARM, WORKLOADS } from './simulation/matrix.ts';
import { formatMatrix, runMatrix, type CellOutcome } from './simulation/matrix-run.ts';
import { runNodeWorld } from './simulation/node-world.ts';
import { planOf, type Cell, type Plan } from './simulation/plan.ts';
import { Script } from './simulation/script.ts';
import { shrink } from './simulation/shrink.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
    report: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    stop: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    world: { type: 'string', default: 'core' },
    row: { type: 'string', default: SWARM },
    workload: { type: 'string', default: SWARM },
    matrix: { type: 'boolean', default: false },
  },
});

const cell: Cell = {
  row: named('row', values.row, ROWS),
  workload: named('workload', values.workload, WORKLOADS),
};
const isNodeWorld = values.world === 'node';
const traced: RunOptions = values.trace ? { onEvent: (line) => console.log(line) } : {};
const firstSeed = wholeNumber('seed', values.seed);
const seedCount =
  values.seeds === undefined
    ? values.minutes === undefined
      ? 1
      : Infinity
    : wholeNumber('seeds', values.seeds);
const endMs =
  values.minutes === undefined ? Infinity : Date.now() + 60_000 * Number(values.minutes);

// What refuses a request is an error with a stack, and nobody reads it but whoever replays a seed.
if (seedCount > 1) Error.stackTraceLimit = 0;
// Sectors and frames are small and many: fewer and larger pools to cut them from.
Buffer.poolSize = 256 * 1024;
const startMs = Date.now();
const startCpu = process.cpuUsage();

if (values.matrix) await reportMatrix();
else await reportSeeds();

async function reportSeeds(): Promise<void> {
  const coverage = emptyCoverage();
  const failures: { readonly seed: number; readonly key: string }[] = [];
  for (let seed = firstSeed; seed < firstSeed + seedCount && Date.now() < endMs; seed += 1) {
    try {
      const report = await run(planOf(seed, cell), traced);
      addCoverage(coverage, report.coverage);
      if (seedCount === 1 && !values.json) console.log(`seed ${seed}: trace ${report.traceHash}`);
    } catch (error) {
      failures.push({ seed, key: failureKey(error) });
      process.exitCode = 1;
      if (!values.json) await reportFailure(seed, error);
      if (values.stop) break;
    }
  }
  const seconds = (Date.now() - startMs) / 1000;
  const { totals } = coverage;
  const cpuSeconds = cpuSecondsSince(startCpu);
  /** Per second of CPU: the machine may have others to serve. */
  const rate = Math.round((totals['events'] ?? 0) / cpuSeconds);
  if (values.json) {
    console.log(JSON.stringify({ seconds, cpuSeconds, rate, failures, coverage }));
    return;
  }
  if (values.report) console.log(formatCoverage(coverage));
  console.log(
    `${totals['seeds'] ?? 0} seeds clean, ${failures.length} failed, ${seconds.toFixed(1)} s, ` +
      `${cpuSeconds.toFixed(1)} s of CPU, ${rate} events a second of CPU`,
  );
}

async function run(plan: Plan, options: RunOptions): Promise<RunReport> {
  return isNodeWorld ? await runNodeWorld(plan, options) : runCoreWorld(plan, options);
}

async function reportFailure(seed: number, error: unknown): Promise<void> {
  const world =
    (isNodeWorld ? ' --world node' : '') +
    optionOf('row', values.row) +
    optionOf('workload', values.workload);
  console.error(error);
  console.error(`seed ${seed} failed; replay it with: npm run sim --${world} --seed ${seed}`);
  if (!values.shrink) return;
  const small = await shrink(planOf(seed, cell), failureKey(error), (plan) => run(plan, {}));
  console.error(
    `${small.runs} runs later, ${small.plan.nemesis.length} nemesis actions and ` +
      `${small.plan.operations.length} operations are left:`,
  );
  for (const action of small.plan.nemesis) console.error(`  ${JSON.stringify(action)}`);
  for (const operation of small.plan.operations) console.error(`  ${JSON.stringify(operation)}`);
  // What is wrong outside of the core cannot be told as inputs of cores.
  if (isNodeWorld) return;
  const script = new Script();
  try {
    runCoreWorld(small.plan, { script });
  } catch {
    // It fails again, which is what it was shrunk for.
  }
  console.error(script.text());
}

async function reportMatrix(): Promise<void> {
  const outcomes: CellOutcome[] = [];
  for await (const outcome of runMatrix(seedCount === 1 ? Infinity : seedCount)) {
    outcomes.push(outcome);
    const { row, workload, failures } = outcome;
    for (const { seed, key } of failures) {
      process.exitCode = 1;
      const options = `${optionOf('row', row)}${optionOf('workload', workload)}`;
      console.error(`${key}; replay it with: npm run sim -- --world node${options} --seed ${seed}`);
    }
  }
  console.log(formatMatrix(outcomes));
  const events = outcomes.reduce((sum, outcome) => sum + outcome.events, 0);
  const seeds = outcomes.reduce((sum, outcome) => sum + outcome.seeds, 0);
  console.log(`${seeds} seeds, ${events} events, ${cpuSecondsSince(startCpu).toFixed(0)} s of CPU`);
}

function optionOf(name: string, value: string): string {
  return value === SWARM ? '' : ` --${name} ${value}`;
}

/** Undefined for the swarm, which has no part by itself. */
function named<Part>(
  option: string,
  name: string,
  parts: Readonly<Record<string, Part>>,
): Part | undefined {
  const found = parts[name];
  if (found !== undefined || name === SWARM) return found;
  const names = [...Object.keys(parts), SWARM];
  throw new RangeError(`Cannot find --${option} "${name}": one of ${names.join(', ')}`);
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new RangeError(`Cannot read --${name} "${text}": must be a whole number`);
  }
  return number;
}

function cpuSecondsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
}
