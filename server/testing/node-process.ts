/** Nodes as real processes on loopback, started as an operator starts them. */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../scripts/baobench.js', import.meta.url));

export type NodeProcess = {
  /** `http://127.0.0.1:port`. */
  readonly address: string;
  readonly child: ChildProcess;
  /** What it has logged so far. */
  errors(): string;
  /** From now on its disk is full for whatever lies beyond so many bytes of a file. */
  limitFiles(bytes: number): void;
  /** SIGTERM; resolves with the exit code, or the signal that ended it. */
  stop(): Promise<number | NodeJS.Signals | null>;
};

export type Exit = {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** A directory for one test's nodes; `remove` ends those that still run. */
export class Workspace {
  readonly directory = mkdtempSync(join(tmpdir(), 'baobench-node-'));
  readonly #children = new Set<ChildProcess>();

  /** Starts a node on free ports. */
  async start(nodeId: string): Promise<NodeProcess> {
    const file = this.write(`${nodeId}.hcl`, nodeConfig(join(this.directory, nodeId), nodeId));
    const child = this.#spawn(file);
    let output = '';
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const address = await new Promise<string>((resolve, reject) => {
      child.stdout?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const found = /listening on (\S+) cluster /.exec(output)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`${nodeId} ended with ${code}: ${errors}`)));
    });
    return {
      address,
      child,
      errors: () => errors,
      limitFiles: (bytes) => {
        execFileSync('prlimit', [`--fsize=${bytes}`, '--pid', String(child.pid)]);
      },
      stop: async () => {
        if (child.exitCode === null && child.signalCode === null) {
          child.kill('SIGTERM');
          await once(child, 'exit');
        }
        return child.exitCode ?? child.signalCode;
      },
    };
  }

  /** Runs the server until it ends by itself. */
  async run(configFile: string): Promise<Exit> {
    const child = this.#spawn(configFile);
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    await once(child, 'close');
    return { code: child.exitCode, stdout, stderr };
  }

  write(name: string, text: string): string {
    const file = join(this.directory, name);
    writeFileSync(file, text);
    return file;
  }

  async remove(): Promise<void> {
    for (const child of this.#children) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  #spawn(configFile: string): ChildProcess {
    const args = [CLI, 'server', `-config=${configFile}`];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.add(child);
    return child;
  }
}

export function nodeConfig(directory: string, nodeId: string): string {
  return `
storage "raft" {
  path = ${JSON.stringify(directory)}
  node_id = "${nodeId}"
}
listener "tcp" {
  address = "127.0.0.1:0"
  tls_disable = true
}
enable_response_header_raft_node_id = true
log_level = "warn"
`;
}
