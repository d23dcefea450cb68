import { expect, test } from 'vitest';
import type { ServerError } from '../errors.ts';
import type { Freshness } from '../raft/message.ts';
import { EventQueue } from '../testing/simulation/event-queue.ts';
import { simulatedClock } from '../testing/simulation/simulated-clock.ts';
import { ReadRounds, READS_MAX } from './reads.ts';

const HEARTBEAT_MS = 100;
const ELECTION_MS = 500;

/** A node whose core answers when the test says so. */
class Subject {
  readonly queue = new EventQueue();
  readonly asked: number[] = [];
  readonly ended: string[] = [];
  applied = 0;
  isRunning = true;
  readonly #waiters: { readonly index: number; readonly resolve: (is: boolean) => void }[] = [];
  readonly reads: ReadRounds;

  constructor() {
    const clock = simulatedClock(this.queue);
    this.reads = new ReadRounds({
      clock,
      heartbeatMs: HEARTBEAT_MS,
      electionTimeoutMs: ELECTION_MS,
      ask: (id) => {
        this.asked.push(id);
        return this.isRunning;
      },
      appliedIndex: () => this.applied,
      awaitApplied: (index, timeoutMs) =>
        new Promise((resolve) => {
          this.#waiters.push({ index, resolve });
          clock.after(timeoutMs, () => resolve(false));
        }),
    });
  }

  read(name: string, timeoutMs = 1_000): void {
    this.reads.linearize(timeoutMs).then(
      () => this.ended.push(`${name} served`),
      (error: ServerError) => this.ended.push(`${name} ${error.code}`),
    );
  }

  follow(leaderId: string | null, currentTerm: number, freshness?: Freshness): void {
    this.reads.observe({ leaderId, currentTerm, freshness });
  }

  /** What the core does at the end of a round: the states, then the status. */
  end(id: number | undefined, index: number | undefined): void {
    const state = index === undefined ? ({ kind: 'failed' } as const) : undefined;
    this.reads.onReadStates([
      state === undefined
        ? { kind: 'confirmed', id: id ?? 0, index: index ?? 0 }
        : { ...state, id: id ?? 0 },
    ]);
  }

  apply(index: number): void {
    this.applied = index;
    for (const waiter of this.#waiters) if (waiter.index <= index) waiter.resolve(true);
  }

  async passTo(ms: number): Promise<void> {
    while (this.queue.runNext(ms * 1000));
    this.queue.nowUs = ms * 1000;
    for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
  }
}

function led(): Subject {
  const subject = new Subject();
  subject.follow('n2', 3);
  return subject;
}

test('requests that come during a round share the next one', async () => {
  const subject = led();
  subject.apply(9);
  subject.read('first');
  subject.read('second');
  subject.read('third');
  expect(subject.asked.length).toBe(1);
  subject.end(subject.asked[0], 9);
  subject.follow('n2', 3);
  await subject.passTo(1);
  expect(subject.ended).toEqual(['first served']);
  expect(subject.asked.length).toBe(2);
  subject.end(subject.asked[1], 9);
  await subject.passTo(2);
  expect(subject.ended.slice(1)).toEqual(['second served', 'third served']);
});

test('a confirmed index is waited for', async () => {
  const subject = led();
  subject.read('read');
  subject.end(subject.asked[0], 9);
  await subject.passTo(1);
  expect(subject.ended).toEqual([]);
  subject.apply(9);
  await subject.passTo(2);
  expect(subject.ended).toEqual(['read served']);
});

test('an index that is not applied in time is said to be missing', async () => {
  const subject = led();
  subject.read('read', 50);
  subject.end(subject.asked[0], 9);
  await subject.passTo(1);
  await subject.passTo(60);
  expect(subject.ended).toEqual(['read not-current']);
});

test('a round without an answer is repeated under another id, and its late answer is nobody’s', async () => {
  const subject = led();
  subject.apply(9);
  subject.read('read');
  await subject.passTo(2 * HEARTBEAT_MS + 20);
  const [first, second] = subject.asked;
  expect(subject.asked.length).toBe(2);
  expect(second).not.toBe(first);
  subject.end(first, 8);
  await subject.passTo(2 * HEARTBEAT_MS + 21);
  expect(subject.ended).toEqual([]);
  subject.end(second, 9);
  await subject.passTo(2 * HEARTBEAT_MS + 22);
  expect(subject.ended).toEqual(['read served']);
});

test('a change of leader repeats the round at once', async () => {
  const subject = led();
  subject.read('read');
  subject.end(subject.asked[0], undefined);
  subject.follow('n3', 4);
  expect(subject.asked.length).toBe(2);
  // Also where the core had nothing to say about it.
  subject.follow('n2', 5);
  expect(subject.asked.length).toBe(3);
  expect(new Set(subject.asked).size).toBe(3);
});

test('a leader that refuses is asked again after a heartbeat, not in a spin', async () => {
  const subject = led();
  subject.read('read');
  subject.end(subject.asked[0], undefined);
  for (let turn = 0; turn < 10; turn += 1) subject.follow('n2', 3);
  await subject.passTo(HEARTBEAT_MS - 20);
  expect(subject.asked.length).toBe(1);
  await subject.passTo(HEARTBEAT_MS + 20);
  expect(subject.asked.length).toBe(2);
});

test('an election is waited for, and a longer time without a leader is not', async () => {
  const subject = led();
  subject.follow(null, 4);
  subject.read('during the election');
  await subject.passTo(ELECTION_MS / 2);
  expect(subject.ended).toEqual([]);
  subject.follow('n3', 4);
  expect(subject.asked.length).toBe(1);
  subject.follow(null, 5);
  await subject.passTo(2 * ELECTION_MS);
  expect(subject.ended).toEqual(['during the election no-leader']);
  subject.read('later');
  await subject.passTo(2 * ELECTION_MS + 1);
  expect(subject.ended.at(-1)).toBe('later no-leader');
});

test('who runs out of time is told so, though rounds go on being lost', async () => {
  const subject = led();
  subject.read('read', 450);
  await subject.passTo(449);
  expect(subject.ended).toEqual([]);
  await subject.passTo(700);
  expect(subject.ended).toEqual(['read not-current']);
});

test('more reads than may wait are refused as an overload', async () => {
  const subject = led();
  for (let count = 0; count < READS_MAX; count += 1) subject.read('one');
  subject.read('too many');
  await subject.passTo(1);
  expect(subject.ended).toEqual(['too many overloaded']);
});

test('a node that stops refuses what waits, and what comes then', async () => {
  const subject = led();
  subject.read('under way');
  subject.reads.stop();
  subject.isRunning = false;
  subject.read('later');
  await subject.passTo(1);
  expect(subject.ended).toEqual(['under way no-leader', 'later no-leader']);
});

test('a round tells how old the state is, counted from its start', async () => {
  const subject = led();
  await subject.passTo(100);
  subject.read('read');
  await subject.passTo(107);
  subject.end(subject.asked[0], 9);
  expect(subject.reads.stalenessMs()).toBeUndefined();
  subject.apply(9);
  expect(subject.reads.stalenessMs()).toBe(7);
  // As does a heartbeat.
  subject.follow('n2', 3, { asOfMs: 105, index: 9 });
  expect(subject.reads.stalenessMs()).toBe(2);
});
