import { expect, test } from 'vitest';

import { call, expectOk } from '../bench/cluster/admin-api.ts';
import { startReferenceCluster } from '../bench/cluster/reference-cluster.ts';

test('a node that takes no more writes says so, and when to come again; it keeps what it took', async () => {
  const cluster = await startReferenceCluster({
    ...{ name: 'p', mode: 'standby-reads', storage: { max_pending_writes: 4 } },
  });
  try {
    await cluster.grow(3);
    const { address } = await cluster.active();
    const at = { address, token: cluster.token };
    await expectOk('POST', 'sys/mounts/kv', { ...at, body: { type: 'kv' } });
    const keys = Array.from({ length: 200 }, (_, number) => `k${number}`);
    const answers = await Promise.all(
      keys.map((key) => call('PUT', `kv/${key}`, { ...at, body: { value: key } })),
    );
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    for (const { headers, body } of refused) {
      expect(headers['retry-after']).toBe('1');
      expect(body['errors']).toEqual([expect.stringContaining('4 writes are waiting')]);
    }
    for (const [position, { status }] of answers.entries()) {
      expect([204, 503]).toContain(status);
      // What was refused has not happened, and what was taken has.
      const { status: found } = await call('GET', `kv/${keys[position]}`, at);
      expect(found).toBe(status === 204 ? 200 : 404);
    }
    const again = await call('PUT', 'kv/again', { ...at, body: { value: 'x' } });
    expect(again.status).toBe(204);
  } finally {
    await cluster.stop();
  }
}, 60_000);
