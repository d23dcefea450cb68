import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';

import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import type { Entry, HardState } from '../raft/message.ts';
import { openDurableLog, openDurableLogOn } from './durable-log.ts';
import type { DurableLogOptions, LogAppend, OpenedLog } from './durable-log.ts';
import { MemoryLogFiles } from './memory-log-files.ts';
import type { LogPosition } from './segment.ts';

const OPTIONS: DurableLogOptions = { thread: 'inline', segmentBytes: 600, identity: 'cluster/n1' };
const HARD_STATE: HardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };

function entry(index: number, term: number): Entry {
  return { index, term, kind: 'command', command: Buffer.from(`${index} in ${term}`) };
}

function run(first: number, last: number, term: number): Entry[] {
  return Array.from({ length: last - first + 1 }, (_, i) => entry(first + i, term));
}

/** What a log amounts to, in a form that compares. */
function plain({ hardState, snapshot, entries }: OpenedLog['recovered']) {
  const lines = entries.map(
    ({ index, term, kind, command }) => `${index} ${term} ${kind} ${String(command)}`,
  );
  return { hardState, snapshot, entries: lines };
}

function expected(hardState: HardState, snapshot: LogPosition, entries: Entry[]) {
  return plain({ hardState, snapshot, entries });
}

const START: LogPosition = { index: 0, term: 0 };

describe.each(['inline', 'worker'] as const)('in a thread of kind %s', (thread) => {
  const options = { ...OPTIONS, thread };
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'durable-log-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** Applies all appends, reopens the log, and returns what it recovers. */
  async function reopened(appends: readonly LogAppend[]) {
    const { log } = await openDurableLog(directory, options);
    for (const append of appends) await log.append(append);
    await log.close();
    const again = await openDurableLog(directory, options);
    await again.log.close();
    return plain(again.recovered);
  }

  test('a new log is empty, in term 0', async () => {
    const initial = { currentTerm: 0, votedFor: null, commitIndex: 0 };
    expect(await reopened([])).toEqual(expected(initial, START, []));
  });

  test('entries and the last hard state are recovered', async () => {
    const hardState: HardState = { currentTerm: 2, votedFor: null, commitIndex: 1 };
    const noop: Entry = { index: 3, term: 2, kind: 'noop', command: new Uint8Array(0) };
    const appends = [
      { hardState: HARD_STATE, entries: run(1, 2, 1) },
      { hardState, entries: [noop] },
    ];
    expect(await reopened(appends)).toEqual(expected(hardState, START, [...run(1, 2, 1), noop]));
  });

  test('an append with a lower first index replaces everything from there', async () => {
    const appends = [
      { hardState: HARD_STATE, entries: run(1, 5, 1) },
      { entries: run(3, 4, 2) },
      { entries: run(5, 6, 3) },
    ];
    const entries = [...run(1, 2, 1), ...run(3, 4, 2), ...run(5, 6, 3)];
    expect(await reopened(appends)).toEqual(expected(HARD_STATE, START, entries));
  });

  test('a reset discards what was before and begins after the snapshot', async () => {
    const reset = { index: 90, term: 4 };
    const hardState: HardState = { currentTerm: 5, votedFor: 'n2', commitIndex: 90 };
    const appends = [
      { hardState: HARD_STATE, entries: run(1, 5, 1) },
      { hardState, reset, entries: run(91, 92, 5) },
    ];
    expect(await reopened(appends)).toEqual(expected(hardState, reset, run(91, 92, 5)));
  });

  test('segments rotate, and compaction removes those that hold nothing above the index', async () => {
    const { log } = await openDurableLog(directory, options);
    await log.append({ hardState: HARD_STATE, entries: [] });
    for (const single of run(1, 40, 1)) await log.append({ entries: [single] });
    const before = segmentNames().length;
    log.compact(30);
    await log.append({ entries: run(41, 41, 1) });
    await log.close();

    expect(segmentNames().length).toBeLessThan(before);
    const { recovered, log: again } = await openDurableLog(directory, options);
    await again.close();
    expect(recovered.hardState).toEqual(HARD_STATE);
    const first = recovered.snapshot.index + 1;
    expect(first).toBeGreaterThan(1);
    expect(first).toBeLessThanOrEqual(31);
    expect(plain(recovered)).toEqual(
      expected(HARD_STATE, { index: first - 1, term: 1 }, run(first, 41, 1)),
    );
  });

  test('appends of one turn resolve in order', async () => {
    const { log } = await openDurableLog(directory, options);
    const order: number[] = [];
    const appends = run(1, 10, 1).map(async (single) => {
      await log.append({ hardState: HARD_STATE, entries: [single] });
      order.push(single.index);
    });
    await Promise.all(appends);
    await log.close();
    expect(order).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('close() waits for what was appended, and ends the log', async () => {
    const { log } = await openDurableLog(directory, options);
    const append = log.append({ hardState: HARD_STATE, entries: run(1, 1, 1) });
    await log.close();
    await append;
    await expect(log.append({ entries: run(2, 2, 1) })).rejects.toThrow('it is closed');
  });

  test('two logs cannot be open in one directory', async () => {
    const { log } = await openDurableLog(directory, options);
    await expect(openDurableLog(directory, options)).rejects.toThrow(/held by the running process/);
    await log.close();
  });

  function segmentNames(): string[] {
    return readdirSync(directory).filter((name) => name.endsWith('.wal'));
  }
});

test('appends that wait share one sync', async () => {
  const files = new MemoryLogFiles();
  const { log } = await openDurableLogOn(files, '/log', { ...OPTIONS, segmentBytes: 1e6 });
  await log.append({ hardState: HARD_STATE, entries: [] });
  const before = files.syncCount;
  await Promise.all(run(1, 100, 1).map((single) => log.append({ entries: [single] })));
  expect(files.syncCount - before).toBe(1);
  await log.close();
});

test('the log does not wait for the pool in which passwords are hashed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'durable-log-'));
  const { log } = await openDurableLog(directory, { ...OPTIONS, thread: 'worker' });
  try {
    await log.append({ hardState: HARD_STATE, entries: [] });
    let hashed = 0;
    const hashes = Array.from({ length: 16 }, async () => {
      await promisify(pbkdf2)('password', 'salt', 1_000_000, 64, 'sha512');
      hashed += 1;
    });
    await log.append({ entries: run(1, 3, 1) });
    expect(hashed).toBe(0);
    await Promise.all(hashes);
  } finally {
    await log.close();
    rmSync(directory, { recursive: true });
  }
});

test('after a failed write every append rejects with its error', async () => {
  const files = new MemoryLogFiles();
  const { log } = await openDurableLogOn(files, '/log', OPTIONS);
  await log.append({ hardState: HARD_STATE, entries: run(1, 1, 1) });
  const failure = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  files.failAfter(1, failure);

  const appends = [log.append({ entries: run(2, 2, 1) }), log.append({ entries: run(3, 3, 1) })];
  for (const append of appends) await expect(append).rejects.toMatchObject({ cause: failure });
  files.failAfter(Infinity, failure);
  await expect(log.append({ entries: run(4, 4, 1) })).rejects.toMatchObject({ cause: failure });
  await log.close();

  const again = await openDurableLogOn(files, '/log', OPTIONS);
  expect(plain(again.recovered)).toEqual(expected(HARD_STATE, START, run(1, 1, 1)));
  await again.log.close();
});

test('a thread that exits without a word fails what it was asked and what it will be (N-15)', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'durable-log-'));
  const created = once(process, 'worker') as Promise<[Worker]>;
  const { log } = await openDurableLog(directory, { ...OPTIONS, thread: 'worker' });
  const [thread] = await created;
  await log.append({ hardState: HARD_STATE, entries: run(1, 1, 1) });
  const ended = once(thread, 'exit');
  // As `process.exit` within it.
  void thread.terminate();
  await ended;
  const reason = { cause: { message: 'the thread of the log has ended' } };
  await expect(log.append({ entries: run(2, 2, 1) })).rejects.toMatchObject(reason);
  rmSync(directory, { recursive: true });
});

type Step =
  | { kind: 'append'; count: number }
  | { kind: 'vote' }
  | { kind: 'replace'; back: number; count: number }
  | { kind: 'reset'; ahead: number }
  | { kind: 'compact'; back: number }
  | { kind: 'reopen' };

const small = fc.integer({ min: 0, max: 4 });
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: small.map((count): Step => ({ kind: 'append', count })) },
    fc.constant<Step>({ kind: 'vote' }),
    fc.tuple(small, small).map(([back, count]): Step => ({ kind: 'replace', back, count })),
    small.map((ahead): Step => ({ kind: 'reset', ahead })),
    small.map((back): Step => ({ kind: 'compact', back })),
    fc.constant<Step>({ kind: 'reopen' }),
  ),
  { minLength: 1, maxLength: 25 },
);

/** The log as Raft sees it, without a disk. */
class Model {
  hardState: HardState = { currentTerm: 0, votedFor: null, commitIndex: 0 };
  base: LogPosition = START;
  compacted = 0;
  entries: Entry[] = [];

  get lastIndex(): number {
    return this.entries.at(-1)?.index ?? this.base.index;
  }

  /** Changes the model, and returns the append that does the same to a log. */
  append(step: Step): LogAppend | undefined {
    const hardState = { ...this.hardState, currentTerm: this.hardState.currentTerm + 1 };
    const term = hardState.currentTerm;
    switch (step.kind) {
      case 'append':
        return this.#write({ hardState, entries: this.#next(step.count, term) });
      case 'vote':
        return this.#write({ hardState: { ...hardState, votedFor: `n${term}` }, entries: [] });
      case 'replace': {
        const kept = Math.max(this.compacted, this.lastIndex - step.back);
        this.entries = this.entries.filter(({ index }) => index <= kept);
        return this.#write({ hardState, entries: this.#next(step.count + 1, term) });
      }
      case 'reset':
        this.base = { index: this.lastIndex + step.ahead, term };
        this.compacted = this.base.index;
        this.entries = [];
        return this.#write({ hardState, reset: this.base, entries: [] });
      default:
        return undefined;
    }
  }

  copy(): Model {
    return Object.assign(new Model(), this);
  }

  #next(count: number, term: number): Entry[] {
    return run(this.lastIndex + 1, this.lastIndex + count, term);
  }

  #write(append: LogAppend & { hardState: HardState }): LogAppend {
    this.hardState = append.hardState;
    this.entries = [...this.entries, ...append.entries];
    return append;
  }
}

/** The recovered log may begin earlier than the model, with entries that were compacted. */
function matches(model: Model, recovered: OpenedLog['recovered']): boolean {
  const { hardState, snapshot, entries } = recovered;
  const kept = entries.filter(({ index }) => model.compacted < index);
  const wanted = model.entries.filter(({ index }) => model.compacted < index);
  return (
    snapshot.index <= model.compacted &&
    JSON.stringify(plain({ hardState, snapshot, entries: kept })) ===
      JSON.stringify(plain({ hardState: model.hardState, snapshot, entries: wanted }))
  );
}

test('any sequence of operations is recovered as it was', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const files = new MemoryLogFiles();
      const model = new Model();
      const mismatches: unknown[] = [];
      let { log } = await openDurableLogOn(files, '/log', OPTIONS);
      for (const step of [...list, { kind: 'reopen' } satisfies Step]) {
        const append = model.append(step);
        if (append !== undefined) await log.append(append);
        if (step.kind === 'compact') {
          model.compacted = Math.max(model.compacted, model.lastIndex - step.back);
          log.compact(model.compacted);
        }
        if (step.kind === 'reopen') {
          await log.close();
          const again = await openDurableLogOn(files, '/log', OPTIONS);
          if (!matches(model, again.recovered)) mismatches.push(plain(again.recovered));
          log = again.log;
        }
      }
      await log.close();
      expect(mismatches).toEqual([]);
    }),
    { numRuns: 100 },
  );
});

test('power loss at any moment keeps what was acknowledged, and adds nothing', async () => {
  const failure = new Error('power loss');
  const choices = fc.infiniteStream(fc.boolean());
  await fc.assert(
    fc.asyncProperty(steps, fc.nat(120), choices, async (list, changeCount, kept) => {
      const files = new MemoryLogFiles();
      const model = new Model();
      const { log } = await openDurableLogOn(files, '/log', OPTIONS);
      files.failAfter(changeCount, failure);
      let acknowledged = model.copy();
      for (const step of list) {
        const append = model.append(step);
        try {
          if (append !== undefined) await log.append(append);
        } catch {
          break;
        }
        if (step.kind === 'compact') {
          model.compacted = Math.max(model.compacted, model.lastIndex - step.back);
          log.compact(model.compacted);
        }
        acknowledged = model.copy();
      }

      const isKept = () => kept.next().value === true;
      const disk = new MemoryLogFiles(files.contentsAfterPowerLoss(isKept));
      const again = await openDurableLogOn(disk, '/log', OPTIONS);
      const isWhole = matches(acknowledged, again.recovered) || matches(model, again.recovered);
      expect(isWhole).toBe(true);
      await again.log.append({ hardState: HARD_STATE, entries: [] });
      await again.log.close();
    }),
    { numRuns: 150 },
  );
});
