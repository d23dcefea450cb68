import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { ServerError } from '../errors.ts';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryNode } from '../testing/memory-physical.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { Transaction, ViewOperation } from './backend.ts';
import { Barrier } from './barrier.ts';
import { createKey } from './seal.ts';
import { TRANSACTION_ATTEMPTS_MAX } from './transaction.ts';
import { createView } from './view.ts';

async function openBarrier(): Promise<{ barrier: Barrier; node: MemoryNode }> {
  const node = createMemoryCluster().leader();
  const barrier = new Barrier(node.physical, node.physical);
  barrier.initialize(createKey(), 0);
  await node.physical.write([barrier.keyringOperation()]);
  barrier.setReadOnly(false);
  return { barrier, node };
}

const put = (key: string, value = key): ViewOperation => ({
  kind: 'put',
  key,
  value: Buffer.from(value),
});
const remove = (key: string): ViewOperation => ({ kind: 'delete', key });

function numberAt(reader: Pick<Transaction, 'get'>, key: string): number {
  return Number(Buffer.from(reader.get(key) ?? []).toString() || 0);
}

function increment(transaction: Transaction, key: string): number {
  const next = numberAt(transaction, key) + 1;
  transaction.write([put(key, String(next))]);
  return next;
}

describe('transact()', () => {
  test('loses no increment of rivals, and tells each what it came to', async () => {
    const { barrier } = await openBarrier();
    const rivals = Array.from({ length: TRANSACTION_ATTEMPTS_MAX }, () =>
      barrier.transact(async (transaction) => increment(transaction, 'n')),
    );
    expect((await Promise.all(rivals)).toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(numberAt(barrier, 'n')).toBe(8);
  });

  test('gives up when every attempt meets a change, and nothing came of it', async () => {
    const { barrier, node } = await openBarrier();
    let attempts = 0;
    const writes = node.physical.appliedIndex();
    const hopeless = barrier.transact(async (transaction) => {
      attempts += 1;
      increment(transaction, 'n');
      transaction.write([put('other')]);
      await barrier.put('n', Buffer.from(String(attempts * 100)));
    });
    await expect(hopeless).rejects.toMatchObject({
      code: 'transaction-conflict',
      message: 'transaction commit failed',
    });
    expect(attempts).toBe(TRANSACTION_ATTEMPTS_MAX);
    expect([numberAt(barrier, 'n'), barrier.get('other')]).toEqual([800, undefined]);
    expect(node.physical.appliedIndex()).toBe(writes + TRANSACTION_ATTEMPTS_MAX);
  });

  test('a judgement on what has changed meanwhile is made again', async () => {
    const { barrier } = await openBarrier();
    let isFirst = true;
    const result = await barrier.transact(async (transaction) => {
      const isAbsent = transaction.get('a') === undefined;
      if (isFirst) await barrier.put('a', Buffer.from('1'));
      isFirst = false;
      if (isAbsent) throw new Error('there is no a');
      return 'there is';
    });
    expect(result).toBe('there is');
    const refusal = new Error('no b');
    const refused = barrier.transact((transaction) => {
      if (transaction.get('b') === undefined) throw refusal;
    });
    await expect(refused).rejects.toBe(refusal);
  });

  test('a key that is read twice is what it was at first', async () => {
    const { barrier } = await openBarrier();
    const reads: boolean[] = [];
    await barrier.transact(async (transaction) => {
      const before = transaction.get('a');
      if (reads.length === 0) await barrier.put('a', Buffer.from('1'));
      reads.push(transaction.get('a') === before);
      transaction.write([put('b')]);
    });
    expect(reads).toEqual([true, true]);
  });

  test('what comes to nothing is told only by who still leads', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.put('a', Buffer.from('1'));
    const before = node.physical.appliedIndex();
    expect(await barrier.transact((transaction) => numberAt(transaction, 'a'))).toBe(1);
    expect(node.physical.appliedIndex()).toBe(before + 1);

    const { commit } = node.physical;
    const deposed = new ServerError('no-leader', 'not the leader');
    vi.spyOn(node.physical, 'commit').mockRejectedValue(deposed);
    await expect(barrier.transact(() => undefined)).rejects.toBe(deposed);
    const refusal = (): never => {
      throw new ServerError('invalid-request', 'check-and-set parameter did not match');
    };
    await expect(barrier.transact(refusal)).rejects.toBe(deposed);
    vi.mocked(node.physical.commit).mockImplementation(commit);
    await expect(barrier.transact(refusal)).rejects.toMatchObject({ code: 'invalid-request' });
  });

  test('on a standby nothing is judged by what is stored: it may be old', async () => {
    const { barrier } = await openBarrier();
    barrier.setReadOnly(true);
    const change = vi.fn<() => void>();
    await expect(barrier.transact(change)).rejects.toMatchObject({ code: 'read-only' });
    expect(change).not.toHaveBeenCalled();
  });

  test.each(['nothing to delete', 'a refusal'])(
    'who is deposed meanwhile does not tell of %s',
    async (what) => {
      const { barrier, node } = await openBarrier();
      const before = node.physical.appliedIndex();
      const judged = barrier.transact(async (transaction) => {
        expect(transaction.get('a')).toBeUndefined();
        await Promise.resolve();
        barrier.setReadOnly(true);
        if (what === 'a refusal') throw new ServerError('invalid-request', 'did not match');
      });
      await expect(judged).rejects.toMatchObject({ code: 'read-only' });
      expect(node.physical.appliedIndex()).toBe(before);
    },
  );

  test('cannot be used once it is over, and a view stays below its prefix', async () => {
    const { barrier } = await openBarrier();
    const view = createView(barrier, ROOT_NAMESPACE, 'logical/x/');
    let kept: Transaction | undefined;
    await view.transact((transaction) => {
      kept = transaction;
      transaction.write([put('a', '1')]);
    });
    expect(numberAt(barrier, 'logical/x/a')).toBe(1);
    expect(() => kept?.get('a')).toThrow('transaction has been committed or rolled back');
  });
});

const KEYS = ['a', 'd/x', 'd/y', 'd/e/z', 'd/e/f/g', 'h/i'];
const batches = fc.array(
  fc.oneof(
    fc.constantFrom(...KEYS).map((key) => put(key)),
    fc.constantFrom(...KEYS).map(remove),
  ),
  { maxLength: 8 },
);
const pages = fc.record({
  prefix: fc.constantFrom('', 'd/', 'd/e/', 'd/e/f/', 'h/'),
  after: fc.constantFrom('', 'a', 'd/', 'e/', 'x'),
  limit: fc.nat({ max: 3 }),
});

test('a transaction lists what will be there once it is committed', async () => {
  await fc.assert(
    fc.asyncProperty(batches, batches, pages, async (before, own, { prefix, ...page }) => {
      const { barrier } = await openBarrier();
      if (before.length > 0) await barrier.write(before);
      const listed = await barrier.transact((transaction) => {
        transaction.write(own);
        return transaction.list(prefix, page);
      });
      expect(listed).toEqual(await barrier.list(prefix, page));
    }),
    { numRuns: 200 },
  );
});

test('rivals that list and add do not both believe to be alone', async () => {
  const { barrier } = await openBarrier();
  const claim = (name: string): Promise<boolean> =>
    barrier.transact(async (transaction) => {
      const isFree = (await transaction.list('seat/')).length === 0;
      if (isFree) transaction.write([put(`seat/${name}`)]);
      return isFree;
    });
  const won = await Promise.all(['a', 'b', 'c'].map(claim));
  expect(won.filter(Boolean)).toHaveLength(1);
  expect(await barrier.list('seat/')).toHaveLength(1);
});
