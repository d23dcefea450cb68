/**
 * One server process: configured, started through the CLI that any user has, and ended again.
 * Nothing outlives its parent: a node that is still there when this process exits is killed.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { readProcessUsage } from './process-usage.ts';

const CLI = fileURLToPath(new URL('../../scripts/baobench.js', import.meta.url));
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;
const OUTPUT_CHARS_MAX = 4_000;

export type NodeSettings = {
  readonly id: string;
  readonly directory: string;
  /** Where both ports are bound. */
  readonly host: string;
  readonly apiPort: number;
  readonly clusterPort: number;
  /** Further keys of the server's configuration: top level, `storage "raft"`, `listener "tcp"`. */
  readonly server: { readonly [key: string]: string | number | boolean };
  readonly storage: { readonly [key: string]: string | number | boolean };
  readonly listener: { readonly [key: string]: string | number | boolean };
  /** Runs the CLI: a program and its arguments, such as Node with the flags of a profiler. */
  readonly launcher?: readonly [string, ...string[]] | undefined;
  /** Called as soon as there is a process, long before it listens. */
  readonly onSpawn?: ((processId: number) => void) | undefined;
};

export type NodeProcess = {
  readonly id: string;
  readonly address: string;
  readonly clusterAddress: string;
  readonly processId: number;
  isRunning(): boolean;
  /** The last that it wrote to stderr. */
  errorOutput(): string;
  kill(signal: NodeJS.Signals): void;
  /** Asks it to stop, insists after ten seconds, and resolves when it is gone. */
  stop(): Promise<void>;
  exited: Promise<void>;
};

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts a node and resolves when it answers, still sealed. */
export async function startNode(settings: NodeSettings): Promise<NodeProcess> {
  mkdirSync(join(settings.directory, 'raft'), { recursive: true });
  const configFile = join(settings.directory, 'config.json');
  writeFileSync(configFile, JSON.stringify(nodeConfig(settings), null, 2));

  const [program, ...flags] = settings.launcher ?? [process.execPath];
  const child = spawn(program, [...flags, CLI, 'server', `-config=${configFile}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '2' },
  });
  running.add(child);
  if (child.pid !== undefined) settings.onSpawn?.(child.pid);
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      running.delete(child);
      resolve();
    });
  });
  const errorOutput = collect(child.stderr);
  await untilListening(child, settings.id, errorOutput);

  return {
    id: settings.id,
    address: `http://${settings.host}:${settings.apiPort}`,
    clusterAddress: `${settings.host}:${settings.clusterPort}`,
    processId: child.pid ?? 0,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    errorOutput,
    kill: (signal) => void child.kill(signal),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const insist = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(insist);
    },
    exited,
  };
}

function nodeConfig(settings: NodeSettings): object {
  const api = `${settings.host}:${settings.apiPort}`;
  const cluster = `${settings.host}:${settings.clusterPort}`;
  return {
    storage: {
      raft: {
        path: join(settings.directory, 'raft'),
        node_id: settings.id,
        // A node that has caught up counts at once: nothing here fails on its own.
        autopilot_server_stabilization_time: 0,
        ...settings.storage,
      },
    },
    listener: {
      tcp: { address: api, cluster_address: cluster, tls_disable: true, ...settings.listener },
    },
    api_addr: `http://${api}`,
    cluster_addr: `https://${cluster}`,
    enable_response_header_raft_node_id: true,
    log_level: 'warn',
    ...settings.server,
  };
}

/** Returns what tells the last of what a stream has brought. */
function collect(stream: Readable | null): () => string {
  let output = '';
  stream?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_CHARS_MAX);
  });
  return () => output;
}

function untilListening(child: ChildProcess, id: string, errorOutput: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(() => {
      const usage = usageOf(child);
      child.kill('SIGKILL');
      const failure = `node ${id} did not listen within ${START_TIMEOUT_MS} ms ${usage}`;
      reject(new Error(`${failure}\n${errorOutput()}`));
    }, START_TIMEOUT_MS);
    const output = collect(child.stdout);
    child.stdout?.on('data', () => {
      if (!output().includes('listening on')) return;
      clearTimeout(timeout);
      resolve();
    });
    // When its output has been read to the end, too.
    child.once('close', (code, signal) => {
      clearTimeout(timeout);
      reject(new Error(`node ${id} ended with ${code ?? signal}\n${output()}${errorOutput()}`));
    });
  });
}

/** Tells a process that hangs from one that was given no time. */
function usageOf({ pid, exitCode, signalCode }: ChildProcess): string {
  if (pid === undefined || exitCode !== null || signalCode !== null) return '(it has ended)';
  const { cpuNs, runDelayNs } = readProcessUsage(pid);
  const [ran, waited] = [cpuNs, runDelayNs].map((ns) => Math.round(ns / 1e6));
  return `(it ran for ${ran} ms and waited ${waited} ms for a core)`;
}
