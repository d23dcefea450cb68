/**
 * Simulated time: a binary heap of events, in whole microseconds, equal times in the order in which
 * they were scheduled. Nothing in a simulation knows another clock.
 */

import assert from 'node:assert/strict';

type Event = { readonly timeUs: number; readonly sequence: number; readonly run: () => void };

export class EventQueue {
  #heap: Event[] = [];
  #sequence = 0;
  nowUs = 0;
  eventCount = 0;

  after(delayUs: number, run: () => void): void {
    this.at(this.nowUs + Math.ceil(delayUs), run);
  }

  at(timeUs: number, run: () => void): void {
    assert(this.nowUs <= timeUs, 'an event in the past');
    this.#sequence += 1;
    this.#push({ timeUs, sequence: this.#sequence, run });
  }

  /** Runs the next event, if there is one until `endUs`. */
  runNext(endUs: number): boolean {
    const next = this.#heap[0];
    if (next === undefined || endUs < next.timeUs) return false;
    this.#pop();
    this.nowUs = next.timeUs;
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
  if (left.timeUs !== right.timeUs) return left.timeUs < right.timeUs;
  return left.sequence < right.sequence;
}
