#!/usr/bin/env node
/** The command line: `server` runs a node, everything else is the bench. */

import { Command } from 'commander';

const BENCH_COMMANDS = ['run', 'cluster', 'report', 'compare', 'doctor', 'knee'];

const program = new Command('baobench')
  .description('What does it buy, and what does it cost, to let every OpenBao standby serve reads?')
  .showHelpAfterError();

program
  .command('server')
  .description('run one node of the reference server')
  .requiredOption('--config <file>', 'configuration in HCL or JSON (-config=<file> works, too)')
  .action(async ({ config }: { readonly config: string }) => {
    const { serve } = await import('../server/main.ts');
    process.exitCode = await serve(config);
    // A failed node may hold handles that never end.
    process.exit();
  });

const [command] = process.argv.slice(2);
if (command !== undefined && BENCH_COMMANDS.includes(command)) {
  const { main } = await import('../bench/main.ts');
  process.exitCode = await main(process.argv.slice(2));
} else {
  await program.parseAsync(process.argv.map(goFlag));
}

/** Go programs take long options with one dash, and OpenBao's documentation writes them so. */
function goFlag(argument: string): string {
  return /^-config(?:=|$)/.test(argument) ? `-${argument}` : argument;
}
