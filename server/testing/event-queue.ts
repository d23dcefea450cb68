/** Simulated time: a binary heap of events, equal times in the order they were scheduled. */

import assert from 'node:assert/strict';

type Event = { readonly timeMs: number; readonly sequence: number; readonly run: () => void };

export class EventQueue {
  #heap: Event[] = [];
  #sequence = 0;
  nowMs = 0;
  eventCount = 0;

  after(delayMs: number, run: () => void): void {
    assert(0 <= delayMs);
    this.#sequence += 1;
    this.#push({ timeMs: this.nowMs + delayMs, sequence: this.#sequence, run });
  }

  /** Runs the next event, if there is one until `endMs`. */
  runNext(endMs: number): boolean {
    const next = this.#heap[0];
    if (next === undefined || endMs < next.timeMs) return false;
    this.#pop();
    this.nowMs = next.timeMs;
    this.eventCount += 1;
    next.run();
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let position = heap.length;
    heap.push(event);
    while (position > 0) {
      const parentPosition = (position - 1) >> 1;
      const parent = heap[parentPosition];
      assert(parent !== undefined);
      if (isBefore(parent, event)) break;
      heap[position] = parent;
      position = parentPosition;
    }
    heap[position] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    assert(last !== undefined);
    if (heap.length === 0) return;
    let position = 0;
    for (;;) {
      let childPosition = 2 * position + 1;
      const left = heap[childPosition];
      if (left === undefined) break;
      const right = heap[childPosition + 1];
      const isRight = right !== undefined && isBefore(right, left);
      const child = isRight ? right : left;
      if (isBefore(last, child)) break;
      if (isRight) childPosition += 1;
      heap[position] = child;
      position = childPosition;
    }
    heap[position] = last;
  }
}

function isBefore(left: Event, right: Event): boolean {
  if (left.timeMs !== right.timeMs) return left.timeMs < right.timeMs;
  return left.sequence < right.sequence;
}
