#!/usr/bin/env node
/** The command line: `server` runs a node, every other command is the bench's. */

import { Command } from 'commander';

import { keepTickObject } from '../bench/cluster/tick-object.ts';

keepTickObject();

const [command] = process.argv.slice(2);
const isBench = command !== undefined && command !== 'server' && !/^(?:help$|-)/.test(command);

if (isBench) {
  const { main } = await import('../bench/main.ts');
  process.exitCode = await main(process.argv.slice(2));
} else {
  await serverProgram().parseAsync(process.argv.map(goFlag));
}

function serverProgram(): Command {
  const program = new Command('baobench')
    .description(
      'What does it buy, and what does it cost, to let every OpenBao standby serve reads?',
    )
    .showHelpAfterError()
    .addHelpText('after', '\nAlso: run, report, cluster, read-cost (each with --help)');
  program
    .command('server')
    .description('run one node of the reference server')
    .requiredOption('--config <file>', 'configuration in HCL or JSON; also -config=<file>')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
    .action(async ({ config }: { readonly config: string }) => {
      const { serve } = await import('../server/main.ts');
      const exitCode = await serve(config);
      // A node that failed may hold handles that never end.
      process.exit(exitCode);
    });
  return program;
}

/** Go programs take long options with one dash, and OpenBao's documentation writes them so. */
function goFlag(argument: string): string {
  return /^-config(?:=|$)/.test(argument) ? `-${argument}` : argument;
}
