/**
 * Whether what clients saw of an object could have happened one operation after the other, each at
 * a moment between its call and its return.
 *
 * Keys are objects of their own: linearizability is local, so each is checked alone. The history of
 * a key is cut where an operation was alone and tells the state by itself: what follows depends on
 * nothing before, and a search never goes back beyond a cut.
 */

import type { Interval, Operation, Violation } from './operation.ts';
import { searchLinearization, type Model } from './wgl-search.ts';

export type Verdict<Op, State> =
  | { readonly kind: 'linearizable'; readonly order: readonly Op[]; readonly stepCount: number }
  /** `unknown`: the budget of steps did not suffice. */
  | {
      readonly kind: 'violation' | 'unknown';
      /** The longest linearization of a part that was found, and the state it leads to. */
      readonly order: readonly Op[];
      readonly state: State;
      /** What was under way or had completed when that part ended, and fits nowhere behind it. */
      readonly stuck: readonly Op[];
      readonly stepCount: number;
    };

/** Enough for any history of a chaos run; a minute at most. */
export const STEPS_MAX = 50_000_000;
/** Operations shown before the ones that fit nowhere. */
const EVIDENCE_BEFORE = 8;
const EVIDENCE_STUCK = 6;

/** Operations that failed without effect must be left out; they say nothing. */
export function checkLinearizable<Op extends Interval, State>(
  operations: readonly Op[],
  model: Model<Op, State>,
  options: { readonly stepsMax: number } = { stepsMax: STEPS_MAX },
): Verdict<Op, State> {
  const order: Op[] = [];
  let stepCount = 0;
  for (const segment of splitAtResolved(operations, model)) {
    const { initial, operations: part } = segment;
    const stepsMax = options.stepsMax - stepCount;
    const result = searchLinearization(part, model, { initial, stepsMax });
    stepCount += result.stepCount;
    order.push(...result.order);
    if (result.kind === 'linearizable') continue;
    const { kind, state } = result;
    return { kind, order, state, stuck: stuckOf(part, result.order), stepCount };
  }
  return { kind: 'linearizable', order, stepCount };
}

export type Segment<Op, State> = { readonly initial: State; readonly operations: readonly Op[] };

/**
 * Cuts a history behind each operation that overlaps no other and after which the state is known.
 * An unknown outcome overlaps everything that follows.
 */
export function splitAtResolved<Op extends Interval, State>(
  operations: readonly Op[],
  model: Model<Op, State>,
): Segment<Op, State>[] {
  const sorted = operations.toSorted((a, b) => a.invokedNs - b.invokedNs);
  const segments: Segment<Op, State>[] = [];
  let initial = model.initial;
  let part: Op[] = [];
  let completedNs = -Infinity;
  sorted.forEach((operation, position) => {
    const isAfterAll = completedNs < operation.invokedNs;
    completedNs = Math.max(completedNs, operation.completedNs);
    part.push(operation);
    const next = sorted[position + 1];
    if (!isAfterAll || next === undefined || next.invokedNs <= completedNs) return;
    const state = model.stateAfter(operation);
    if (state === undefined) return;
    segments.push({ initial, operations: part });
    initial = state;
    part = [];
  });
  return part.length === 0 ? segments : [...segments, { initial, operations: part }];
}

export type KeysVerdict = {
  readonly keyCount: number;
  readonly operationCount: number;
  readonly stepCount: number;
  /** Keys whose budget of steps did not suffice. */
  readonly undecided: readonly string[];
  readonly violations: readonly Violation[];
};

/** Checks each key of a history alone. Operations that failed or read nothing are passed over. */
export function checkEachKey<State>(
  operations: readonly Operation[],
  model: Model<Operation, State>,
  options: { readonly stepsMax: number } = { stepsMax: STEPS_MAX },
): KeysVerdict {
  const byKey = groupByKey(operations.filter(saysSomething));
  const undecided: string[] = [];
  const violations: Violation[] = [];
  let operationCount = 0;
  let stepCount = 0;
  for (const [key, ofKey] of byKey) {
    const verdict = checkLinearizable(ofKey, model, options);
    operationCount += ofKey.length;
    stepCount += verdict.stepCount;
    if (verdict.kind === 'unknown') undecided.push(key);
    if (verdict.kind !== 'violation') continue;
    const state = String(model.fingerprint(verdict.state));
    violations.push({
      rule: 'linearizable',
      message: `no order explains what was seen; the longest leads to ${state}`,
      key,
      evidence: [
        ...verdict.order.slice(-EVIDENCE_BEFORE),
        ...verdict.stuck.slice(0, EVIDENCE_STUCK),
      ],
    });
  }
  return { keyCount: byKey.size, operationCount, stepCount, undecided, violations };
}

export function groupByKey(operations: readonly Operation[]): Map<string, Operation[]> {
  const groups = new Map<string, Operation[]>();
  for (const operation of operations) {
    const group = groups.get(operation.key);
    if (group === undefined) groups.set(operation.key, [operation]);
    else group.push(operation);
  }
  return groups;
}

function saysSomething({ call, outcome }: Operation): boolean {
  return outcome.kind === 'ok' || (outcome.kind === 'unknown' && call.kind !== 'read');
}

/** The operations outside `order` that were invoked before the first of them returned. */
function stuckOf<Op extends Interval>(operations: readonly Op[], order: readonly Op[]): Op[] {
  const placed = new Set(order);
  const open = operations.filter((operation) => !placed.has(operation));
  const firstReturnNs = open.reduce((least, op) => Math.min(least, op.completedNs), Infinity);
  return open
    .filter(({ invokedNs }) => invokedNs <= firstReturnNs)
    .toSorted((a, b) => a.completedNs - b.completedNs);
}
