/**
 * The search for a linearization: Wing and Gong's algorithm with Lowe's memoization ("Testing for
 * linearizability", 2017), of one object.
 *
 * Calls and returns lie in a list in the order of time. The search takes any call before the first
 * return and asks the model whether the operation could have answered so; if it could, call and
 * return leave the list. Where no call fits, the last one taken is put back. What has been
 * visited, the set of taken operations together with the state they led to, is not tried again.
 *
 * - An operation whose outcome is unknown has no return: it may be taken at any time, or never. So it
 *   is tried last, when no other fits, from a list of its own.
 * - An operation that only observes is taken as soon as it fits, and then nothing else is tried:
 *   whatever order has it later has it here as well, as it changes nothing for the others.
 * - Taken operations are numbered by their calls. All but a few of those before the first that is
 *   not taken are taken, so a visited set is that number and a short window of bits behind it,
 *   however long the history is. The unknown ones, which may stay open for ever, have bits apart.
 */

import assert from 'node:assert/strict';

import type { Interval } from './operation.ts';
import { WordSet } from './word-set.ts';

export type Model<Op, State> = {
  readonly initial: State;
  /**
   * The state after `operation`, or undefined if it cannot have answered as it did in `state`. With
   * an unknown outcome: the state after its effect, or undefined if it would have none.
   */
  step(state: State, operation: Op): State | undefined;
  /** Equal for equal states, and only for those. */
  fingerprint(state: State): string | number | null;
  /** The state after `operation` whatever it was before, or undefined if that depends. */
  stateAfter(operation: Op): State | undefined;
  /** No effect depends on what was before: one that nobody saw might as well not have happened. */
  readonly isMemoryless: boolean;
  /**
   * Of operations with an unknown outcome: nothing tells its effect from that of any other such. So
   * the one that was invoked first may be taken to have its effect first.
   */
  isInterchangeable(operation: Op): boolean;
  /** Of operations with a known outcome: in no state does it have an effect. */
  isObservation(operation: Op): boolean;
};

export type SearchResult<Op, State> = {
  /** `unknown`: the budget of steps is used up. */
  readonly kind: 'linearizable' | 'violation' | 'unknown';
  /** A linearization, or the longest part of one that was found, with the state it led to. */
  readonly order: readonly Op[];
  readonly state: State;
  readonly stepCount: number;
};

/** `operations` in the order of their invocation. */
export function searchLinearization<Op extends Interval, State>(
  operations: readonly Op[],
  model: Model<Op, State>,
  options: { readonly initial: State; readonly stepsMax: number },
): SearchResult<Op, State> {
  return new Search(operations, model, options.initial).run(options.stepsMax);
}

const HEAD = 0;
const END = 0;

class Search<Op extends Interval, State> {
  readonly #operations: readonly Op[];
  readonly #model: Model<Op, State>;
  /** List nodes: a head, the call of each operation, the return of each, the unknown ones' head. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** An operation's number among the completed ones; of an unknown one, `-1 -` its number there. */
  readonly #numbers: Int32Array;
  /** Of an interchangeable operation: the number of the one that has to be taken before, or -1. */
  readonly #predecessors: Int32Array;
  readonly #takenBits: Int32Array;
  readonly #unknownBits: Int32Array;
  readonly #completedCount: number;
  #firstOpen = 0;
  /** Beyond the highest number of a taken operation. */
  #takenEnd = 0;

  readonly #states: State[] = [];
  readonly #stateIds = new Map<string | number | null, number>();
  #state: number;

  /** Of each taken operation: its position, the state and `#takenEnd` before it. */
  readonly #taken: number[] = [];
  readonly #statesBefore: number[] = [];
  readonly #takenEndsBefore: number[] = [];
  #openReturns: number;

  readonly #visited = new WordSet();
  readonly #key: Int32Array;
  #longest: readonly number[] = [];
  #longestState: number;

  constructor(operations: readonly Op[], model: Model<Op, State>, initial: State) {
    this.#operations = operations;
    this.#model = model;
    const count = operations.length;
    this.#numbers = new Int32Array(count);
    this.#predecessors = new Int32Array(count).fill(-1);
    let completedCount = 0;
    let unknownCount = 0;
    let interchangeable = -1;
    operations.forEach((operation, position) => {
      const { invokedNs, completedNs } = operation;
      assert(invokedNs <= completedNs, 'an operation completed before it began');
      const isUnknown = completedNs === Infinity;
      this.#numbers[position] = isUnknown ? -1 - unknownCount : completedCount;
      if (isUnknown && model.isInterchangeable(operation)) {
        this.#predecessors[position] = interchangeable;
        interchangeable = unknownCount;
      }
      if (isUnknown) unknownCount += 1;
      else completedCount += 1;
    });
    this.#completedCount = completedCount;
    this.#openReturns = completedCount;
    this.#takenBits = new Int32Array(Math.ceil((completedCount + 1) / 32));
    this.#unknownBits = new Int32Array(Math.ceil(unknownCount / 32));
    this.#key = new Int32Array(3 + this.#takenBits.length + this.#unknownBits.length);
    this.#next = new Int32Array(2 + 2 * count);
    this.#previous = new Int32Array(2 + 2 * count);
    this.#link();
    this.#state = this.#intern(initial);
    this.#longestState = this.#state;
  }

  run(stepsMax: number): SearchResult<Op, State> {
    let stepCount = 0;
    let node = this.#firstToTry();
    while (this.#openReturns > 0) {
      if (node === END) {
        this.#noteLongest();
        const position = this.#putBack();
        if (position === undefined) return this.#result('violation', stepCount);
        node = this.#isObservation(position) ? END : (this.#next[position + 1] ?? END);
      } else if (this.#operations.length < node) {
        node = this.#next[this.#unknownHead] ?? END;
      } else {
        if (stepCount === stepsMax) return this.#result('unknown', stepCount);
        stepCount += 1;
        const isTaken = this.#mayTake(node - 1) && this.#take(node - 1);
        // An observation that fits is not taken where that has been visited.
        if (isTaken) node = this.#firstToTry();
        else node = this.#fitsAsObservation(node - 1) ? END : (this.#next[node] ?? END);
      }
    }
    return this.#result('linearizable', stepCount);
  }

  /** Of the calls before the first open return: an observation that fits, or else the first. */
  #firstToTry(): number {
    const first = this.#next[HEAD] ?? END;
    for (let node = first; node !== END && node <= this.#operations.length;) {
      if (this.#fitsAsObservation(node - 1)) return node;
      node = this.#next[node] ?? END;
    }
    return first;
  }

  #fitsAsObservation(position: number): boolean {
    const operation = this.#operations[position];
    if (operation === undefined || !this.#isObservation(position)) return false;
    return this.#model.step(this.#states[this.#state] as State, operation) !== undefined;
  }

  #isObservation(position: number): boolean {
    const operation = this.#operations[position];
    const isKnown = (this.#numbers[position] ?? 0) >= 0;
    return isKnown && operation !== undefined && this.#model.isObservation(operation);
  }

  get #unknownHead(): number {
    return 1 + 2 * this.#operations.length;
  }

  #link(): void {
    const count = this.#operations.length;
    const nodes: number[] = [];
    const unknown: number[] = [];
    this.#operations.forEach(({ completedNs }, position) => {
      if (completedNs === Infinity) unknown.push(position + 1);
      else nodes.push(position + 1, 1 + count + position);
    });
    // At equal times calls come first: the operations may have overlapped.
    nodes.sort((a, b) => this.#timeOf(a) - this.#timeOf(b) || a - b);
    this.#chain(HEAD, nodes);
    this.#chain(this.#unknownHead, unknown);
  }

  #chain(head: number, nodes: readonly number[]): void {
    let last = head;
    for (const node of nodes) {
      this.#next[last] = node;
      this.#previous[node] = last;
      last = node;
    }
    this.#next[last] = END;
  }

  #timeOf(node: number): number {
    const count = this.#operations.length;
    const operation = this.#operations[(node - 1) % count];
    assert(operation !== undefined);
    return node <= count ? operation.invokedNs : operation.completedNs;
  }

  /** An unknown one had to be invoked before the first return that is still open. */
  #mayTake(position: number): boolean {
    if ((this.#numbers[position] ?? 0) >= 0) return true;
    const predecessor = this.#predecessors[position] ?? -1;
    if (predecessor >= 0 && !has(this.#unknownBits, predecessor)) return false;
    const last = this.#taken.at(-1);
    const isAfterUnknown = last !== undefined && (this.#numbers[last] ?? 0) < 0;
    if (this.#model.isMemoryless && isAfterUnknown) return false;
    let node = this.#next[HEAD] ?? END;
    while (node <= this.#operations.length) node = this.#next[node] ?? END;
    return this.#timeOf(position + 1) <= this.#timeOf(node);
  }

  /** Takes an operation as the next one, if the model allows it and this leads to something new. */
  #take(position: number): boolean {
    const operation = this.#operations[position];
    const before = this.#states[this.#state];
    assert(operation !== undefined);
    const after = this.#model.step(before as State, operation);
    if (after === undefined) return false;
    const state = this.#intern(after);
    const takenEnd = this.#takenEnd;
    this.#mark(position);
    if (!this.#visited.add(this.#key, this.#writeKey(state))) {
      this.#unmark(position, takenEnd);
      return false;
    }
    this.#taken.push(position);
    this.#statesBefore.push(this.#state);
    this.#takenEndsBefore.push(takenEnd);
    this.#state = state;
    this.#lift(position);
    return true;
  }

  /** Undoes the last `#take`; its position, or undefined if there was none. */
  #putBack(): number | undefined {
    const position = this.#taken.pop();
    const state = this.#statesBefore.pop();
    const takenEnd = this.#takenEndsBefore.pop();
    if (position === undefined || state === undefined || takenEnd === undefined) return undefined;
    this.#state = state;
    this.#unmark(position, takenEnd);
    this.#unlift(position);
    return position;
  }

  #mark(position: number): void {
    const number = this.#numbers[position] ?? 0;
    if (number < 0) {
      flip(this.#unknownBits, -1 - number);
      return;
    }
    flip(this.#takenBits, number);
    this.#takenEnd = Math.max(this.#takenEnd, number + 1);
    while (this.#firstOpen < this.#takenEnd && has(this.#takenBits, this.#firstOpen)) {
      this.#firstOpen += 1;
    }
  }

  #unmark(position: number, takenEnd: number): void {
    const number = this.#numbers[position] ?? 0;
    if (number < 0) {
      flip(this.#unknownBits, -1 - number);
      return;
    }
    flip(this.#takenBits, number);
    this.#takenEnd = takenEnd;
    this.#firstOpen = Math.min(this.#firstOpen, number);
  }

  /** Writes what identifies the current set together with `state`; returns how many words. */
  #writeKey(state: number): number {
    const key = this.#key;
    const firstWord = this.#firstOpen >>> 5;
    const endWord = Math.max(firstWord, (this.#takenEnd + 31) >>> 5);
    key[0] = state;
    key[1] = this.#firstOpen;
    key[2] = endWord - firstWord;
    let length = 3;
    for (let word = firstWord; word < endWord; word += 1) {
      key[length++] = this.#takenBits[word] ?? 0;
    }
    for (const word of this.#unknownBits) key[length++] = word;
    return length;
  }

  #lift(position: number): void {
    this.#remove(position + 1);
    if ((this.#numbers[position] ?? 0) < 0) return;
    this.#remove(1 + this.#operations.length + position);
    this.#openReturns -= 1;
  }

  /** In the reverse order of `#lift`, so that each node finds its neighbours as it left them. */
  #unlift(position: number): void {
    if ((this.#numbers[position] ?? 0) >= 0) {
      this.#insert(1 + this.#operations.length + position);
      this.#openReturns += 1;
    }
    this.#insert(position + 1);
  }

  #remove(node: number): void {
    const previous = this.#previous[node] ?? 0;
    const next = this.#next[node] ?? 0;
    this.#next[previous] = next;
    this.#previous[next] = previous;
  }

  #insert(node: number): void {
    this.#next[this.#previous[node] ?? 0] = node;
    this.#previous[this.#next[node] ?? 0] = node;
  }

  #intern(state: State): number {
    const fingerprint = this.#model.fingerprint(state);
    const known = this.#stateIds.get(fingerprint);
    if (known !== undefined) return known;
    this.#stateIds.set(fingerprint, this.#states.length);
    return this.#states.push(state) - 1;
  }

  #noteLongest(): void {
    if (this.#taken.length <= this.#longest.length) return;
    this.#longest = [...this.#taken];
    this.#longestState = this.#state;
  }

  #result(kind: SearchResult<Op, State>['kind'], stepCount: number): SearchResult<Op, State> {
    assert(this.#firstOpen <= this.#completedCount);
    this.#noteLongest();
    return {
      kind,
      order: this.#longest.flatMap((position) => this.#operations[position] ?? []),
      state: this.#states[this.#longestState] as State, // It was interned when it was reached.
      stepCount,
    };
  }
}

function flip(bits: Int32Array, number: number): void {
  bits[number >>> 5] = (bits[number >>> 5] ?? 0) ^ (1 << (number & 31));
}

function has(bits: Int32Array, number: number): boolean {
  return ((bits[number >>> 5] ?? 0) & (1 << (number & 31))) !== 0;
}
