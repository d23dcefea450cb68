import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Commit, CommitOutcome, RequestStamp } from '../core/ports.ts';
import { createMemoryStore } from '../storage/memory.ts';
import type { Store, StoreOperation } from '../storage/store.ts';
import { encodeCommit } from './physical.ts';
import { readRecorded, RECORDS_PER_SESSION_MAX, SESSIONS_MAX } from './session-table.ts';
import { GroupEffect, startsGroup } from './state-machine.ts';

const EMPTY = Buffer.alloc(0);

/** A store, and the entries that it has applied so far. */
class Machine {
  readonly store: Store = createMemoryStore();
  #index = 0;

  /** Applies the entries as one group; says what became of each. */
  async apply(...entries: readonly Uint8Array[]): Promise<CommitOutcome['kind'][]> {
    const effect = new GroupEffect(this.store);
    const outcomes: CommitOutcome['kind'][] = [];
    for (const bytes of entries) {
      this.#index += 1;
      outcomes.push((await effect.execute(this.#index, bytes)) ?? 'applied');
    }
    const configuration = { servers: [] };
    const position = { lastIncludedIndex: this.#index, lastIncludedTerm: 1, configuration };
    await this.store.apply(effect.operations(), position);
    this.store.publish();
    return outcomes;
  }

  recorded(of: RequestStamp): string {
    const recorded = readRecorded((key) => this.store.get(key), of);
    return recorded.kind === 'recorded'
      ? `result ${Buffer.from(recorded.result).toString()}`
      : recorded.kind;
  }

  text(key: string): string | undefined {
    const value = this.store.get(key);
    return value === undefined ? undefined : Buffer.from(value).toString();
  }
}

function commandOf(commit: Partial<Commit>): Uint8Array {
  return encodeCommit({ reads: [], lists: [], operations: [], ...commit });
}

function put(key: string, value: string): StoreOperation {
  return { kind: 'put', key, value: Buffer.from(value) };
}

function stamp(sequence: number, fields: Partial<RequestStamp> = {}): RequestStamp {
  const session = 'a'.repeat(32);
  return { session, openedIndex: 0, sequence, acknowledgedBelow: 0, ...fields };
}

function once(of: RequestStamp, value: string, result = ''): Uint8Array {
  const request = { stamp: of, phase: 'once' as const, result: Buffer.from(result) };
  return commandOf({ request, operations: [put('k', value)] });
}

function finish(of: RequestStamp, result: string): Uint8Array {
  return commandOf({
    request: { stamp: of, phase: 'finish', result: Buffer.from(result) },
  });
}

function sessionName(number: number): string {
  return number.toString(16).padStart(32, '0');
}

describe('conditions', () => {
  const compareAndSet = (from: string | undefined, to: string): Uint8Array =>
    commandOf({
      reads: [{ key: 'k', value: from === undefined ? undefined : Buffer.from(from) }],
      operations: [put('k', to), put(`was-${from}`, to)],
    });

  test('of two commands that read the same, one takes effect, in one group or in two', async () => {
    for (const isOneGroup of [true, false]) {
      const machine = new Machine();
      const rivals = [compareAndSet(undefined, '1'), compareAndSet(undefined, '2')] as const;
      const outcomes = isOneGroup
        ? await machine.apply(...rivals)
        : [await machine.apply(rivals[0]), await machine.apply(rivals[1])].flat();
      expect(outcomes).toEqual(['applied', 'conflict']);
      expect([machine.text('k'), machine.text('was-undefined')]).toEqual(['1', '1']);
    }
  });

  test('what an entry of the group wrote, or removed, is what the next one reads', async () => {
    const machine = new Machine();
    const remove = commandOf({ operations: [{ kind: 'delete', key: 'k' }] });
    const outcomes = await machine.apply(
      compareAndSet(undefined, '1'),
      compareAndSet('1', '2'),
      remove,
      compareAndSet('2', '3'),
      compareAndSet(undefined, '4'),
    );
    expect(outcomes).toEqual(['applied', 'applied', 'applied', 'conflict', 'applied']);
  });

  test('a listing conflicts with what changes it, and with nothing else', async () => {
    const machine = new Machine();
    await machine.apply(
      commandOf({ operations: ['d/a', 'd/c/x', 'd/z'].map((key) => put(key, '')) }),
    );
    const lists = [{ prefix: 'd/', page: {}, children: ['a', 'c/', 'z'] }];
    const listing = commandOf({ lists, operations: [put('seen', '')] });
    const page = { prefix: 'd/', page: { after: 'a', limit: 1 }, children: ['c/'] };
    const paged = commandOf({ lists: [page], operations: [put('seen', '')] });
    expect(startsGroup(listing)).toBe(true);

    await machine.apply(commandOf({ operations: [put('d/c/y', ''), put('e', '')] }));
    expect([await machine.apply(listing), await machine.apply(paged)]).toEqual([
      ['applied'],
      ['applied'],
    ]);
    await machine.apply(commandOf({ operations: [put('d/b', '')] }));
    expect([await machine.apply(listing), await machine.apply(paged)]).toEqual([
      ['conflict'],
      ['conflict'],
    ]);
  });
});

describe('requests', () => {
  test('one that comes again has no effect, and its first result stays', async () => {
    const machine = new Machine();
    const outcomes = [
      await machine.apply(once(stamp(1), 'first', 'r1'), once(stamp(1), 'again', 'r2')),
      await machine.apply(once(stamp(1), 'later', 'r3')),
    ].flat();
    expect(outcomes).toEqual(['applied', 'duplicate', 'duplicate']);
    expect([machine.text('k'), machine.recorded(stamp(1))]).toEqual(['first', 'result r1']);
  });

  test('a conflict is no effect: the request may come again', async () => {
    const machine = new Machine();
    const request = { stamp: stamp(1), phase: 'once' as const, result: EMPTY };
    const stale = commandOf({ request, reads: [{ key: 'k', value: Buffer.from('x') }] });
    expect(await machine.apply(stale)).toEqual(['conflict']);
    expect(machine.recorded(stamp(1))).toBe('unknown');
    expect(await machine.apply(once(stamp(1), 'now'))).toEqual(['applied']);
  });

  test('a result can follow, but not for what never began', async () => {
    const machine = new Machine();
    expect(await machine.apply(finish(stamp(1), 'early'))).toEqual(['expired']);
    await machine.apply(once(stamp(1), 'v'));
    expect(machine.recorded(stamp(1))).toBe('result ');
    expect(await machine.apply(finish(stamp(1), 'done'))).toEqual(['applied']);
    expect(machine.recorded(stamp(1))).toBe('result done');
  });

  test('what is acknowledged is forgotten, and refused rather than repeated', async () => {
    const machine = new Machine();
    await machine.apply(once(stamp(1), 'one'), once(stamp(2), 'two', 'r2'));
    await machine.apply(once(stamp(4, { acknowledgedBelow: 2 }), 'four'));
    expect([1, 2, 3].map((sequence) => machine.recorded(stamp(sequence)))).toEqual([
      'expired',
      'result r2',
      'unknown',
    ]);
    expect(await machine.apply(once(stamp(1), 'again'))).toEqual(['expired']);
    expect(await machine.store.list(`raft/session/${'a'.repeat(32)}/`, {})).toHaveLength(2);
  });

  test('a session keeps RECORDS_PER_SESSION_MAX requests, the newest', async () => {
    const machine = new Machine();
    const all = Array.from({ length: RECORDS_PER_SESSION_MAX + 2 }, (_, i) => stamp(i + 1));
    await machine.apply(...all.slice(0, -1).map((each) => once(each, 'v')));
    expect([1, 2].map((i) => machine.recorded(stamp(i)))).toEqual(['expired', 'result ']);
    await machine.apply(...all.slice(-1).map((each) => once(each, 'v')));
    expect([2, 3].map((i) => machine.recorded(stamp(i)))).toEqual(['expired', 'result ']);
  });

  test('of SESSIONS_MAX sessions the one that was idle longest goes', async () => {
    const machine = new Machine();
    const of = (number: number, openedIndex = 0): RequestStamp =>
      stamp(1, { session: sessionName(number), openedIndex });
    for (let i = 0; i < SESSIONS_MAX; i += 1) await machine.apply(once(of(i), String(i)));
    // Session 0 is used again: session 1, last used at index 2, is the idle one.
    await machine.apply(once({ ...of(0), sequence: 2 }, 'again'));
    expect(await machine.apply(once(of(100), 'new'))).toEqual(['applied']);

    expect([0, 1, 2].map((i) => machine.recorded(of(i)))).toEqual([
      'result ',
      'expired',
      'result ',
    ]);
    expect(await machine.apply(once(of(1), 'replayed'))).toEqual(['expired']);
    // One that is unknown, and opened before what was forgotten, may be what was forgotten.
    expect(machine.recorded(of(101, 1))).toBe('expired');
    expect(machine.recorded(of(101, 2))).toBe('unknown');
    expect(await machine.store.list('raft/session/', {})).toHaveLength(2 * SESSIONS_MAX);
  });
});

test('what a snapshot brings knows the requests that took effect', async () => {
  const machine = new Machine();
  await machine.apply(once(stamp(1), 'first', 'r1'), once(stamp(2), 'second', 'r2'));
  await machine.apply(once(stamp(3, { acknowledgedBelow: 2 }), 'third'));
  const exported = machine.store.exportSnapshot();
  const other = new Machine();
  await other.store.importSnapshot(exported.position, exported.chunks);
  await exported.close();
  expect(await other.store.stateHash()).toBe(await machine.store.stateHash());
  expect([1, 2, 4].map((sequence) => other.recorded(stamp(sequence)))).toEqual([
    'expired',
    'result r2',
    'unknown',
  ]);
});

/** What a step does is fixed; what it has read is either fresh or from some steps ago. */
type Step = {
  readonly key: string;
  readonly value: string | null;
  readonly readKey: string | null;
  readonly listsAge: number | null;
  readonly age: number;
  readonly request: { readonly session: number; readonly sequence: number } | null;
  readonly isFinish: boolean;
  readonly acknowledged: number;
};

const KEYS = ['a', 'b', 'd/x', 'd/y', 'd/e/z'];
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    key: fc.constantFrom(...KEYS),
    value: fc.option(fc.constantFrom('1', '2', '3')),
    readKey: fc.option(fc.constantFrom(...KEYS)),
    listsAge: fc.option(fc.nat({ max: 2 }), { freq: 3 }),
    age: fc.nat({ max: 3 }),
    request: fc.option(
      fc.record({ session: fc.nat({ max: 2 }), sequence: fc.integer({ min: 1, max: 4 }) }),
    ),
    isFinish: fc.boolean(),
    acknowledged: fc.nat({ max: 3 }),
  }),
  { minLength: 15, maxLength: 40 },
);

type Values = ReadonlyMap<string, string>;

function childrenOf(values: Values, prefix: string): string[] {
  const below = [...values.keys()].filter((key) => key.startsWith(prefix));
  const names = below.map((key) => /^[^/]*\/?/.exec(key.slice(prefix.length))?.[0] ?? '');
  return [...new Set(names)].toSorted();
}

/** The slow model: every state there ever was, and every request that ever took effect. */
class Model {
  readonly history: Values[] = [new Map()];
  readonly #tookEffect = new Set<string>();
  readonly #floors = new Map<string, number>();

  state(age: number): Values {
    return this.history.at(-1 - age) ?? new Map();
  }

  commitOf(step: Step): Commit {
    const { key, value, readKey, listsAge, age, request } = step;
    const readValue = readKey === null ? undefined : this.state(age).get(readKey);
    const listed = listsAge === null ? undefined : childrenOf(this.state(listsAge), 'd/');
    return {
      reads:
        readKey === null
          ? []
          : [{ key: readKey, value: readValue === undefined ? undefined : Buffer.from(readValue) }],
      lists: listed === undefined ? [] : [{ prefix: 'd/', page: {}, children: listed }],
      operations: [value === null ? { kind: 'delete', key } : put(key, value)],
      request:
        request === null
          ? undefined
          : {
              stamp: {
                session: sessionName(request.session),
                openedIndex: 0,
                sequence: request.sequence,
                acknowledgedBelow: step.acknowledged,
              },
              phase: step.isFinish ? 'finish' : 'once',
              result: Buffer.from(String(this.history.length)),
            },
    };
  }

  apply({ reads, lists, operations, request }: Commit): CommitOutcome['kind'] {
    const outcome =
      this.#judge(request) ?? (this.#holds({ reads, lists }) ? 'applied' : 'conflict');
    const next = new Map(this.state(0));
    if (outcome === 'applied') {
      for (const operation of operations) {
        if (operation.kind === 'delete') next.delete(operation.key);
        else next.set(operation.key, Buffer.from(operation.value).toString());
      }
      if (request !== undefined) this.#note(request.stamp);
    }
    this.history.push(next);
    return outcome;
  }

  #judge(request: Commit['request']): CommitOutcome['kind'] | undefined {
    if (request === undefined) return undefined;
    const { session, sequence } = request.stamp;
    const isForgotten = sequence < (this.#floors.get(session) ?? 0);
    const did = this.#tookEffect.has(`${session}/${sequence}`);
    if (isForgotten || (request.phase === 'finish' && !did)) return 'expired';
    return request.phase === 'once' && did ? 'duplicate' : undefined;
  }

  #holds({ reads, lists }: Pick<Commit, 'reads' | 'lists'>): boolean {
    const now = this.state(0);
    const textOf = (value: Uint8Array | undefined): string | undefined =>
      value === undefined ? undefined : Buffer.from(value).toString();
    return (
      reads.every(({ key, value }) => now.get(key) === textOf(value)) &&
      lists.every(({ prefix, children }) => childrenOf(now, prefix).join() === children.join())
    );
  }

  #note({ session, sequence, acknowledgedBelow }: RequestStamp): void {
    this.#tookEffect.add(`${session}/${sequence}`);
    const floor = Math.min(acknowledgedBelow, sequence);
    this.#floors.set(session, Math.max(floor, this.#floors.get(session) ?? 0));
  }
}

/** Cuts entries into groups: where it is told to, and where an entry must start one. */
function grouped(entries: readonly Uint8Array[], sizes: readonly number[]): Uint8Array[][] {
  const groups: Uint8Array[][] = [];
  let left = 0;
  let cuts = 0;
  for (const entry of entries) {
    if (left === 0 || startsGroup(entry)) {
      groups.push([]);
      left = sizes[cuts % sizes.length] ?? 1;
      cuts += 1;
    }
    groups.at(-1)?.push(entry);
    left -= 1;
  }
  return groups;
}

test('outcomes and values are those of the slow model, however entries are grouped', async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 });
  const counts = { applied: 0, conflict: 0, duplicate: 0, expired: 0 };
  await fc.assert(
    fc.asyncProperty(steps, sizes, async (list, groupSizes) => {
      const model = new Model();
      const entries: Uint8Array[] = [];
      const expected = list.map((step) => {
        const commit = model.commitOf(step);
        entries.push(encodeCommit(commit));
        return model.apply(commit);
      });
      for (const outcome of expected) counts[outcome] += 1;

      const hashes: string[] = [];
      for (const groups of [grouped(entries, groupSizes), grouped(entries, [1])]) {
        const machine = new Machine();
        const outcomes: string[] = [];
        for (const group of groups) outcomes.push(...(await machine.apply(...group)));
        expect(outcomes).toEqual(expected);
        const values = KEYS.map((key) => machine.text(key));
        expect(values).toEqual(KEYS.map((key) => model.state(0).get(key)));
        hashes.push(await machine.store.stateHash());
      }
      expect(hashes[0]).toBe(hashes[1]);
    }),
    { numRuns: 200 },
  );
  // Each outcome was met often enough to mean something.
  expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
});

test('sessions come and go alike, however entries are grouped', async () => {
  const entries = Array.from({ length: 400 }, (_, i) =>
    once(stamp(1 + (i % 3), { session: sessionName((i * 7) % 90), openedIndex: i }), String(i)),
  );
  const hashes: string[] = [];
  for (const size of [1, 7, 400]) {
    const machine = new Machine();
    for (const group of grouped(entries, [size])) await machine.apply(...group);
    hashes.push(await machine.store.stateHash());
  }
  expect(new Set(hashes).size).toBe(1);
});
