import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { toEdn } from './edn.ts';
import { generateHistory } from './generated-history.ts';
import { eventsOf, fromJsonLines, operationsOf, toJsonLines } from './history-event.ts';
import type { Operation } from './operation.ts';

/** Sources are two folders up from what is compiled. */
const GOLDEN = fileURLToPath(
  new URL('../../../../server/testing/history/testdata/', import.meta.url),
);

const COMMON = { process: 0, key: 'kv/a "b"', node: 'n1' };
const HISTORY: readonly Operation[] = [
  {
    ...COMMON,
    call: { kind: 'write', value: 'v1' },
    outcome: { kind: 'ok', answer: { kind: 'written', version: 1 }, index: 7 },
    invokedNs: 10,
    completedNs: 20,
  },
  {
    ...COMMON,
    process: 1,
    call: { kind: 'read', level: 'session', token: 7 },
    outcome: { kind: 'ok', answer: { kind: 'seen', value: 'v1', version: 1 }, index: 9 },
    invokedNs: 15,
    completedNs: 31,
  },
  {
    ...COMMON,
    call: { kind: 'write', value: 'v2', cas: 0 },
    outcome: { kind: 'ok', answer: { kind: 'mismatch' }, index: 9 },
    invokedNs: 20,
    completedNs: 40,
  },
  {
    ...COMMON,
    process: 2,
    call: { kind: 'write', value: 'v3' },
    outcome: { kind: 'unknown', reason: 'socket closed' },
    invokedNs: 30,
    completedNs: Infinity,
  },
  {
    ...COMMON,
    call: { kind: 'read', level: 'bounded', boundNs: 250 },
    outcome: { kind: 'fail', reason: '412' },
    invokedNs: 41,
    completedNs: 41,
  },
  {
    ...COMMON,
    call: { kind: 'delete' },
    outcome: { kind: 'ok', answer: { kind: 'deleted' }, index: 12 },
    invokedNs: 50,
    completedNs: 60,
  },
];

describe('exports', () => {
  test.each([
    ['history.jsonl', toJsonLines(HISTORY)],
    ['transactions.edn', toEdn(HISTORY, 'transactions')],
    ['register.edn', toEdn(HISTORY, 'register')],
  ])('%s is as recorded', (name, text) => {
    if (process.env['UPDATE'] === '1') writeFileSync(GOLDEN + name, text);
    expect(text).toBe(readFileSync(GOLDEN + name, 'utf8'));
  });

  test('EDN is what a reader of EDN finds in it', () => {
    const events = eventsOf(HISTORY);
    for (const form of ['transactions', 'register'] as const) {
      const maps = parseEdn(toEdn(HISTORY, form));
      expect(maps.length).toBe(events.length);
      events.forEach(({ index, time, type, process, f, key, value }, position) => {
        const map = maps[position] as Map<string, unknown>;
        const operation = f === 'read' ? 'read' : 'write';
        expect(map.get(':index')).toBe(index);
        expect(map.get(':time')).toBe(time);
        expect(map.get(':type')).toBe(`:${type}`);
        expect(map.get(':process')).toBe(process);
        expect(map.get(':f')).toBe(form === 'register' ? `:${operation}` : ':txn');
        const micro = [[`:${operation[0]}`, key, value]];
        expect(map.get(':value')).toEqual(form === 'register' ? value : micro);
      });
    }
  });

  test('JSON lines read back to the same operations', () => {
    expect(fromJsonLines(toJsonLines(HISTORY))).toEqual(HISTORY);
    const plan = { seed: 2, operationCount: 500, processCount: 6, keyCount: 3, unknownShare: 0.05 };
    const { operations } = generateHistory({ ...plan, hasVersions: true });
    const sorted = (history: readonly Operation[]): Operation[] =>
      history.toSorted((a, b) => a.invokedNs - b.invokedNs || a.process - b.process);
    expect(sorted(fromJsonLines(toJsonLines(operations)))).toEqual(sorted(operations));
  });

  test('a history with two operations of a process at once is refused', () => {
    const [first, second] = HISTORY.map((operation) => ({ ...operation, process: 0 }));
    expect(() => operationsOf(eventsOf([first, second] as Operation[]))).toThrow('at once');
  });

  test('a register is one key', () => {
    const [first] = HISTORY;
    expect(() => toEdn([...HISTORY, { ...first, key: 'other' } as Operation], 'register')).toThrow(
      'one key',
    );
  });
});

/** As much of EDN as histories use: maps, vectors, keywords, strings, integers, nil. */
function parseEdn(text: string): unknown[] {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]]|[^\s,{}[\]"]+/g) ?? [];
  let position = 0;
  const sequence = (end: string | undefined): unknown[] => {
    const items: unknown[] = [];
    while (tokens[position] !== end) items.push(next());
    position += 1;
    return items;
  };
  const next = (): unknown => {
    const token = tokens[position++] ?? '';
    if (token === '[') return sequence(']');
    if (token === '{') return mapOf(sequence('}'));
    if (token === 'nil') return null;
    if (token.startsWith('"')) return JSON.parse(token);
    if (/^:[a-z][\w-]*$/.test(token)) return token;
    if (/^-?\d+$/.test(token)) return Number(token);
    throw new Error(`not EDN: ${token}`);
  };
  return sequence(undefined);
}

function mapOf(items: readonly unknown[]): Map<unknown, unknown> {
  const map = new Map<unknown, unknown>();
  for (let at = 0; at < items.length; at += 2) map.set(items[at], items[at + 1]);
  if (map.size * 2 !== items.length) throw new Error('a map with an odd number of forms');
  return map;
}
