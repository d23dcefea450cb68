/** The server as a process: configuration in, one line on stdout when it is ready, exit code out. */

import { once } from 'node:events';

import { pino } from 'pino';

import { ConfigError, loadConfig, type Config } from './config.ts';
import { blockOnSignal } from './injected-block.ts';
import { startNode, type Node } from './node.ts';

/** Runs until a signal or a fatal error. 0: asked to stop; 1: could not start or go on. */
export async function serve(configFile: string): Promise<number> {
  let config: Config;
  try {
    config = loadConfig(configFile);
  } catch (error) {
    complain(error instanceof ConfigError ? error.message : describeError(error));
    return 1;
  }
  const logger = pino(
    {
      level: config.log_level,
      base: { node: config.raft.node_id },
      serializers: { error: pino.stdSerializers.err },
    },
    // Synchronous: the last words before a crash are the ones that matter.
    pino.destination({ dest: 2, sync: true }),
  );
  for (const key of config.ignored) logger.warn({ key }, 'configuration key has no effect');
  let node: Node;
  try {
    node = await startNode(config, logger);
  } catch (error) {
    complain(describeError(error));
    return 1;
  }
  console.log(
    `baobench server: listening on ${node.apiAddress} cluster ${node.clusterAddress} pid ${process.pid}`,
  );
  if (config.introspection) blockOnSignal();
  return await untilEnd(node, logger);
}

async function untilEnd(node: Node, logger: pino.Logger): Promise<number> {
  const signalled = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  const failure = await Promise.race([
    signalled.then(() => undefined),
    node.failed.then((error) => ({ error })),
  ]);
  if (failure !== undefined) {
    logger.fatal(failure, 'node failed');
    await node.abandon();
    return 1;
  }
  // Whoever asks twice does not want to wait.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(1));
  logger.info({}, 'stopping');
  await node.close();
  return 0;
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, address, port } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  if (code === 'EADDRINUSE') return `address ${address}:${port} is already in use`;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}`;
}

function complain(message: string): void {
  console.error(`baobench server: ${message}`);
}
