/** etcd's raft in a process of its own: one question a line, one answer a line (`etcd/main.go`). */

import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { Role } from '../../server/raft/message.ts';
import type { WireMessage } from './message.ts';

/** Where Debian's `golang-etcd-server-dev` puts sources. */
const GOPATH = '/usr/share/gocode';
export const ETCD_RAFT = join(GOPATH, 'src/go.etcd.io/etcd/raft');
const BUILD_MS = 300_000;

export type OracleOptions = {
  readonly nodes: number;
  readonly voters: readonly number[];
  readonly learners: readonly number[];
  readonly electionTicks: number;
  readonly timeoutTicks: number;
  readonly heartbeatTicks: number;
  readonly appendBytesMax: number;
  readonly inflightAppendsMax: number;
};

export type OracleRequest = {
  readonly op: string;
  readonly node: number;
  readonly peer?: number;
  readonly index?: number;
  readonly ok?: boolean;
  readonly text?: string;
  readonly changes?: string;
  readonly transition?: string;
  readonly message?: WireMessage;
};

/** The configuration as etcd has it, sorted. */
export type VoterSets = {
  readonly voters: readonly number[];
  readonly votersOutgoing: readonly number[];
  readonly learners: readonly number[];
  readonly learnersNext: readonly number[];
  readonly autoLeave: boolean;
};

/** What both sides must agree on. 0 is no server; `match` is empty but on a leader. */
export type NodeStatus = {
  readonly role: Role;
  readonly term: number;
  readonly vote: number;
  readonly leader: number;
  readonly commit: number;
  readonly applied: number;
  readonly firstIndex: number;
  readonly log: readonly string[];
  readonly configuration: VoterSets;
  readonly transferTarget: number;
  readonly match: Readonly<Record<string, number>>;
};

export type OracleResponse = {
  readonly panic?: string;
  readonly refused?: string;
  readonly messages: readonly WireMessage[];
  readonly reads: readonly { readonly id: string; readonly index: number }[];
  readonly status: NodeStatus;
};

/** The packages that are not here. */
export function missingPackages(): string[] {
  const missing = existsSync(ETCD_RAFT) ? [] : ['golang-etcd-server-dev'];
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
  } catch {
    missing.push('golang-go');
  }
  return missing;
}

export function buildOracle(sources: string, program: string): void {
  execFileSync('go', ['build', '-o', program, '.'], {
    cwd: sources,
    timeout: BUILD_MS,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, GO111MODULE: 'off', GOPATH, GOFLAGS: '' },
  });
}

export const ORACLE_SOURCES = fileURLToPath(
  new URL('../../../scripts/differential/etcd', import.meta.url),
);

export class Oracle {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string) {
    this.#process = spawn(program, { stdio: 'pipe' });
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async begin(options: OracleOptions): Promise<void> {
    await this.#ask({ op: 'begin', options });
  }

  async run(request: OracleRequest): Promise<OracleResponse> {
    return (await this.#ask(request)) as OracleResponse;
  }

  async #ask(request: object): Promise<unknown> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    assert(done !== true, "etcd's side has ended");
    return JSON.parse(value);
  }

  end(): void {
    this.#process.stdin.end();
  }
}
