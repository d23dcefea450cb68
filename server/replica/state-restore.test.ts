import { createHash } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { encodeConfiguration } from '../raft/configuration.ts';
import type { Configuration, Entry } from '../raft/message.ts';
import { encodeCommand } from '../storage/command.ts';
import { createMemoryStore } from '../storage/memory.ts';
import { encodeRestore, pieceKey, STAGING_PREFIX } from '../storage/restore-command.ts';
import { encodeSnapshot } from '../storage/snapshot-codec.ts';
import type { StorePair } from '../storage/snapshot-codec.ts';
import type { Store } from '../storage/store.ts';
import { Applier } from './applier.ts';
import type { Applied } from './applier.ts';
import { systemClock } from './clock.ts';
import { readRecorded, SessionTable, SESSIONS_MAX } from './session-table.ts';
import { restoredIndex, STAGED_POSITION } from './state-restore.ts';

const prefix = `${STAGING_PREFIX}x/`;

type Machine = { store: Store; outcomes: (string | undefined)[]; failures: unknown[] };

/** Applies commands from index 1 on; the outcome of each is what its proposer would be told. */
async function machine(
  commands: readonly (Uint8Array | Configuration)[],
  { store = createMemoryStore(), clock = systemClock } = {},
): Promise<Machine> {
  const outcomes: (string | undefined)[] = [];
  const failures: unknown[] = [];
  const applier = new Applier({
    ...{ clock, store },
    onApplied: ({ entries, refusals }: Applied) => {
      for (const { index } of entries) outcomes[index - 1] = refusals.get(index);
    },
    onDurable: () => undefined,
    onFatal: (error) => failures.push(error),
  });
  const entries = commands.map((command, position): Entry => {
    const place = { index: position + 1, term: 1 };
    return command instanceof Uint8Array
      ? { ...place, kind: 'command', command }
      : { ...place, kind: 'configuration', command: encodeConfiguration(command) };
  });
  applier.enqueue(entries);
  expect(await applier.awaitApplied(commands.length, 5_000)).toBe(true);
  return { store, outcomes, failures };
}

async function stateOf(pairs: Record<string, Uint8Array | string>): Promise<Buffer> {
  const sorted: StorePair[] = Object.entries(pairs)
    .map(([key, value]) => ({ key, value: Buffer.from(value) }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodeSnapshot(STAGED_POSITION, [sorted])) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function put(key: string, value: string | Uint8Array): Uint8Array {
  return encodeCommand([{ kind: 'put', key, value: Buffer.from(value) }]);
}

/** The state in three pieces, and the command that puts them in force. */
function staged(state: Buffer): Uint8Array[] {
  const third = Math.ceil(state.length / 3);
  const pieces = [0, 1, 2].map((number) => state.subarray(number * third, (number + 1) * third));
  const sha256 = createHash('sha256').update(state).digest();
  const command = encodeRestore({ prefix, pieceCount: 3, sha256 });
  return [...pieces.map((piece, number) => put(pieceKey(prefix, number), piece)), command];
}

const read = (store: Store, key: string): string | undefined => {
  const value = store.get(key);
  return value === undefined ? undefined : Buffer.from(value).toString();
};

test('a restore command is applied between its neighbours', async () => {
  const state = await stateOf({ a: 'restored', 'core/raft/restored': '7', z: 'restored' });
  const commands = [put('a', 'old'), put('b', 'old'), ...staged(state), put('z', 'later')];
  const { store, outcomes, failures } = await machine(commands);
  expect(failures).toEqual([]);
  expect(outcomes).toEqual(commands.map(() => undefined));
  expect(read(store, 'a')).toBe('restored');
  expect(read(store, 'b')).toBeUndefined();
  expect(read(store, 'z')).toBe('later');
  expect(await store.list(STAGING_PREFIX, {})).toEqual([]);
  expect(restoredIndex(store)).toBe(6);
  expect(store.position().lastIncludedIndex).toBe(7);
});

test('pieces that were being staged when the state was taken do not come back', async () => {
  const state = await stateOf({ a: '1', [pieceKey(`${STAGING_PREFIX}y/`, 0)]: 'left' });
  const { store } = await machine(staged(state));
  expect(read(store, 'a')).toBe('1');
  expect(await store.list(STAGING_PREFIX, {})).toEqual([]);
});

test('sessions of another log are forgotten, and new ones are not taken for old', async () => {
  const pairs: Record<string, Uint8Array | string> = { a: '1' };
  const table = new SessionTable((key) => pairs[key] as Uint8Array | undefined);
  const stampOf = (number: number, openedIndex: number) => ({
    session: String(number).padStart(32, '0'),
    ...{ openedIndex, sequence: 1, acknowledgedBelow: 1 },
  });
  for (let number = 0; number <= SESSIONS_MAX; number += 1) {
    const index = 1_000_000 + number;
    const stamp = { ...stampOf(number, index), phase: 'once' as const, result: Buffer.from('r') };
    const recorded = [...table.record(stamp, index), ...table.operations()];
    for (const each of recorded) if (each.kind === 'put') pairs[each.key] = each.value;
  }
  const { store } = await machine([...staged(await stateOf(pairs)), put('z', 'later')]);
  const standing = (number: number, openedIndex: number): string =>
    readRecorded((key) => store.get(key), stampOf(number, openedIndex)).kind;
  expect(standing(101, 5)).toBe('unknown');
  expect(standing(100, 3)).toBe('expired');
  expect(standing(SESSIONS_MAX, 1_000_000)).toBe('unknown');
});

test('who of the servers gets no vote is not for a restored state to say', async () => {
  const servers = ['n1', 'n2'].map((id) => ({ id, address: id, suffrage: 'voter' as const }));
  const mark = 'core/raft/non-voter/';
  const state = await stateOf({ a: 'restored', [`${mark}n1`]: '', [`${mark}n3`]: '', z: 'x' });
  const { store } = await machine([{ servers }, put(`${mark}n2`, ''), ...staged(state)]);
  expect(read(store, 'a')).toBe('restored');
  expect(read(store, 'z')).toBe('x');
  expect(await store.list(mark, {})).toEqual(['n2']);
});

test('a state that is not whole is refused, and everything else goes on', async () => {
  const good = staged(await stateOf({ a: 'restored' }));
  const rubbish = staged(Buffer.from('this is no state, in three pieces'));
  const rows = [
    // A piece is missing.
    [...good.slice(1)],
    // A piece is another.
    [...good.slice(0, 3), put(pieceKey(prefix, 1), 'x'), ...good.slice(3)],
    // The pieces are what was announced, but that is no state.
    rubbish,
  ];
  for (const row of rows) {
    const { store, outcomes, failures } = await machine([put('a', 'old'), ...row, put('b', 'x')]);
    expect(failures).toEqual([]);
    expect(outcomes.at(-2)).toBe('conflict');
    expect(outcomes.at(-1)).toBeUndefined();
    expect(read(store, 'a')).toBe('old');
    expect(read(store, 'b')).toBe('x');
    expect(restoredIndex(store)).toBe(0);
  }
});

test('a piece that this node cannot read ends it, and is not refused', async () => {
  const store = createMemoryStore();
  const get = store.get.bind(store);
  vi.spyOn(store, 'get').mockImplementation((key) => {
    if (key === pieceKey(prefix, 1)) throw new Error('EIO');
    return get(key);
  });
  const commands = staged(await stateOf({ a: 'restored' }));
  const entries = commands.map((command, position): Entry => {
    return { index: position + 1, term: 1, kind: 'command', command };
  });
  const failure = await new Promise((onFatal) => {
    const ignored = { onApplied: () => undefined, onDurable: () => undefined };
    const applier = new Applier({ clock: systemClock, store, ...ignored, onFatal });
    applier.enqueue(entries);
  });
  expect(failure).toMatchObject({ message: 'EIO' });
  expect(store.position().lastIncludedIndex).toBe(entries.length - 1);
});

test('others get their turn between any two pieces', async () => {
  const memory = createMemoryStore();
  let turn = 0;
  const turnsOfReads: number[] = [];
  const get = memory.get.bind(memory);
  vi.spyOn(memory, 'get').mockImplementation((key) => {
    if (key.startsWith(prefix)) turnsOfReads.push(turn);
    return get(key);
  });
  const clock = {
    ...systemClock,
    nextTurn: (run: () => void) =>
      systemClock.nextTurn(() => {
        turn += 1;
        run();
      }),
  };
  const commands = staged(await stateOf({ a: 'restored' }));
  const { outcomes } = await machine(commands, { store: memory, clock });
  expect(outcomes.at(-1)).toBeUndefined();
  // Hashed, verified, and put in force.
  expect(turnsOfReads).toHaveLength(9);
  expect(new Set(turnsOfReads).size).toBe(9);
});
