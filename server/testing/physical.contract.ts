/** What every `PhysicalStore` with its `ChangeFeed` must do, run by the replica and by its twin. */

import { describe, expect, test } from 'vitest';
import type { Change, ChangeFeed, PhysicalStore, WriteOperation } from '../core/ports.ts';

export type PhysicalUnderTest = {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  close(): Promise<void>;
};

const putOf = (key: string, value = key): WriteOperation => ({
  kind: 'put',
  key,
  value: Buffer.from(value),
});

export function describePhysical(name: string, open: () => Promise<PhysicalUnderTest>): void {
  // The claims are literals, and the assertions are in `run`.
  // oxlint-disable vitest/expect-expect, vitest/valid-title
  const check = (claim: string, run: (node: PhysicalUnderTest) => Promise<void>): void => {
    test(claim, async () => {
      const node = await open();
      try {
        await run(node);
      } finally {
        await node.close();
      }
    });
  };
  // oxlint-enable vitest/expect-expect, vitest/valid-title
  const textOf = ({ physical }: PhysicalUnderTest, key: string): string | undefined => {
    const value = physical.get(key);
    return value === undefined ? undefined : Buffer.from(value).toString();
  };

  describe(`${name} as physical storage`, () => {
    check('operations of one write take effect in their order, as one', async (node) => {
      const before = node.physical.appliedIndex();
      const index = await node.physical.write([
        putOf('a', '1'),
        { kind: 'delete', key: 'a' },
        putOf('a', '2'),
        putOf('b'),
        { kind: 'delete', key: 'b' },
      ]);
      expect([textOf(node, 'a'), textOf(node, 'b')]).toEqual(['2', undefined]);
      expect(index).toBeGreaterThan(before);
      expect(node.physical.appliedIndex()).toBeGreaterThanOrEqual(index);
    });

    check('later writes have higher indexes, and the last one wins', async (node) => {
      const writes = ['1', '2', '3'].map((value) => node.physical.write([putOf('a', value)]));
      const indexes = await Promise.all(writes);
      expect(indexes).toEqual(indexes.toSorted((one, two) => one - two));
      expect(textOf(node, 'a')).toBe('3');
    });

    check('a value is what it was when it was written', async (node) => {
      const value = Buffer.from('before');
      const written = node.physical.write([{ kind: 'put', key: 'a', value }]);
      value.fill('x');
      await written;
      expect(textOf(node, 'a')).toBe('before');
    });

    check('listeners hear every key, before the index moves', async (node) => {
      const changes: [Change, boolean][] = [];
      const unsubscribe = node.changeFeed.subscribe((change) => {
        changes.push([change, node.physical.appliedIndex() < change.index]);
      });
      const index = await node.physical.write([putOf('a'), { kind: 'delete', key: 'b' }]);
      unsubscribe();
      await node.physical.write([putOf('c')]);
      expect(changes).toEqual([[{ kind: 'keys', index, keys: ['a', 'b'] }, true]]);
    });

    check(
      'a listener may write, and wait for what it hears of, without being in the way',
      async (node) => {
        const { physical } = node;
        const begun: { written: Promise<number>; awaited: Promise<boolean>; index: number }[] = [];
        const unsubscribe = node.changeFeed.subscribe(({ index }) => {
          if (begun.length > 0) return;
          const awaited = physical.awaitApplied(index, 10_000);
          begun.push({ written: physical.write([putOf('b')]), awaited, index });
        });
        const index = await physical.write([putOf('a')]);
        unsubscribe();
        const [heard] = begun;
        expect(heard?.index).toBe(index);
        expect(await heard?.awaited).toBe(true);
        expect(await heard?.written).toBeGreaterThan(index);
        expect([textOf(node, 'a'), textOf(node, 'b')]).toEqual(['a', 'b']);
      },
    );

    check('awaitApplied() resolves with what has come true', async ({ physical }) => {
      const next = physical.appliedIndex() + 1;
      expect(await physical.awaitApplied(next, 0)).toBe(false);
      const awaited = physical.awaitApplied(next, 10_000);
      await physical.write([putOf('a')]);
      expect(await awaited).toBe(true);
      expect(await physical.awaitApplied(next, 0)).toBe(true);
      expect(await physical.awaitApplied(next + 1_000, 1)).toBe(false);
    });

    check('list() gives immediate children in byte order, in pages', async ({ physical }) => {
      const keys = ['p/a', 'p/b/c', 'p/b/d', 'p/e', 'p/ü', 'p/\u{10000}', 'p/\uffee', 'q'];
      await physical.write(keys.map((key) => putOf(key)));
      const rows: [string, { after?: string; limit?: number } | undefined, string[]][] = [
        ['', undefined, ['p/', 'q']],
        ['p/', undefined, ['a', 'b/', 'e', 'ü', '\uffee', '\u{10000}']],
        ['p/', { limit: 2 }, ['a', 'b/']],
        ['p/', { after: 'b/', limit: 2 }, ['e', 'ü']],
        ['p/', { after: 'b', limit: 1 }, ['b/']],
        ['p/', { after: '', limit: 0 }, ['a', 'b/', 'e', 'ü', '\uffee', '\u{10000}']],
        ['p/', { limit: -1, after: 'ü' }, ['\uffee', '\u{10000}']],
        ['p/b/', undefined, ['c', 'd']],
        ['nothing/', undefined, []],
      ];
      for (const [prefix, page, children] of rows) {
        expect(await physical.list(prefix, page)).toEqual(children);
      }
    });

    check(
      'a commit takes effect if what it read still holds, and else not at all',
      async (node) => {
        const { physical } = node;
        await physical.write([putOf('a', '1'), putOf('d/x')]);
        const base = {
          reads: [{ key: 'a', value: physical.get('a') }],
          lists: [{ prefix: 'd/', page: {}, children: ['x'] }],
        };
        // Proposed side by side: the log decides which comes first.
        const rivals = ['2', '3'].map((value) =>
          physical.commit({ ...base, operations: [putOf('a', value), putOf(`d/${value}`)] }),
        );
        const kinds = (await Promise.all(rivals)).map(({ kind }) => kind);
        expect(kinds).toEqual(['applied', 'conflict']);
        expect(textOf(node, 'a')).toBe('2');
        expect(await physical.list('d/')).toEqual(['2', 'x']);
      },
    );

    check('a request that comes again is known', async (node) => {
      const { physical } = node;
      const stamp = {
        session: 'ab'.repeat(16),
        openedIndex: physical.appliedIndex(),
        sequence: 1,
        acknowledgedBelow: 1,
      };
      const attempt = (value: string): ReturnType<typeof physical.commit> =>
        physical.commit({
          reads: [],
          lists: [],
          operations: [putOf('a', value)],
          request: { stamp, phase: 'once', result: Buffer.from(value) },
        });
      expect(physical.recorded(stamp)).toEqual({ kind: 'unknown' });
      const kinds = (await Promise.all([attempt('1'), attempt('2')])).map(({ kind }) => kind);
      expect(kinds).toEqual(['applied', 'duplicate']);
      expect(textOf(node, 'a')).toBe('1');
      const recorded = physical.recorded(stamp);
      expect(recorded.kind === 'recorded' && Buffer.from(recorded.result).toString()).toBe('1');
    });

    check('the keys of sessions are nobody’s', async ({ physical }) => {
      const operations = [putOf('raft/session/x')];
      await expect(physical.write(operations)).rejects.toThrow(/belongs to the state machine/);
      await expect(physical.commit({ reads: [], lists: [], operations })).rejects.toThrow(
        /belongs to the state machine/,
      );
    });

    check('too large a write is refused with its size', async ({ physical }) => {
      const value = Buffer.alloc(1024 * 1024);
      await expect(physical.write([{ kind: 'put', key: 'a', value }])).rejects.toMatchObject({
        code: 'too-large',
        message: expect.stringMatching(
          /^put failed due to value being too large; got \d+ bytes, max: 1048576 bytes$/,
        ),
      });
      expect(physical.get('a')).toBeUndefined();
    });
  });
}
