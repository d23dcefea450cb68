/**
 * A follower is away for many writes, comes back under load, and gets a snapshot. It is frozen, not
 * restarted, so that its caches are full of what was true when it left: its first answer at the
 * index of the last write must be made of what is true now.
 *
 * Beside that, writes go on at a constant rate; their response times, from the intended start, say
 * what the snapshot costs those who are not concerned.
 */

import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { call, expectOk, type Answer } from '../../bench/cluster/admin-api.ts';
import {
  startReferenceCluster,
  type Cluster,
  type ClusterNode,
} from '../../bench/cluster/reference-cluster.ts';
import { ResponseTimes, type Summary } from './response-times.ts';

export type RejoinOptions = {
  /** Made while the follower is away, as fast as `concurrency` clients can. */
  readonly writes: number;
  readonly concurrency: number;
  readonly valueBytes: number;
  /** Of the writes beside everything, per second. */
  readonly rate: number;
  /** How long is measured before and after. */
  readonly phaseMs: number;
  readonly storage: { readonly [key: string]: string | number | boolean };
  readonly say: (line: string) => void;
};

export type RejoinResult = {
  readonly missedWrites: number;
  /** From the moment the follower runs again until it has applied what was last written then. */
  readonly rejoinMs: number;
  readonly snapshotBytes: number;
  readonly snapshotCount: number;
  /** What the follower answered first that was not right; empty if all is well. */
  readonly staleAnswers: readonly string[];
  readonly phases: { readonly before: Summary; readonly during: Summary; readonly after: Summary };
};

const REJOIN_MS_MAX = 120_000;
const FROZEN_MS = 1_000;
const ATTEMPT_MS = 55_000;

export async function runRejoin(options: RejoinOptions): Promise<RejoinResult> {
  const { storage, say } = options;
  const listener = { consistency_max_index_wait: '50s' };
  const cluster = await startReferenceCluster({
    ...{ name: 'r', mode: 'standby-reads', storage, listener },
  });
  try {
    await cluster.grow(3);
    return await rejoin(cluster, options);
  } finally {
    for (const node of cluster.nodes()) node.kill('SIGCONT');
    await cluster.stop();
    say('stopped');
  }
}

async function rejoin(cluster: Cluster, options: RejoinOptions): Promise<RejoinResult> {
  const { say, phaseMs } = options;
  const active = await cluster.active();
  const follower = cluster.nodes().find((node) => node.id !== active.id);
  assert(follower !== undefined);
  const scene = await Scene.create(cluster, active, follower);
  const times = new ResponseTimes(options.rate, (number) => scene.write(`beside-${number % 100}`));
  try {
    times.start('before');
    await delay(phaseMs);
    times.start('away');
    follower.kill('SIGSTOP');
    await delay(FROZEN_MS);
    await scene.change();
    await writeMany(scene, options);
    const lastIndex = await scene.lastIndex();
    say(`${options.writes} writes made without ${follower.id}`);

    times.start('during');
    const startMs = performance.now();
    follower.kill('SIGCONT');
    const staleAnswers = await scene.firstAnswers(lastIndex);
    const rejoinMs = performance.now() - startMs;
    times.start('after');
    await delay(phaseMs);
    const snapshots = snapshotFiles(cluster, active);
    return {
      missedWrites: options.writes,
      rejoinMs,
      snapshotBytes: snapshots.reduce((sum, bytes) => sum + bytes, 0),
      snapshotCount: snapshots.length,
      staleAnswers,
      phases: {
        before: times.summary('before'),
        during: times.summary('during'),
        after: times.summary('after'),
      },
    };
  } finally {
    await times.stop();
  }
}

/** What the follower knew, and what it should know when it is back. */
class Scene {
  readonly #cluster: Cluster;
  readonly #active: ClusterNode;
  readonly #follower: ClusterNode;
  #clientToken = '';

  private constructor(cluster: Cluster, active: ClusterNode, follower: ClusterNode) {
    this.#cluster = cluster;
    this.#active = active;
    this.#follower = follower;
  }

  /** Fills the follower's caches: a value, a token with its policies, a mount. */
  static async create(
    cluster: Cluster,
    active: ClusterNode,
    follower: ClusterNode,
  ): Promise<Scene> {
    const scene = new Scene(cluster, active, follower);
    await scene.#post('sys/mounts/kv', { type: 'kv' });
    await scene.#post('sys/mounts/gone', { type: 'kv' });
    await scene.#post('sys/policies/acl/reader', {
      policy: 'path "kv/a" { capabilities=["read"] }',
    });
    await scene.#post('kv/a', { value: 'old' });
    await scene.#post('kv/b', { value: 'old' });
    const { body } = await scene.#post('auth/token/create', { policies: ['reader'] });
    scene.#clientToken = String((body['auth'] as { client_token: string }).client_token);
    const index = await scene.lastIndex();
    const expected = [
      [scene.#clientToken, 'kv/a', 200],
      [scene.#clientToken, 'kv/b', 403],
      [cluster.token, 'gone/x', 404],
    ] as const;
    for (const [token, path, status] of expected) {
      const answer = await scene.#ask(path, token, index);
      assert.equal(answer.status, status, `${path} before`);
    }
    return scene;
  }

  /** Everything that the follower holds in a cache becomes untrue. */
  async change(): Promise<void> {
    await this.#post('kv/a', { value: 'new' });
    await this.#post('sys/policies/acl/reader', {
      policy: 'path "kv/a" { capabilities=["read"] } path "kv/b" { capabilities=["read"] }',
    });
    await expectOk('DELETE', 'sys/mounts/gone', this.#at(this.#active));
    await this.#post('sys/mounts/come', { type: 'kv' });
    await this.#post('come/x', { value: 'new' });
  }

  async write(key: string, value = 'x'): Promise<void> {
    await this.#post(`kv/${key}`, { value });
  }

  async lastIndex(): Promise<string> {
    const answer = await this.#post('kv/last', { value: 'x' });
    return String(answer.headers['x-vault-index']);
  }

  /** What the follower says first about each, at `index`; returns what is not as it should be. */
  async firstAnswers(index: string): Promise<string[]> {
    const token = this.#clientToken;
    const { token: root } = this.#cluster;
    const questions = [
      ['kv/a', token, 'new'],
      ['kv/b', token, 'old'],
      ['come/x', root, 'new'],
      ['gone/x', root, 404],
    ] as const;
    const answers = questions.map(async ([path, by, expected]) => {
      const { status, body, headers } = await this.#ask(path, by, index);
      const value = status === 200 ? (body['data'] as { value?: unknown }).value : status;
      const isHere = headers['x-vault-raft-node-id'] === this.#follower.id;
      if (value === expected && isHere) return undefined;
      return `${path}: ${String(value)} of ${String(headers['x-vault-raft-node-id'])}`;
    });
    return (await Promise.all(answers)).filter((line) => line !== undefined);
  }

  /** The first answer that the follower gives once it has applied `index`. */
  async #ask(path: string, token: string, index: string): Promise<Answer> {
    const headers = { 'X-Vault-Index': index, 'X-Vault-Inconsistent': 'await-state,fail' };
    const deadlineMs = performance.now() + REJOIN_MS_MAX;
    for (;;) {
      const answer = await call('GET', path, {
        ...{ address: this.#follower.address, token, headers, timeoutMs: ATTEMPT_MS },
      });
      // 429: not yet there.
      if (answer.status !== 429 || deadlineMs < performance.now()) return answer;
    }
  }

  #post(path: string, body: { readonly [key: string]: unknown }): Promise<Answer> {
    return expectOk('POST', path, { ...this.#at(this.#active), body });
  }

  #at({ address }: ClusterNode): { address: string; token: string } {
    return { address, token: this.#cluster.token };
  }
}

async function writeMany(scene: Scene, options: RejoinOptions): Promise<void> {
  const { writes, concurrency, valueBytes } = options;
  const value = 'v'.repeat(valueBytes);
  let next = 0;
  const client = async (): Promise<void> => {
    for (let number = next++; number < writes; number = next++) {
      await scene.write(`missed/${number}`, value);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, client));
}

/** The sizes of the snapshots that a node has built of late. */
function snapshotFiles(cluster: Cluster, { id }: ClusterNode): number[] {
  const directory = join(cluster.directory, id, 'raft', 'snapshots');
  const names = readdirSync(directory).filter((name) => name.endsWith('.outgoing'));
  return names.map((name) => statSync(join(directory, name)).size);
}
