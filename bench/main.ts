/**
 * The bench's command line: `run`, `report`, `read-cost`, `cluster`.
 *
 * Exit codes: 0 fine; 1 it could not be done; 2 usage; 3 the run is invalid (its figures cannot be
 * believed); 130 interrupted, and everything that was started has been stopped. All but 0 say why
 * in one line on stderr, or in the summary; NODE_DEBUG=baobench adds where.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync, rmdirSync } from 'node:fs';
import { once } from 'node:events';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { debuglog } from 'node:util';

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';

import { startReferenceCluster } from './cluster/reference-cluster.ts';
import { runCanonical, type Experiment } from './measure/canonical-run.ts';
import { findPreset } from './measure/preset.ts';
import { describeReadCost, measureReadCost } from './measure/read-cost.ts';
import { renderSummary } from './report/terminal.ts';
import { createRunDirectory, readRun, writeReport, writeRun } from './run-file.ts';
import type { Mode, Run } from './run.ts';

const EXIT_OK = 0;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INVALID_RUN = 3;
const EXIT_INTERRUPTED = 130;
const EXPERIMENTS: readonly Experiment[] = ['scaling', 'forwarding', 'lag'];
const NODES_MAX = 9;
/** Parts of a run draw with 1000 x seed + n: that stays exact by a wide margin. */
const SEED_MAX = 2 ** 32 - 1;
const ERROR_CHARS_MAX = 1_000;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const debug = debuglog('baobench');

/** Returns the exit code. `argv` starts with the subcommand. */
export async function main(argv: readonly string[]): Promise<number> {
  let exitCode = EXIT_OK;
  const interruption = watchSignals();
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
    .option('--seed <number>', 'of the plan: same seed, same requests', parseSeed, 1)
    .action(async (options: RunFlags) => {
      exitCode = await run(options, argv, interruption.signal);
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
      const cost = await measureReadCost(interruption.signal);
      for (const line of describeReadCost(cost)) console.log(line);
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
    .action(async (options: ClusterFlags) => runCluster(options, interruption.signal));

  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    debug('%s', error instanceof Error ? error.stack : error);
    const { aborted, reason } = interruption.signal;
    // What broke because everything is being stopped is not the reason.
    console.error(`baobench: ${oneLine(aborted ? reason : error)}`);
    return aborted ? EXIT_INTERRUPTED : EXIT_FAILED;
  } finally {
    interruption.stop();
  }
  return exitCode;
}

/** The message, with that of its cause; the output of a process that it may hold is shortened. */
function oneLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? error.cause.message : '';
  const message = error.message.includes(cause) ? error.message : `${error.message}: ${cause}`;
  const line = message.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return line.length <= ERROR_CHARS_MAX ? line : `${line.slice(0, ERROR_CHARS_MAX)}...`;
}

type RunFlags = {
  readonly quick?: boolean;
  readonly full?: boolean;
  readonly only?: readonly Experiment[];
  readonly seed: number;
};

async function run(flags: RunFlags, argv: readonly string[], signal: AbortSignal): Promise<number> {
  if (flags.quick && flags.full) {
    console.error('--quick and --full exclude each other');
    return EXIT_USAGE;
  }
  const suite = describeSuite();
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-').slice(0, 19);
  const runId = `${stamp}Z_${suite.commit.slice(0, 7)}`;
  const directory = createRunDirectory(runId);

  let result: Run;
  try {
    result = await runCanonical({
      preset: findPreset(flags.quick ? 'quick' : flags.full ? 'full' : 'canonical'),
      experiments: flags.only ?? EXPERIMENTS,
      seed: flags.seed,
      directory,
      runId,
      command: ['npm run bench', ...(argv.length > 1 ? ['--', ...argv.slice(1)] : [])].join(' '),
      suite,
      signal,
      output: process.stderr,
    });
    // Whatever was measured, it is not what was asked for.
    signal.throwIfAborted();
  } catch (error) {
    removeIfEmpty(directory);
    throw error;
  }
  writeRun(directory, result);
  for (const line of renderSummary(result)) console.log(line);
  console.log(`${relative(process.cwd(), directory)}/report.html`);
  return result.verdict.status === 'invalid' ? EXIT_INVALID_RUN : EXIT_OK;
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    debug('%s', error); // It holds what had been written until then.
  }
}

/**
 * Not to die of a signal: what was started must be stopped first. A second signal ends the process
 * at once, and its nodes with it.
 */
function watchSignals(): { readonly signal: AbortSignal; stop(): void } {
  const interrupted = new AbortController();
  const watched = (['SIGINT', 'SIGTERM'] as const).map((name) => ({
    name,
    listener: (): void => {
      if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
      interrupted.abort(new Error(`interrupted by ${name}`));
    },
  }));
  for (const { name, listener } of watched) process.on(name, listener);
  return {
    signal: interrupted.signal,
    stop: () => {
      for (const { name, listener } of watched) process.off(name, listener);
    },
  };
}

type ClusterFlags = { readonly nodes: number; readonly mode: Mode };

async function runCluster(options: ClusterFlags, signal: AbortSignal): Promise<void> {
  const cluster = await startReferenceCluster({ name: 'node', mode: options.mode });
  try {
    await cluster.grow(options.nodes);
    const active = await cluster.active();
    signal.throwIfAborted();
    for (const node of cluster.nodes()) {
      console.log(`${node.id}  ${node.address}  ${node.id === active.id ? 'active' : 'standby'}`);
    }
    console.log(`export BAO_ADDR=${active.address} BAO_TOKEN=${cluster.token}`);
    console.log(`unseal key: ${cluster.unsealKey}`);
    console.log('Ctrl-C stops the cluster and removes its data');
    if (!signal.aborted) await once(signal, 'abort');
  } finally {
    await cluster.stop();
  }
}

/** Of the package itself, wherever it is called from. */
export function describeSuite(): Run['suite'] {
  const packageFile = join(ROOT, 'package.json');
  const { version }: { version: string } = JSON.parse(readFileSync(packageFile, 'utf8'));
  const git = (...args: string[]): string | undefined => {
    try {
      return execFileSync('git', args, {
        cwd: ROOT,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
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

function parseWithin(text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new InvalidArgumentError(`must be a whole number from ${min} to ${max}.`);
  }
  return value;
}

function parseSeed(text: string): number {
  return parseWithin(text, 0, SEED_MAX);
}

function parseNodes(text: string): number {
  return parseWithin(text, 1, NODES_MAX);
}
