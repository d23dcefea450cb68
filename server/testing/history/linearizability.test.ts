import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { Random } from '../random.ts';
import { generateHistory, type HistoryPlan } from './generated-history.ts';
import { checkEachKey, checkLinearizable, splitAtResolved } from './linearizability.ts';
import type { Answer, Operation } from './operation.ts';
import { registerModel } from './register-model.ts';
import { deleted, mismatch, read, unknownWrite, write, written } from './spelled-history.ts';
import { narrowUnknown, resolveUnknown, versionedModel } from './versioned-model.ts';
import { searchLinearization, type Model } from './wgl-search.ts';

type Row = readonly [name: string, verdict: 'linearizable' | 'violation', history: Operation[]];

describe('registers', () => {
  test.each<Row>([
    ['nothing at all', 'linearizable', []],
    ['a read of nothing', 'linearizable', [read(0, 1, null)]],
    ['a read sees the write before it', 'linearizable', [write(0, 1, 'a'), read(2, 3, 'a')]],
    ['stale read', 'violation', [write(0, 1, 'a'), write(2, 3, 'b'), read(4, 5, 'a')]],
    ['lost update', 'violation', [write(0, 1, 'a'), read(2, 3, null)]],
    ['phantom value', 'violation', [write(0, 1, 'a'), read(2, 3, 'z')]],
    ['time travel: a value before it is written', 'violation', [read(0, 1, 'a'), write(2, 3, 'a')]],
    ['a read during a write sees the old', 'linearizable', [write(0, 9, 'a'), read(2, 3, null)]],
    ['a read during a write sees the new', 'linearizable', [write(0, 9, 'a'), read(2, 3, 'a')]],
    [
      'new, then old, both during the write',
      'violation',
      [write(0, 9, 'a'), read(2, 3, 'a'), read(4, 5, null)],
    ],
    [
      'split brain: two sides go their own ways',
      'violation',
      [write(0, 1, 'a'), write(2, 5, 'b'), write(2, 5, 'c'), read(6, 7, 'b'), read(6, 7, 'c')],
    ],
    [
      'two writes at once, in either order',
      'linearizable',
      [write(0, 9, 'a'), write(0, 9, 'b'), read(10, 11, 'a')],
    ],
    [
      'touching intervals may overlap',
      'linearizable',
      [write(0, 2, 'a'), write(2, 4, 'b'), read(5, 6, 'a')],
    ],
    [
      'a deleted value is gone',
      'linearizable',
      [write(0, 1, 'a'), deleted(2, 3), read(4, 5, null)],
    ],
    ['a deleted value is seen', 'violation', [write(0, 1, 'a'), deleted(2, 3), read(4, 5, 'a')]],
    ['an unknown write that took effect', 'linearizable', [unknownWrite(0, 'a'), read(8, 9, 'a')]],
    ['an unknown write that did not', 'linearizable', [unknownWrite(0, 'a'), read(8, 9, null)]],
    [
      'an unknown write that took effect late',
      'linearizable',
      [unknownWrite(0, 'a'), read(2, 3, null), write(4, 5, 'b'), read(6, 7, 'b'), read(8, 9, 'a')],
    ],
    [
      'an unknown write that took effect twice',
      'violation',
      [unknownWrite(0, 'a'), read(2, 3, 'a'), write(4, 5, 'b'), read(8, 9, 'a')],
    ],
    ['an unknown write before it began', 'violation', [read(0, 1, 'a'), unknownWrite(2, 'a')]],
  ])('%s: %s', (_name, verdict, history) => {
    expect(checkLinearizable(history, registerModel).kind).toBe(verdict);
  });
});

describe('versions', () => {
  test.each<Row>([
    ['versions count up', 'linearizable', [written(0, 1, 'a', 1), written(2, 3, 'b', 2)]],
    ['a version is skipped', 'violation', [written(0, 1, 'a', 1), written(2, 3, 'b', 3)]],
    ['a version is given twice', 'violation', [written(0, 9, 'a', 1), written(0, 9, 'b', 1)]],
    [
      'an unknown write fills the gap',
      'linearizable',
      [unknownWrite(0, 'x'), written(1, 2, 'a', 1), written(3, 4, 'b', 3)],
    ],
    [
      'a write applied twice leaves a gap',
      'violation',
      [written(0, 1, 'a', 1), written(2, 3, 'b', 3), read(4, 5, 'b', 3)],
    ],
    [
      'check-and-set on the current version',
      'linearizable',
      [written(0, 1, 'a', 1), written(2, 3, 'b', 2, 1), mismatch(4, 5, 'c', 1)],
    ],
    ['check-and-set on another', 'violation', [written(0, 1, 'a', 1), written(2, 3, 'b', 2, 0)]],
    ['a mismatch that matched', 'violation', [written(0, 1, 'a', 1), mismatch(2, 3, 'b', 1)]],
    [
      'two check-and-sets win',
      'violation',
      [written(0, 1, 'a', 1), written(2, 9, 'b', 2, 1), written(2, 9, 'c', 3, 1)],
    ],
    [
      'a delete keeps the version',
      'linearizable',
      [written(0, 1, 'a', 1), deleted(2, 3), read(4, 5, null, 1), written(6, 7, 'b', 2)],
    ],
    [
      'an unknown check-and-set that could not match has no effect',
      'violation',
      [written(0, 1, 'a', 1), unknownWrite(2, 'x', 0), read(4, 5, 'x', 2)],
    ],
  ])('%s: %s', (_name, verdict, history) => {
    expect(checkLinearizable(history, versionedModel).kind).toBe(verdict);
  });
});

describe('the search', () => {
  test('agrees with trying every order, on up to 7 operations', () => {
    const tally = { linearizable: 0, violation: 0 };
    fc.assert(
      fc.property(fc.array(smallOperation(), { maxLength: 7 }), (raw) => {
        const history = raw.map((operation, process) => ({ ...operation, process }));
        for (const model of [registerModel, versionedModel] as Model<Operation, unknown>[]) {
          const usable = history.filter((each) => model === versionedModel || !hasCas(each));
          const expected = isLinearizableByForce(usable, model) ? 'linearizable' : 'violation';
          tally[expected] += 1;
          expect(checkLinearizable(usable, model).kind).toBe(expected);
        }
      }),
      { numRuns: 3000, seed: 7 },
    );
    // Both verdicts are common, or the agreement would mean little.
    expect(tally.linearizable).toBeGreaterThan(500);
    expect(tally.violation).toBeGreaterThan(500);
  });

  test('finds an order that the model accepts and real time allows', () => {
    const { operations } = generateHistory({ ...PLAN, seed: 3, unknownShare: 0 });
    const verdict = checkLinearizable(operations, versionedModel);
    expect(verdict.kind).toBe('linearizable');
    expect(new Set(verdict.order)).toEqual(new Set(operations));
    let state = versionedModel.initial;
    let latestCallNs = 0;
    for (const operation of verdict.order) {
      const after = versionedModel.step(state, operation);
      expect(after).toBeDefined();
      state = after ?? state;
      expect(operation.completedNs).toBeGreaterThanOrEqual(latestCallNs);
      latestCallNs = Math.max(latestCallNs, operation.invokedNs);
    }
  });

  test('gives the same verdict on a history that is cut and one that is not', () => {
    let cutCount = 0;
    for (let seed = 1; seed <= 200; seed += 1) {
      const { operations } = generateHistory({
        ...PLAN,
        seed,
        processCount: 2,
        operationCount: 60,
      });
      const random = new Random(seed, 'mutation');
      const history = seed % 2 === 0 ? operations : mutated(operations, random);
      cutCount += splitAtResolved(history, versionedModel).length - 1;
      const sorted = history.toSorted((a, b) => a.invokedNs - b.invokedNs);
      const whole = searchLinearization(sorted, versionedModel, {
        initial: versionedModel.initial,
        stepsMax: 1e6,
      });
      expect(checkLinearizable(history, versionedModel).kind).toBe(whole.kind);
    }
    expect(cutCount).toBeGreaterThan(500);
  });

  test('comes to the same verdict when it is told what reads tell of unknown writes', () => {
    const tally = { linearizable: 0, violation: 0 };
    fc.assert(
      fc.property(fc.array(smallOperation(), { maxLength: 7 }), (raw) => {
        // Values are unique: the reads see any of them.
        const history = raw.map((operation, serial): Operation => {
          const { call } = operation;
          const renamed = call.kind === 'write' ? { ...call, value: `${serial % 4}` } : call;
          return { ...operation, process: serial, call: renamed };
        });
        const values = history.flatMap(({ call }) => (call.kind === 'write' ? [call.value] : []));
        fc.pre(new Set(values).size === values.length);
        const seen = history.map((operation): Operation => {
          const { outcome } = operation;
          if (outcome.kind !== 'ok' || outcome.answer.kind !== 'seen') return operation;
          const { version } = outcome.answer;
          const value = version === 0 ? null : (values[version % values.length] ?? null);
          return answered(operation, { kind: 'seen', value, version });
        });
        const expected = isLinearizableByForce(seen, versionedModel) ? 'linearizable' : 'violation';
        tally[expected] += 1;
        expect(checkLinearizable(narrowUnknown(seen), versionedModel).kind).toBe(expected);
      }),
      { numRuns: 3000, seed: 8 },
    );
    expect(tally.linearizable).toBeGreaterThan(300);
    expect(tally.violation).toBeGreaterThan(300);
  });

  test('decides by what was stored what reads leave open', () => {
    // Of thirty writes nobody saw: each may be before or after the ones that are known, or nowhere.
    const open = Array.from({ length: 30 }, (_, n) => unknownWrite(n, `u${n}`, n % 3));
    const known = [written(100, 101, 'a', 3), read(102, 103, 'a', 3), written(104, 105, 'b', 5)];
    const stored = [
      { key: 'k', version: 1, value: 'u0' },
      { key: 'k', version: 2, value: 'u7' },
      { key: 'k', version: 3, value: 'a' },
      { key: 'k', version: 5, value: 'b' },
    ];
    const history = [...open, ...known];
    const lost = resolveUnknown(history, stored);
    expect(lost).toHaveLength(5);
    // Version 4 was made by nobody.
    expect(checkLinearizable(lost, versionedModel).kind).toBe('violation');
    const plain = [...history, unknownWrite(50, 'c')];
    const whole = resolveUnknown(plain, [...stored, { key: 'k', version: 4, value: 'c' }]);
    expect(checkLinearizable(whole, versionedModel).kind).toBe('linearizable');
    // One that a read saw and nobody stored explains nothing.
    const dirty = resolveUnknown([unknownWrite(0, 'x'), read(1, 2, 'x', 1)], []);
    expect(checkLinearizable(dirty, versionedModel).kind).toBe('violation');
  });

  test('says unknown where its budget ends', () => {
    const { operations } = generateHistory({ ...PLAN, seed: 1 });
    expect(checkLinearizable(operations, versionedModel, { stepsMax: 50 }).kind).toBe('unknown');
    const verdict = checkEachKey(operations, versionedModel, { stepsMax: 50 });
    expect(verdict.undecided).toEqual(['k1']);
    expect(verdict.violations).toEqual([]);
  });

  test('decides a long history, ten processes on one key', () => {
    const plan = {
      ...PLAN,
      seed: 5,
      operationCount: 20_000,
      processCount: 10,
      unknownShare: 0.001,
    };
    const { operations } = generateHistory(plan);
    expect(checkLinearizable(operations, versionedModel).kind).toBe('linearizable');
  });

  test('shows the operations that fit nowhere', () => {
    const history = [write(0, 1, 'a'), write(2, 3, 'b'), read(4, 5, 'a'), read(6, 7, 'b')];
    const verdict = checkLinearizable(history, registerModel);
    expect(verdict).toMatchObject({ kind: 'violation', stuck: [history[2]], state: 'b' });
    expect(verdict.order).toEqual(history.slice(0, 2));
  });
});

describe('mutated histories', () => {
  test('an answer that cannot be is always found', () => {
    let mutants = 0;
    for (let seed = 1; seed <= 300; seed += 1) {
      const { operations } = generateHistory({ ...PLAN, seed, keyCount: 3 });
      expect(checkEachKey(operations, versionedModel).violations).toEqual([]);
      const mutant = withStaleRead(operations, new Random(seed, 'mutation'));
      if (mutant === undefined) continue;
      mutants += 1;
      expect(checkEachKey(mutant, versionedModel).violations.length, `seed ${seed}`).toBe(1);
    }
    expect(mutants).toBeGreaterThan(250);
  });

  test('of random changes of short histories, all are found that every order refutes', () => {
    let changed = 0;
    let refuted = 0;
    for (let seed = 1; seed <= 400; seed += 1) {
      const plan = { ...PLAN, seed, operationCount: 7, processCount: 3 };
      const mutant = mutated(generateHistory(plan).operations, new Random(seed, 'mutation'));
      const isGood = isLinearizableByForce(mutant, versionedModel);
      changed += 1;
      refuted += isGood ? 0 : 1;
      const verdict = checkLinearizable(mutant, versionedModel).kind;
      expect(verdict).toBe(isGood ? 'linearizable' : 'violation');
    }
    process.stderr.write(
      `checker: ${refuted} of ${changed} random changes are violations, all found\n`,
    );
    expect(refuted).toBeGreaterThan(200);
  });
});

const PLAN: HistoryPlan = {
  seed: 1,
  operationCount: 300,
  processCount: 5,
  keyCount: 1,
  unknownShare: 0.02,
  hasVersions: true,
};

/** Lets one read see what was overwritten, for certain, before it began. */
function withStaleRead(operations: readonly Operation[], random: Random): Operation[] | undefined {
  const reads = operations.filter(({ call }) => call.kind === 'read');
  const target = random.pick(reads);
  const older = operations.filter(
    ({ key, call, outcome, completedNs }) =>
      key === target.key &&
      call.kind === 'write' &&
      outcome.kind === 'ok' &&
      outcome.answer.kind === 'written' &&
      completedNs < target.invokedNs,
  );
  const newest = older.reduce((most, { outcome }) => Math.max(most, versionWritten(outcome)), 0);
  const stale = older.find(({ outcome }) => versionWritten(outcome) < newest);
  if (stale === undefined || stale.call.kind !== 'write') return undefined;
  const version = versionWritten(stale.outcome);
  const answer = { kind: 'seen', value: stale.call.value, version } as const;
  return operations.map((operation) =>
    operation === target ? { ...operation, outcome: { kind: 'ok', answer } } : operation,
  );
}

/** Changes one answer, which may or may not still be explained by some order. */
function mutated(operations: readonly Operation[], random: Random): Operation[] {
  const target = random.pick(operations.filter(({ outcome }) => outcome.kind === 'ok'));
  return operations.map((operation): Operation => {
    if (operation !== target || operation.outcome.kind !== 'ok') return operation;
    const { answer } = operation.outcome;
    switch (answer.kind) {
      case 'seen': {
        const version = random.between(0, 3);
        return answered(operation, { ...answer, version });
      }
      case 'written':
        return answered(operation, { kind: 'written', version: answer.version + 1 });
      case 'mismatch':
        return answered(operation, { kind: 'written', version: random.between(1, 4) });
      case 'deleted':
        return { ...operation, completedNs: operation.invokedNs };
    }
  });
}

function answered(operation: Operation, answer: Answer): Operation {
  return { ...operation, outcome: { kind: 'ok', answer } };
}

function versionWritten(outcome: Operation['outcome']): number {
  return outcome.kind === 'ok' && outcome.answer.kind === 'written' ? outcome.answer.version : 0;
}

function hasCas({ call }: Operation): boolean {
  return call.kind === 'write' && call.cas !== undefined;
}

/** Tries every order; operations with an unknown outcome may be left out. */
function isLinearizableByForce<State>(
  operations: readonly Operation[],
  model: Model<Operation, State>,
): boolean {
  const fits = (state: State, open: readonly Operation[]): boolean => {
    if (open.every(({ completedNs }) => completedNs === Infinity)) return true;
    return open.some((next) => {
      const rest = open.filter((each) => each !== next);
      if (rest.some(({ completedNs }) => completedNs < next.invokedNs)) return false;
      const after = model.step(state, next);
      return after !== undefined && fits(after, rest);
    });
  };
  return fits(model.initial, operations);
}

function smallOperation(): fc.Arbitrary<Operation> {
  const interval = fc
    .tuple(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 6 }))
    .map(([start, length]): [number, number] => [start, start + length]);
  const value = fc.constantFrom('a', 'b');
  const version = fc.integer({ min: 0, max: 3 });
  const cas = fc.option(version, { nil: undefined });
  return fc.oneof(
    fc
      .tuple(interval, value, version)
      .map(([at, seen, v]) => read(...at, v === 0 ? null : seen, v)),
    fc.tuple(interval, value, version, cas).map(([at, v, n, c]) => written(...at, v, n, c)),
    fc.tuple(interval, value).map(([at, v]) => unknownWrite(at[0], v)),
    fc.tuple(interval, value, version).map(([at, v, c]) => mismatch(...at, v, c)),
    interval.map((at) => deleted(...at)),
  );
}
