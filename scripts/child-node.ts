/**
 * The server as a child process that may well fail: started by a configuration file as it stands,
 * and watched for what it says and how it ends.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('./baobench.js', import.meta.url));

export type ChildNode = {
  readonly processId: number;
  /** Resolves with `http://host:port` when it listens; rejects if it ends before. */
  readonly listening: Promise<string>;
  /** Resolves when it is gone and its output has been read. */
  readonly exited: Promise<ChildExit>;
  /** Asks it to stop. */
  stop(): Promise<ChildExit>;
};

export type ChildExit = {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it wrote to stderr. */
  readonly errorOutput: string;
};

const running = new Set<ChildProcess>();
process.once('exit', killChildNodes);

export function spawnNode(configFile: string): ChildNode {
  const child = spawn(process.execPath, [CLI, 'server', `-config=${configFile}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let output = '';
  let errorOutput = '';
  const exited = new Promise<ChildExit>((resolve) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errorOutput += text;
    });
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal, errorOutput });
    });
  });
  const listening = new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const address = /listening on (\S+) cluster /.exec(output)?.[1];
      if (address !== undefined) resolve(address);
    });
    void exited.then(({ code, signal }) =>
      reject(new Error(`the node ended with ${code ?? signal}\n${errorOutput}`)),
    );
  });
  // Who expects a node to end does not wait for it to listen.
  listening.catch(() => undefined);
  return {
    processId: child.pid ?? 0,
    listening,
    exited,
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
  };
}

/** Ends every node that is still there. */
export function killChildNodes(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** The same, and waits until none of them holds its files any more. */
export async function endChildNodes(): Promise<void> {
  const ended = [...running].map((child) => once(child, 'close'));
  killChildNodes();
  await Promise.all(ended);
}
