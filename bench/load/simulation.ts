/**
 * In-memory twins of the clock and the server, for tests of the drivers: exact and instantaneous.
 */

import assert from 'node:assert/strict';
import type { Clock } from './clock.ts';
import type { Answer, Sender } from './exchange.ts';

/** Events of one run: a test that loops stops here. */
const EVENTS_MAX = 5_000_000;

type Event = { readonly atNs: number; readonly order: number; readonly run: () => void };

/** A clock that stands still until `run` moves it from event to event. */
export class SimulatedClock implements Clock {
  #nowNs: number;
  #order = 0;
  readonly #events: Event[] = [];
  readonly #cancelled = new Set<number>();

  constructor(startNs: number) {
    this.#nowNs = startNs;
  }

  nowNs(): number {
    return this.#nowNs;
  }

  wakeAt(atNs: number, callback: () => void): () => void {
    const order = this.#order++;
    push(this.#events, { atNs: Math.max(atNs, this.#nowNs), order, run: callback });
    return () => this.#cancelled.add(order);
  }

  /** The process was not scheduled: time passes, and nothing runs meanwhile. */
  stall(durationNs: number): void {
    this.#nowNs += durationNs;
  }

  /** Runs all events in order of time, including those that they add. */
  run(): void {
    for (let count = 0; count < EVENTS_MAX; count++) {
      const event = pop(this.#events);
      if (event === undefined) return;
      if (this.#cancelled.delete(event.order)) continue;
      this.#nowNs = Math.max(this.#nowNs, event.atNs);
      event.run();
    }
    assert.fail('simulation does not end');
  }
}

export type SimulatedServerOptions = {
  readonly clock: SimulatedClock;
  readonly sockets: number;
  /** How long a request takes that reaches the server at `atNs`. */
  readonly serviceNs: (atNs: number) => number;
  /** What the server answers; nothing means that it never does. */
  readonly answer: () => { readonly status: number; readonly servedBy?: string } | undefined;
};

/** A node reached through a few sockets: a request that finds none free waits for one in order. */
export function simulatedServer(options: SimulatedServerOptions): Sender & { sentCount: number } {
  const { clock, sockets, serviceNs } = options;
  const waiting: (() => void)[] = [];
  const pool = { free: sockets };

  const sender: Sender & { sentCount: number } = {
    sentCount: 0,
    send: (_target, _request, settle) => {
      sender.sentCount += 1;
      let isEnded = false;
      let writtenNs: number | undefined;
      const end = (answer: Answer): void => {
        if (isEnded) return;
        isEnded = true;
        if (writtenNs !== undefined) {
          pool.free += 1;
          while (pool.free > 0 && waiting.length > 0) waiting.shift()?.();
        }
        settle(answer);
      };
      const begin = (): void => {
        if (isEnded) return;
        pool.free -= 1;
        const atNs = clock.nowNs();
        writtenNs = atNs;
        const answered = options.answer();
        if (answered === undefined) return;
        clock.wakeAt(atNs + serviceNs(atNs), () =>
          end({
            kind: 'answered',
            status: answered.status,
            servedBy: answered.servedBy,
            body: Buffer.alloc(0),
            writtenNs: atNs,
            completionNs: clock.nowNs(),
          }),
        );
      };
      if (pool.free > 0) begin();
      else waiting.push(begin);
      return {
        abort: () =>
          end({ kind: 'failed', failure: 'aborted', writtenNs, completionNs: clock.nowNs() }),
      };
    },
  };
  return sender;
}

// A binary heap by time, then by order of insertion.

function isBefore(left: Event, right: Event): boolean {
  return left.atNs !== right.atNs ? left.atNs < right.atNs : left.order < right.order;
}

function push(heap: Event[], event: Event): void {
  let index = heap.push(event) - 1;
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || !isBefore(event, above)) break;
    heap[index] = above;
    index = parent;
  }
  heap[index] = event;
}

function pop(heap: Event[]): Event | undefined {
  const top = heap[0];
  const last = heap.pop();
  if (top === undefined || last === undefined || heap.length === 0) return top;
  let index = 0;
  for (;;) {
    let child = 2 * index + 1;
    const right = heap[child + 1];
    const left = heap[child];
    if (left === undefined) break;
    if (right !== undefined && isBefore(right, left)) child += 1;
    const smaller = heap[child] ?? left;
    if (!isBefore(smaller, last)) break;
    heap[index] = smaller;
    index = child;
  }
  heap[index] = last;
  return top;
}
