/** The checkers that compare claimed indexes, versions and stored values; each by bad histories. */

import { describe, expect, test } from 'vitest';

import { Random } from '../random.ts';
import { checkDurability, type StoredVersion } from './durability.ts';
import { checkExactIndex, type LogEffect } from './exact-index.ts';
import { checkFreshness } from './freshness.ts';
import { generateHistory } from './generated-history.ts';
import type { Call, Operation, Outcome, ReadLevel, Violation } from './operation.ts';
import { checkSessions } from './session.ts';
import { WordSet } from './word-set.ts';

const PLAN = { operationCount: 2000, processCount: 8, keyCount: 5, unknownShare: 0.02 };

test('histories that are good by construction pass every checker', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const history = generateHistory({ ...PLAN, seed, hasVersions: true });
    const { operations, stored } = history;
    const sessions = operations.map(asSession);
    const exact = checkExactIndex(operations, history);
    const durability = checkDurability(operations, stored);
    const fresh = checkFreshness(operations);
    const session = checkSessions(sessions);
    for (const { violations } of [exact, durability, fresh, session])
      expect(violations).toEqual([]);
    expect(exact.checkedCount).toBeGreaterThan(800);
    expect(fresh.checkedCount).toBeGreaterThan(1900);
    expect(session.checkedCount).toBe(exact.checkedCount);
    expect(durability.acknowledgedCount).toBeGreaterThan(500);
    expect(durability.unknownStoredCount).toBeGreaterThan(0);
  }
});

describe('checkFreshness()', () => {
  test.each([
    ['a linearizable read as new as what was acknowledged', readAt(20, 5, 'linearizable'), []],
    ['a linearizable read one older', readAt(20, 4, 'linearizable'), ['real-time order']],
    ['a linearizable read that began before', readAt(10, 4, 'linearizable'), []],
    ['a stale read may be older', readAt(20, 0, 'stale'), []],
    ['a session read without a token, too', readAt(20, 0, 'session'), []],
    ['a bounded read within its bound', readAt(20, 4, 'bounded', 10), []],
    ['a bounded read beyond it', readAt(21, 4, 'bounded', 10), ['bounded staleness']],
    ['a write that claims what another had', writeAt(20, 4), ['real-time order']],
  ])('%s', (_name, operation, rules) => {
    expect(rulesOf(checkFreshness([writeAt(3, 5), operation]))).toEqual(rules);
  });
});

describe('checkExactIndex()', () => {
  const effects: LogEffect[] = [
    { index: 3, key: 'k', state: { value: 'a', version: 1 } },
    { index: 5, key: 'k', state: { value: 'b', version: 2 } },
    { index: 8, key: 'k', state: { value: null, version: 2 } },
  ];
  test.each([
    ['nothing before the first entry', 2, null, 0, 'ok'],
    ['the value at its own index', 3, 'a', 1, 'ok'],
    ['the value just before the next', 4, 'a', 1, 'ok'],
    ['the value of the next entry', 4, 'b', 2, 'which is there at index 5'],
    ['an old value under a new index', 5, 'a', 1, 'which is there at index 3'],
    ['the value under another version', 5, 'b', 1, 'which is there at no index'],
    ['a deleted value', 9, 'b', 2, 'which is there at index 5'],
    ['a delete', 9, null, 2, 'ok'],
    ['an index that the log has not reached', 11, null, 2, 'the log ends at 10'],
  ])('%s', (_name, index, value, version, expected) => {
    const answer = { kind: 'seen', value, version } as const;
    const read = { ...readAt(1, index, 'stale'), outcome: { kind: 'ok', answer, index } as const };
    const { violations } = checkExactIndex([read], { effects, lastIndex: 10 });
    expect(violations[0]?.message ?? 'ok').toContain(expected);
  });

  test('finds every claim that runs ahead of what was read', () => {
    const history = generateHistory({ ...PLAN, seed: 4, hasVersions: true });
    const random = new Random(4, 'mutation');
    const changedKey = new Map<string, Set<number>>();
    for (const { key, index } of history.effects) {
      changedKey.set(key, (changedKey.get(key) ?? new Set()).add(index));
    }
    let expected = 0;
    const operations = history.operations.map((operation): Operation => {
      const { outcome, key, call } = operation;
      if (call.kind !== 'read' || outcome.kind !== 'ok' || outcome.index === undefined) {
        return operation;
      }
      const index = outcome.index + random.between(1, 3);
      const isWrong = [...(changedKey.get(key) ?? [])].some(
        (at) => (outcome.index ?? 0) < at && at <= index,
      );
      if (isWrong || history.lastIndex < index) expected += 1;
      return { ...operation, outcome: { ...outcome, index } };
    });
    expect(expected).toBeGreaterThan(100);
    expect(checkExactIndex(operations, history).violations.length).toBe(expected);
  });
});

describe('checkSessions()', () => {
  const own = { ...writeAt(1, 5), process: 1 };
  const other = { ...writeAt(1, 5), process: 2 };
  const sessionRead = (index: number, version: number, token = index): Operation => ({
    ...readAt(10, index, 'session'),
    process: 1,
    call: { kind: 'read', level: 'session', token },
    outcome: { kind: 'ok', index, answer: { kind: 'seen', value: 'x', version } },
  });
  test.each([
    ['its own write', [own, sessionRead(5, 1)], []],
    ['a miss of its own write', [own, sessionRead(5, 0)], ['read your writes']],
    ["a miss of another's", [other, sessionRead(4, 0)], []],
    ['an answer below its token', [sessionRead(4, 0, 5)], ['session index']],
    ['an answer below an earlier one', [own, sessionRead(4, 1)], ['monotonic index']],
    [
      'a version below an earlier one',
      [sessionRead(6, 2), { ...sessionRead(7, 1), invokedNs: 30, completedNs: 31 }],
      ['monotonic reads'],
    ],
    ['what a stale read saw does not bind it', [staleRead(9, 3), sessionRead(5, 1)], []],
  ])('%s', (_name, operations, rules) => {
    expect(rulesOf(checkSessions(operations))).toEqual(rules);
  });
});

describe('checkDurability()', () => {
  const at = (version: number, value = 'v', key = 'k'): StoredVersion => ({ key, version, value });
  const failed: Outcome = { kind: 'fail', reason: '503' };
  const unknown: Outcome = { kind: 'unknown', reason: 'timeout' };
  const mismatch: Outcome = { kind: 'ok', answer: { kind: 'mismatch' } };
  const acknowledged: Outcome = { kind: 'ok', answer: { kind: 'written', version: 1 } };
  test.each([
    ['acknowledged and stored', acknowledged, [at(1)], []],
    ['acknowledged and not stored', acknowledged, [], ['lost write']],
    ['stored as another version', acknowledged, [at(2)], ['misplaced']],
    ['stored twice', acknowledged, [at(1), at(2)], ['applied twice']],
    ['stored under another key', acknowledged, [at(1, 'v', 'other')], ['misplaced']],
    ['failed and not stored', failed, [], []],
    ['failed and stored', failed, [at(1)], ['dirty write']],
    ['mismatched and stored', mismatch, [at(1)], ['dirty write']],
    ['unknown and stored', unknown, [at(1)], []],
    ['unknown and not stored', unknown, [], []],
    ['unknown and stored twice', unknown, [at(1), at(3)], ['applied twice']],
    ['stored, written by nobody', acknowledged, [at(1), at(2, 'z')], ['phantom']],
  ])('%s', (_name, outcome, stored, rules) => {
    const write = { ...writeAt(1, 5), outcome };
    expect(rulesOf(checkDurability([write], stored))).toEqual(rules);
  });

  test.each([
    ['what is stored', 'v', 1, []],
    ['what was rolled back', 'w', 2, ['dirty read']],
    ['what nobody wrote', 'z', 2, ['phantom']],
    ['a value as another version', 'v', 2, ['dirty read']],
    ['nothing', null, 7, []],
  ])('a read that saw %s', (_name, value, version, rules) => {
    const write = { ...writeAt(1, 5), outcome: acknowledged };
    const lost: Operation = { ...writeAt(1, 5, 'w'), outcome: unknown };
    const read = readAt(10, 5, 'stale');
    const seen: Operation = {
      ...read,
      outcome: { kind: 'ok', index: 5, answer: { kind: 'seen', value, version } },
    };
    expect(rulesOf(checkDurability([write, lost, seen], [at(1)]))).toEqual(rules);
  });
});

test('WordSet holds what a Set of strings would', () => {
  const random = new Random(1, 'words');
  const words = new WordSet();
  const reference = new Set<string>();
  for (let round = 0; round < 20_000; round += 1) {
    const length = random.between(0, 3);
    const sequence = Int32Array.from({ length: 4 }, () => random.between(-8, 8));
    const key = sequence.subarray(0, length).join();
    expect(words.add(sequence, length)).toBe(!reference.has(key));
    reference.add(key);
  }
  expect(words.size).toBe(reference.size);
});

function rulesOf(report: { readonly violations: readonly Violation[] }): string[] {
  return report.violations.map(({ rule }) => rule);
}

function operationAt(invokedNs: number, call: Call, outcome: Outcome): Operation {
  return { process: 1, key: 'k', call, outcome, invokedNs, completedNs: invokedNs + 7 };
}

function writeAt(invokedNs: number, index: number, value = 'v'): Operation {
  const answer = { kind: 'written', version: 1 } as const;
  return operationAt(invokedNs, { kind: 'write', value }, { kind: 'ok', answer, index });
}

function readAt(invokedNs: number, index: number, level: ReadLevel, boundNs?: number): Operation {
  const answer = { kind: 'seen', value: 'v', version: 1 } as const;
  return operationAt(invokedNs, { kind: 'read', level, boundNs }, { kind: 'ok', answer, index });
}

function staleRead(index: number, version: number): Operation {
  const outcome: Outcome = { kind: 'ok', index, answer: { kind: 'seen', value: 'y', version } };
  return { ...readAt(2, index, 'stale'), outcome };
}

function asSession(each: Operation): Operation {
  return each.call.kind === 'read' ? { ...each, call: { kind: 'read', level: 'session' } } : each;
}
