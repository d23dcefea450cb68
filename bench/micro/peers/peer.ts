/**
 * A cluster of three nodes of one consensus library, each a process of its own that takes commands
 * as JSON lines: what `reference-node.ts` and `hashicorp/main.go` have in common.
 */

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

export const MARK_PREFIX = 'mark-';

/** 0 means no bound, no gap, no marks. Every `markEvery`-th write is timed on the followers, too. */
export type LoadOptions = {
  readonly concurrency: number;
  readonly ms: number;
  readonly count: number;
  readonly gapMs: number;
  readonly bytes: number;
  readonly markEvery: number;
};

export type PeerCommand =
  | { readonly do: 'bootstrap'; readonly id: string }
  | { readonly do: 'add'; readonly id: string; readonly address: string }
  | { readonly do: 'start' | 'voters' | 'marks' | 'cpu' | 'syncs' }
  | { readonly do: 'fill'; readonly keys: number; readonly bytes: number }
  | { readonly do: 'pace'; readonly ratePerSecond: number }
  | { readonly do: 'remove'; readonly id: string }
  | { readonly do: 'applied' | 'paced' | 'stop-pace' }
  | ({ readonly do: 'load' } & LoadOptions);

export type Loaded = {
  readonly ops: number;
  readonly ms: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** When a marked write was acknowledged, in microseconds of CLOCK_MONOTONIC. */
  readonly acks: Readonly<Record<string, number>>;
};

/** Sorted, from when each write was meant to be made. */
export type Paced = { readonly latenciesMs: readonly number[]; readonly failures: number };

/** How to start a node: the program and its arguments, given its id and a directory of its own. */
export type PeerProgram = (id: string, directory: string) => readonly string[];

const NODES = 3;
/** Longer than any answer takes; a peer that needs it is stuck, and the run has no figure. */
const ANSWER_MS = 120_000;
/** Each a look at the leader's configuration. */
const VOTER_LOOKS_MAX = 200;

export class PeerCluster {
  readonly #nodes: readonly PeerNode[];

  private constructor(nodes: readonly PeerNode[]) {
    this.#nodes = nodes;
  }

  static async start(program: PeerProgram, directory: string, size = NODES): Promise<PeerCluster> {
    const nodes: PeerNode[] = [];
    const cluster = new PeerCluster(nodes);
    try {
      for (let number = 1; number <= size; number += 1) {
        nodes.push(await PeerNode.start(`n${number}`, program, directory));
      }
      await cluster.#form();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  async #form(): Promise<void> {
    const [leader, ...followers] = this.#nodes;
    assert(leader !== undefined);
    await leader.ask({ do: 'bootstrap', id: leader.id });
    for (const { id, address } of followers) await leader.ask({ do: 'add', id, address });
    for (const follower of followers) await follower.ask({ do: 'start' });
    for (let looks = 0; (await leader.ask({ do: 'voters' })) !== this.#nodes.length; looks += 1) {
      assert(looks < VOTER_LOOKS_MAX, 'the followers do not become voters');
      await delay(50);
    }
  }

  async load(options: Partial<LoadOptions>): Promise<Loaded> {
    const none = { concurrency: 1, ms: 0, count: 0, gapMs: 0, bytes: 300, markEvery: 0 };
    return (await this.leader().ask({ do: 'load', ...none, ...options })) as Loaded;
  }

  /** How long after its acknowledgement each marked write was applied on the slowest follower. */
  async lagsUs({ acks }: Loaded): Promise<number[]> {
    await delay(300);
    const applied = (await this.#ask('marks')) as readonly Readonly<Record<string, number>>[];
    return Object.entries(acks).map(([mark, ackUs]) => {
      const last = applied.slice(1).map((marks) => marks[mark] ?? Infinity);
      return Math.max(...last) - ackUs;
    });
  }

  /** How long each sync of the leader's log has taken since the last call; of slow disks only. */
  async syncsUs(): Promise<readonly number[]> {
    return (await this.leader().ask({ do: 'syncs' })) as readonly number[];
  }

  /** CPU so far, in microseconds: the leader's, then the mean of the followers'. */
  async cpuUs(): Promise<{ leader: number; follower: number }> {
    const [leader = 0, ...followers] = (await this.#ask('cpu')) as readonly number[];
    return { leader, follower: followers.reduce((sum, us) => sum + us, 0) / followers.length };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
  }

  #ask(what: 'marks' | 'cpu'): Promise<unknown[]> {
    return Promise.all(this.#nodes.map((node) => node.ask({ do: what })));
  }

  leader(): PeerNode {
    const leader = this.#nodes[0];
    assert(leader !== undefined);
    return leader;
  }
}

export class PeerNode {
  readonly id: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #address = '';

  private constructor(id: string, child: ChildProcess) {
    this.id = id;
    this.#child = child;
    assert(child.stdout !== null);
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static async start(id: string, program: PeerProgram, directory: string): Promise<PeerNode> {
    const own = join(directory, id);
    mkdirSync(own, { recursive: true });
    const [file = '', ...args] = program(id, own);
    const node = new PeerNode(id, spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
    const { address } = (await node.#answer()) as { readonly address: string };
    node.#address = address;
    return node;
  }

  get address(): string {
    return this.#address;
  }

  async ask(command: PeerCommand): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return await this.#answer();
  }

  async #answer(): Promise<unknown> {
    const late = AbortSignal.timeout(ANSWER_MS);
    const line = await Promise.race([
      this.#lines.next(),
      new Promise<never>((_, reject) => {
        late.addEventListener('abort', () => reject(new Error(`${this.id} does not answer`)));
      }),
    ]);
    if (line.done === true) throw new Error(`${this.id} has ended`);
    return JSON.parse(line.value) as unknown;
  }

  /** Its input ends, and with it the node; who does not follow is killed. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
    await exited;
    clearTimeout(timer);
  }
}
