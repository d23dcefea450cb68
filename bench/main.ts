/**
 * The bench's command line: `run`, `report`, `cluster`.
 *
 * Exit codes: 0 fine, 2 usage, 3 the run is invalid (its figures cannot be believed).
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { relative } from 'node:path';

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';

import { startReferenceCluster } from './cluster/reference-cluster.ts';
import { runCanonical, type Experiment } from './measure/canonical-run.ts';
import { findPreset } from './measure/preset.ts';
import { measureReadCost } from './measure/read-cost.ts';
import { formatMeasured, formatUs } from './report/format.ts';
import { renderSummary } from './report/terminal.ts';
import { createRunDirectory, readRun, writeReport, writeRun } from './run-file.ts';
import type { Mode, Run } from './run.ts';

const EXIT_OK = 0;
const EXIT_USAGE = 2;
const EXIT_INVALID_RUN = 3;
const EXPERIMENTS: readonly Experiment[] = ['scaling', 'forwarding', 'lag'];
const NODES_MAX = 9;

/** Returns the exit code. `argv` starts with the subcommand. */
export async function main(argv: readonly string[]): Promise<number> {
  let exitCode = EXIT_OK;
  const program = new Command('baobench')
    .description('what standby reads buy, and what they cost')
    .exitOverride();

  program
    .command('run')
    .description('measure scaling, forwarding and lag on this machine (two and a half minutes)')
    .option('--quick', 'a short run: fewer sizes, shorter slices')
    .option('--full', 'a thorough run: all workloads, longer slices')
    .addOption(
      new Option('--only <experiment...>', 'leave the other experiments out').choices(EXPERIMENTS),
    )
    .option('--seed <number>', 'of the plan: same seed, same requests', parseCount, 1)
    .action(async (options: RunFlags) => {
      exitCode = await run(options, argv);
    });

  program
    .command('report')
    .description('draw the report of a run again from its run.json')
    .argument('<directory>')
    .action((directory: string) => {
      const result = readRun(directory);
      for (const line of renderSummary(result)) console.log(line);
      console.log(relative(process.cwd(), writeReport(directory, result)));
    });

  program
    .command('read-cost')
    .description('CPU of a KV read on a standby against a bare node:http server')
    .action(async () => {
      const { standbyCpuUs, bareCpuUs, ratio } = await measureReadCost(interruption());
      console.log(`KV v1 read on a standby   ${formatUs(standbyCpuUs)} of CPU`);
      console.log(`bare node:http            ${formatUs(bareCpuUs)} of CPU`);
      console.log(`ratio                     ${formatMeasured(ratio)}`);
    });

  program
    .command('cluster')
    .description('start a cluster on loopback and keep it until Ctrl-C')
    .option('--nodes <count>', 'how many nodes', parseNodes, 3)
    .addOption(
      new Option('--mode <mode>', 'who answers reads')
        .choices(['standby-reads', 'baseline'])
        .default('standby-reads'),
    )
    .action(async (options: { nodes: number; mode: Mode }) => runCluster(options));

  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
  }
  return exitCode;
}

type RunFlags = {
  readonly quick?: boolean;
  readonly full?: boolean;
  readonly only?: readonly Experiment[];
  readonly seed: number;
};

async function run(flags: RunFlags, argv: readonly string[]): Promise<number> {
  if (flags.quick && flags.full) {
    console.error('--quick and --full exclude each other');
    return EXIT_USAGE;
  }
  const suite = describeSuite();
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-').slice(0, 19);
  const runId = `${stamp}Z_${suite.commit.slice(0, 7)}`;
  const directory = createRunDirectory(runId);

  const result = await runCanonical({
    preset: findPreset(flags.quick ? 'quick' : flags.full ? 'full' : 'canonical'),
    experiments: flags.only ?? EXPERIMENTS,
    seed: flags.seed,
    directory,
    runId,
    command: ['npm run bench', ...(argv.length > 1 ? ['--', ...argv.slice(1)] : [])].join(' '),
    suite,
    signal: interruption(),
    output: process.stderr,
  });
  writeRun(directory, result);
  for (const line of renderSummary(result)) console.log(line);
  console.log(`${relative(process.cwd(), directory)}/report.html`);
  return result.verdict.status === 'invalid' ? EXIT_INVALID_RUN : EXIT_OK;
}

function interruption(): AbortSignal {
  const interrupted = new AbortController();
  // Not to die of a signal: the clusters must be stopped first.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  return interrupted.signal;
}

async function runCluster(options: { nodes: number; mode: Mode }): Promise<void> {
  const stopped = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  const cluster = await startReferenceCluster({ name: 'node', mode: options.mode });
  try {
    await cluster.grow(options.nodes);
    const active = await cluster.active();
    for (const node of cluster.nodes()) {
      console.log(`${node.id}  ${node.address}  ${node.id === active.id ? 'active' : 'standby'}`);
    }
    console.log(`export BAO_ADDR=${active.address} BAO_TOKEN=${cluster.token}`);
    console.log(`unseal key: ${cluster.unsealKey}`);
    console.log('Ctrl-C stops the cluster and removes its data');
    await stopped;
  } finally {
    await cluster.stop();
  }
}

function describeSuite(): Run['suite'] {
  const packageFile = new URL('../../package.json', import.meta.url);
  const { version }: { version: string } = JSON.parse(readFileSync(packageFile, 'utf8'));
  const git = (...args: string[]): string | undefined => {
    try {
      return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return undefined; // Not a checkout: a packed copy has no commit.
    }
  };
  return {
    version,
    commit: git('rev-parse', '--short=12', 'HEAD')?.trim() ?? 'unknown',
    isDirty: (git('status', '--porcelain', '--untracked-files=no') ?? '') !== '',
  };
}

function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('must be a whole number.');
  }
  return value;
}

function parseNodes(text: string): number {
  const value = parseCount(text);
  if (value < 1 || value > NODES_MAX) {
    throw new InvalidArgumentError(`must lie between 1 and ${NODES_MAX}.`);
  }
  return value;
}
