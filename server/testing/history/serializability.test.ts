import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { cyclicComponents, shortestPath } from './cycle-search.ts';
import { checkSerializability } from './serializability.ts';
import type { Transaction, ValueOrders } from './transaction.ts';

type Outcome = Transaction['outcome'];

/** `x` reads that x had no value, `x=1` reads 1, `x:=1` writes it. Values are unique by key. */
function transaction(name: string, steps: string, outcome: Outcome = 'committed'): Transaction {
  const words = steps.split(' ').filter((word) => word !== '');
  const writes = words.filter((word) => word.includes(':='));
  return {
    name,
    outcome,
    writes: writes.map((word) => ({ key: word.slice(0, 1), value: word.replace(':=', '') })),
    reads: words
      .filter((word) => !word.includes(':='))
      .map((word) => ({
        key: word.slice(0, 1),
        value: word.includes('=') ? word.replace('=', '') : null,
      })),
  };
}

function orders(...values: readonly string[]): ValueOrders {
  return new Map(values.map((list) => [list.slice(0, 1), list.split(' ')]));
}

type Row = readonly [
  name: string,
  rules: readonly string[],
  transactions: readonly Transaction[],
  orders: ValueOrders,
];

test.each<Row>([
  ['nothing', [], [], orders()],
  [
    'one after the other',
    [],
    [transaction('A', 'x y x:=1 y:=1'), transaction('B', 'x=1 y=1 x:=2'), transaction('C', 'x=2')],
    orders('x1 x2', 'y1'),
  ],
  [
    'a snapshot of before',
    [],
    [transaction('A', 'x:=1 y:=1'), transaction('B', 'x y z:=1')],
    orders('x1', 'y1', 'z1'),
  ],
  ['its own value replaced by itself', [], [transaction('A', 'x:=1 x:=2')], orders('x2')],
  ['a failure without effect', [], [transaction('A', 'x:=1', 'failed')], orders()],
  [
    'an unknown one that happened',
    [],
    [transaction('A', 'x:=1 y:=1', 'unknown')],
    orders('x1', 'y1'),
  ],
  ['an unknown one that did not', [], [transaction('A', 'x:=1 y:=1', 'unknown')], orders()],
  ['torn', ['torn'], [transaction('A', 'x:=1 y:=1', 'unknown')], orders('x1')],
  ['lost', ['lost'], [transaction('A', 'x:=1')], orders()],
  ['dirty write', ['dirty write'], [transaction('A', 'x:=1', 'failed')], orders('x1')],
  ['phantom', ['phantom'], [transaction('A', 'x=9')], orders()],
  [
    'G0: two writers, the one last here and the other there',
    ['G0'],
    [transaction('A', 'x:=1 y:=1'), transaction('B', 'x:=2 y:=2')],
    orders('x1 x2', 'y2 y1'),
  ],
  [
    'G1a: a read of what failed',
    ['G1a'],
    [transaction('A', 'x:=1', 'failed'), transaction('B', 'x=1')],
    orders(),
  ],
  [
    'G1b: a read of what its writer replaced',
    ['G1b'],
    [transaction('A', 'x:=1 x:=2'), transaction('B', 'x=1')],
    orders('x2'),
  ],
  [
    'G1b, of a store that keeps every version',
    ['G1b'],
    [transaction('A', 'x:=1 x:=2'), transaction('B', 'x=1')],
    orders('x1 x2'),
  ],
  [
    'G1c: each read what the other wrote',
    ['G1c'],
    [transaction('A', 'x:=1 y=1'), transaction('B', 'y:=1 x=1')],
    orders('x1', 'y1'),
  ],
  [
    'G-single: half of a transaction seen (read skew)',
    ['G-single'],
    [transaction('A', 'x:=1 y:=1'), transaction('B', 'x=1 y')],
    orders('x1', 'y1'),
  ],
  [
    'G-single: a lost update',
    ['G-single'],
    [transaction('A', 'x x:=1'), transaction('B', 'x x:=2')],
    orders('x1 x2'),
  ],
  [
    'G2: write skew',
    ['G2'],
    [transaction('A', 'x y x:=1'), transaction('B', 'x y y:=1')],
    orders('x1', 'y1'),
  ],
  [
    'G2: two readers that saw two writers in different orders',
    ['G2'],
    [
      transaction('A', 'x:=1'),
      transaction('B', 'y:=1'),
      transaction('C', 'x=1 y'),
      transaction('D', 'x y=1'),
    ],
    orders('x1', 'y1'),
  ],
  [
    'two cycles apart',
    ['G-single', 'G0'],
    [
      transaction('A', 'x x:=1'),
      transaction('B', 'x x:=2'),
      transaction('C', 'y:=1 z:=1'),
      transaction('D', 'y:=2 z:=2'),
    ],
    orders('x1 x2', 'y1 y2', 'z2 z1'),
  ],
])('%s', (_name, rules, transactions, valueOrders) => {
  const { violations } = checkSerializability(transactions, valueOrders);
  expect(violations.map(({ rule }) => rule).toSorted()).toEqual(rules.toSorted());
});

test('says which transactions, by what keys', () => {
  const transactions = [transaction('A', 'x:=1 y:=1'), transaction('B', 'x=1 y')];
  const { violations } = checkSerializability(transactions, orders('x1', 'y1'));
  expect(violations[0]?.message).toBe('B -rw y-> A -wr x-> B');
});

test('a value written twice is no history', () => {
  const twice = [transaction('A', 'x:=1'), transaction('B', 'x:=1')];
  expect(() => checkSerializability(twice, orders('x1'))).toThrow('unique');
});

/** Some transactions on two keys, and any order in which their values may have taken effect. */
const history = fc
  .array(
    fc.record({
      reads: fc.uniqueArray(fc.constantFrom('x', 'y'), { maxLength: 2 }),
      writes: fc.uniqueArray(fc.constantFrom('x', 'y'), { maxLength: 2 }),
      seen: fc.nat(),
    }),
    { minLength: 2, maxLength: 4 },
  )
  .chain((shapes) => {
    const valuesOf = (key: 'x' | 'y'): string[] =>
      shapes.flatMap(({ writes }, number) => (writes.includes(key) ? [`${key}${number}`] : []));
    const shuffledOf = (key: 'x' | 'y'): fc.Arbitrary<string[]> =>
      fc.shuffledSubarray(valuesOf(key), { minLength: valuesOf(key).length });
    return fc.tuple(shuffledOf('x'), shuffledOf('y')).map(([x, y]) => {
      const valueOrders = new Map([
        ['x', x],
        ['y', y],
      ]);
      const transactions = shapes.map(({ reads, writes, seen }, number): Transaction => ({
        name: `T${number}`,
        outcome: 'committed',
        writes: writes.map((key) => ({ key, value: `${key}${number}` })),
        reads: reads.map((key, offset) => {
          const choices = [null, ...(valueOrders.get(key) ?? [])];
          const foreign = choices.filter((value) => value !== `${key}${number}`);
          return { key, value: foreign[(seen + offset) % foreign.length] ?? null };
        }),
      }));
      return { transactions, valueOrders };
    });
  });

/** Whether any order of the transactions explains what they read and what was left. */
function isSerializableByForce(
  open: readonly Transaction[],
  valueOrders: ValueOrders,
  done: ReadonlyMap<string, readonly string[]> = new Map(),
): boolean {
  if (open.length === 0) return true;
  return open.some((next) => {
    const fits = next.reads.every(({ key, value }) => (done.get(key)?.at(-1) ?? null) === value);
    if (!fits) return false;
    const after = new Map(done);
    for (const { key, value } of next.writes) {
      const values = [...(after.get(key) ?? []), value];
      if (valueOrders.get(key)?.[values.length - 1] !== value) return false;
      after.set(key, values);
    }
    return isSerializableByForce(
      open.filter((each) => each !== next),
      valueOrders,
      after,
    );
  });
}

test('comes to the same verdict as a search through all orders', () => {
  const tally = new Map<string, number>();
  fc.assert(
    fc.property(history, ({ transactions, valueOrders }) => {
      const { violations } = checkSerializability(transactions, valueOrders);
      const rules = violations.length === 0 ? ['none'] : violations.map(({ rule }) => rule);
      for (const rule of rules) tally.set(rule, (tally.get(rule) ?? 0) + 1);
      expect(violations.length === 0).toBe(isSerializableByForce(transactions, valueOrders));
    }),
    { numRuns: 5_000, seed: 3 },
  );
  for (const rule of ['none', 'G0', 'G1c', 'G-single', 'G2']) {
    expect(tally.get(rule), rule).toBeGreaterThan(20);
  }
});

test('a cycle that is as long as its history is found', () => {
  const count = 20_000;
  const edges = Array.from({ length: count }, (_, from) => ({ from, to: (from + 1) % count }));
  expect(cyclicComponents(count, edges).map(({ length }) => length)).toEqual([count]);
  expect(shortestPath(edges, 1, 0)).toHaveLength(count - 1);
  expect(cyclicComponents(count, edges.slice(1))).toEqual([]);
  expect(shortestPath(edges.slice(1), 0, 1)).toBeUndefined();
});
