import { describe, expect, test } from 'vitest';
import { createRandom } from '../bench/random.ts';
import type { Request } from '../bench/load/exchange.ts';
import { keyChooser, type KeyDistribution } from './keys.ts';
import { prepare, removeCreation, type Creation } from './prepare.ts';
import { findWorkload, WORKLOADS } from './registry.ts';
import { bind, createSetting, keyName, seqOf, valueBody } from './workload.ts';

const SETTING = createSetting({ seed: 1, mountPath: 'bench-1', writer: 'w1', tokens: ['a', 'b'] });

function countKeys(distribution: KeyDistribution, keyCount: number, draws: number): number[] {
  const chooser = keyChooser(distribution, keyCount, createRandom(2, 'key'));
  const counts = Array.from({ length: keyCount }, () => 0);
  for (let i = 0; i < draws; i++) {
    const key = chooser.next(false);
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

describe('keyChooser()', () => {
  test.each([['uniform'], ['zipfian'], ['latest'], ['sequential']] as const)(
    '%s stays within its keys, and a single key suffices',
    (distribution) => {
      const counts = countKeys(distribution, 7, 1000);
      expect(counts.length).toBe(7);
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1000);
      expect(countKeys(distribution, 1, 5)).toEqual([5]);
    },
  );

  test('zipfian popularity falls as 1 / rank^0.99, on scattered keys', () => {
    const counts = countKeys('zipfian', 1000, 100_000);
    const byRank = counts.toSorted((a, b) => b - a);
    const weight = Array.from({ length: 1000 }, (_, rank) => (rank + 1) ** -0.99);
    const total = weight.reduce((sum, each) => sum + each, 0);
    for (const rank of [0, 1, 9]) {
      const expected = (100_000 * (weight[rank] ?? 0)) / total;
      expect(Math.abs((byRank[rank] ?? 0) / expected - 1)).toBeLessThan(0.05);
    }
    const top = [...counts.keys()].toSorted((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0));
    expect(Math.abs((top[0] ?? 0) - (top[1] ?? 0))).toBeGreaterThan(10);
    expect(counts.every((count) => count > 0)).toBe(true);
  });

  test('latest reads what was written last most often', () => {
    const chooser = keyChooser('latest', 100, createRandom(2, 'key'));
    const written = [chooser.next(true), chooser.next(true)];
    expect(written).toEqual([0, 1]);
    const reads = Array.from({ length: 1000 }, () => chooser.next(false));
    const count = (key: number) => reads.filter((read) => read === key).length;
    expect(count(1)).toBeGreaterThan(count(0));
    expect(count(0)).toBeGreaterThan(count(50));
  });
});

test('a value is as long as asked and says whose it is', () => {
  const row = { key: 7, valueBytes: 1000, seq: 42 };
  const body = valueBody(SETTING, row);
  expect(body.length).toBe(1000);
  expect(JSON.parse(body)).toMatchObject({ key: 'k000007', seq: 42, writer: 'w1' });
  expect(seqOf(Buffer.from(body))).toBe(42);
  expect(seqOf(Buffer.from('{}'))).toBeUndefined();
  // Larger than the text that values are cut from.
  expect(valueBody(SETTING, { key: 1, valueBytes: 200_000, seq: 1 }).length).toBe(200_000);
  expect(
    () => JSON.parse(valueBody(SETTING, { key: 1, valueBytes: 5, seq: 1 })) as unknown,
  ).not.toThrow();
});

describe.each(WORKLOADS.map((workload) => [workload.name, workload] as const))(
  '%s',
  (name, workload) => {
    const bound = bind(workload, SETTING);
    const row = { key: 3, valueBytes: 100, seq: 9 };

    test('can be found, and builds requests for its own mount and tokens', () => {
      expect(findWorkload(name)).toBe(workload);
      for (const index of workload.operations.keys()) {
        const request = bound.request(index, row);
        expect(
          request.path.startsWith(workload.mount === undefined ? '/v1/auth/' : '/v1/bench-1/'),
        ).toBe(true);
        expect(request.headers.slice(0, 2)).toEqual(['x-vault-token', 'b']);
        expect(request.body === undefined).toBe(workload.operations[index]?.writes === false);
      }
    });

    test('rejects the answers that a server must not give', () => {
      for (const [index, operation] of workload.operations.entries()) {
        expect(bound.verify(index, row, 404, Buffer.from('{"errors":[]}'))).toBe(false);
        const other = Buffer.from(`{"data":{"key":"${keyName(4)}"}}`);
        const status = operation.writes ? 500 : 200;
        expect(bound.verify(index, row, status, other)).toBe(false);
      }
    });
  },
);

test('an unknown workload names the known ones', () => {
  expect(() => findWorkload('nope')).toThrow(/"nope": must be one of read-only, read-mostly/);
});

test('prepare() announces before it creates, stores every key, and can be undone', async () => {
  const log: string[] = [];
  const created: Creation[] = [];
  const ask = (request: Request) => {
    log.push(`${request.method} ${request.path}`);
    const isToken = request.path.endsWith('token/create');
    const body = isToken ? `{"auth":{"client_token":"s.${log.length}"}}` : '';
    return Promise.resolve({ status: isToken ? 200 : 204, body: Buffer.from(body) });
  };
  const setting = await prepare({
    workload: findWorkload('blog-mix'),
    seed: 1,
    name: 'bench-x',
    writer: 'w',
    token: 'root',
    ask,
    onCreate: (creation) => {
      created.push(creation);
      log.push(`announce ${creation.kind}`);
    },
    signal: new AbortController().signal,
  });
  expect(log.slice(0, 5)).toEqual([
    'announce mount',
    'POST /v1/sys/mounts/bench-x',
    'announce policy',
    'PUT /v1/sys/policies/acl/bench-x',
    'POST /v1/auth/token/create',
  ]);
  expect(log.slice(5).toSorted()).toEqual(
    Array.from({ length: 10 }, (_, key) => `POST /v1/bench-x/f0000/${keyName(key)}`),
  );
  expect(setting.readHeaders).toEqual([['x-vault-token', 's.5']]);

  log.length = 0;
  for (const creation of created) await removeCreation(creation, 'root', ask);
  expect(log).toEqual(['DELETE /v1/sys/mounts/bench-x', 'DELETE /v1/sys/policies/acl/bench-x']);
});

test('prepare() fails with the status and text of a refused step', async () => {
  const ask = () => Promise.resolve({ status: 403, body: Buffer.from('permission denied') });
  const preparing = prepare({
    workload: findWorkload('token-lookup'),
    seed: 1,
    name: 'bench-x',
    writer: 'w',
    token: 'none',
    ask,
    onCreate: () => {},
    signal: new AbortController().signal,
  });
  await expect(preparing).rejects.toThrow('status 403: permission denied');
});
