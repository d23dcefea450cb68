import { afterEach, expect, test } from 'vitest';
import type { ReplicaStorage } from './replica/replica-storage.ts';
import { ServingCluster } from './testing/serving-cluster.ts';

/** A disk whose writes wait for as long as it hangs. */
class Disk {
  #released: Promise<void> = Promise.resolve();
  release = (): void => undefined;

  hang(): void {
    this.#released = new Promise((resolve) => {
      this.release = resolve;
    });
  }

  under(storage: ReplicaStorage): ReplicaStorage {
    return {
      ...storage,
      openLog: async () => {
        const { log, recovered } = await storage.openLog();
        const hung = {
          append: async (write: Parameters<typeof log.append>[0]) => {
            await this.#released;
            return log.append(write);
          },
          compact: (index: number) => log.compact(index),
          close: () => log.close(),
        };
        return { recovered, log: hung };
      },
    };
  }
}

let cluster: ServingCluster | undefined;
const disk = new Disk();

afterEach(async () => {
  disk.release();
  await cluster?.close();
  cluster = undefined;
});

const textOf = ({ status, body }: { status: number; body: unknown }): string =>
  `${status} ${String(body)}`;

test('a write whose disk never answers ends as unknown, others with it, and reads go on', async () => {
  cluster = await ServingCluster.formed(1, {
    config: 'default_max_request_duration = "1s"\n',
    wrapStorage: (_id, storage) => disk.under(storage),
  });
  const served = cluster;
  const node = await served.active();
  const mounted = await served.ask(node, 'POST', 'sys/mounts/kv', { type: 'kv' });
  expect(mounted.status).toBe(204);
  expect((await served.ask(node, 'PUT', 'kv/a', { v: 'before' })).status).toBe(204);

  disk.hang();
  const startMs = performance.now();
  const hung = await Promise.all([
    served.ask(node, 'PUT', 'kv/a', { v: 'during' }),
    served.ask(node, 'PUT', 'kv/b', { v: 'during' }),
    // It waits behind the first for the key, not for the disk.
    served.ask(node, 'PUT', 'kv/a', { v: 'queued' }),
    served.ask(node, 'GET', 'kv/a'),
  ]);
  expect(performance.now() - startMs).toBeGreaterThan(990);
  const unknown = expect.stringMatching(/^504 .*within 1000 ms.*outcome is unknown/);
  expect(hung.map(textOf)).toEqual([
    unknown,
    unknown,
    unknown,
    expect.stringMatching(/^200 .*"v":"before"/),
  ]);

  disk.release();
  const after = await served.ask(node, 'PUT', 'kv/c', { v: 'after' });
  expect(after.status).toBe(204);
  // What was unknown took effect, as it may.
  expect(textOf(await served.ask(node, 'GET', 'kv/b'))).toMatch(/^200 .*"v":"during"/);
});

test('a read that counts the use of its token waits for the disk no longer than a write', async () => {
  cluster = await ServingCluster.formed(1, {
    config: 'default_max_request_duration = "1s"\n',
    wrapStorage: (_id, storage) => disk.under(storage),
  });
  const served = cluster;
  const node = await served.active();
  const created = await served.ask(node, 'POST', 'auth/token/create', { num_uses: 5 });
  const { auth } = JSON.parse(String(created.body)) as { auth: { client_token: string } };
  served.rootToken = auth.client_token;
  expect((await served.ask(node, 'GET', 'auth/token/lookup-self')).status).toBe(200);

  disk.hang();
  const startMs = performance.now();
  const answer = await served.ask(node, 'GET', 'auth/token/lookup-self');
  expect(textOf(answer)).toMatch(/^504 .*outcome is unknown/);
  expect(performance.now() - startMs).toBeGreaterThan(990);
});
