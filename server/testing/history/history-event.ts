/**
 * A history as Jepsen writes it: an event when an operation is invoked, another when it completes,
 * `info` where its outcome is unknown. Lines of JSON carry all that the checkers need, so a history
 * that was written can be read and checked again.
 */

import assert from 'node:assert/strict';

import type { Answer, Call, Operation, Outcome, ReadLevel } from './operation.ts';

export type HistoryEvent = {
  readonly index: number;
  readonly type: 'invoke' | 'ok' | 'fail' | 'info';
  readonly process: number;
  readonly f: Call['kind'];
  readonly key: string;
  /** What a write writes or a read has seen; null of a read that has not. */
  readonly value: string | null;
  /** Nanoseconds since the run began. */
  readonly time: number;
  readonly node?: string | undefined;
  readonly level?: ReadLevel | undefined;
  readonly token?: number | undefined;
  readonly boundNs?: number | undefined;
  readonly cas?: number | undefined;
  readonly version?: number | undefined;
  /** The index that the answer claims. */
  readonly at?: number | undefined;
  readonly error?: string | undefined;
};

/** A check-and-set without effect is a failed operation to Jepsen, and an observation to us. */
const MISMATCH = 'check-and-set mismatch';

/** In the order of time. An unknown outcome is told at the end, when nothing more was heard. */
export function eventsOf(operations: readonly Operation[]): HistoryEvent[] {
  const endNs = operations.reduce(
    (latest, { invokedNs, completedNs }) =>
      Math.max(latest, invokedNs, completedNs === Infinity ? 0 : completedNs),
    0,
  );
  const events = operations.flatMap((operation) => [
    { ...invocationOf(operation), rank: 1 },
    // What ended when another began ended before it.
    {
      ...completionOf(operation, endNs),
      rank: operation.invokedNs === operation.completedNs ? 2 : 0,
    },
  ]);
  return events
    .toSorted((a, b) => a.time - b.time || a.rank - b.rank)
    .map(({ rank: _rank, ...event }, index) => ({ ...event, index }));
}

/** The inverse of `eventsOf`, in the order of invocation. */
export function operationsOf(events: readonly HistoryEvent[]): Operation[] {
  const open = new Map<number, HistoryEvent>();
  const operations: Operation[] = [];
  for (const event of events) {
    const invocation = open.get(event.process);
    if (event.type === 'invoke') {
      assert(invocation === undefined, `process ${event.process} has two operations at once`);
      open.set(event.process, event);
      continue;
    }
    assert(invocation !== undefined, `event ${event.index} completes nothing`);
    open.delete(event.process);
    operations.push(operationOf(invocation, event));
  }
  assert(open.size === 0, 'an operation has no completion');
  return operations.toSorted((a, b) => a.invokedNs - b.invokedNs);
}

export function toJsonLines(operations: readonly Operation[]): string {
  return eventsOf(operations)
    .map((event) => `${JSON.stringify(event)}\n`)
    .join('');
}

export function fromJsonLines(text: string): Operation[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return operationsOf(lines.map((line) => JSON.parse(line) as HistoryEvent));
}

function invocationOf({ process, key, call, node, invokedNs }: Operation): HistoryEvent {
  return { ...eventFields(call, key), type: 'invoke', process, time: invokedNs, node };
}

function completionOf(operation: Operation, endNs: number): HistoryEvent {
  const { process, key, call, node, outcome, completedNs } = operation;
  const event = { ...eventFields(call, key), process, time: completedNs, node };
  switch (outcome.kind) {
    case 'fail':
      return { ...event, type: 'fail', error: outcome.reason };
    case 'unknown':
      return { ...event, type: 'info', time: endNs, error: outcome.reason };
    case 'ok':
      return { ...event, ...answerFields(outcome.answer), at: outcome.index };
  }
}

function eventFields(
  call: Call,
  key: string,
): Pick<HistoryEvent, 'index' | 'f' | 'key' | 'value' | 'level' | 'token' | 'boundNs' | 'cas'> {
  const common = { index: 0, f: call.kind, key, value: null };
  switch (call.kind) {
    case 'read':
      return { ...common, level: call.level, token: call.token, boundNs: call.boundNs };
    case 'write':
      return { ...common, value: call.value, cas: call.cas };
    case 'delete':
      return common;
  }
}

function answerFields(
  answer: Answer,
): Pick<HistoryEvent, 'type'> & Partial<Pick<HistoryEvent, 'value' | 'version' | 'error'>> {
  switch (answer.kind) {
    case 'seen':
      return { type: 'ok', value: answer.value, version: answer.version };
    case 'written':
      return { type: 'ok', version: answer.version };
    case 'mismatch':
      return { type: 'fail', error: MISMATCH };
    case 'deleted':
      return { type: 'ok' };
  }
}

function operationOf(invocation: HistoryEvent, completion: HistoryEvent): Operation {
  const { process, key, node, time: invokedNs } = invocation;
  const completedNs = completion.type === 'info' ? Infinity : completion.time;
  const call = callOf(invocation);
  return { process, key, call, outcome: outcomeOf(completion), invokedNs, completedNs, node };
}

function callOf({ f, value, level, token, boundNs, cas }: HistoryEvent): Call {
  switch (f) {
    case 'read':
      assert(level !== undefined, 'a read says its level');
      return { kind: 'read', level, token, boundNs };
    case 'write':
      assert(value !== null, 'a write says its value');
      return { kind: 'write', value, cas };
    case 'delete':
      return { kind: 'delete' };
  }
}

function outcomeOf({ type, f, value, version, at, error }: HistoryEvent): Outcome {
  const reason = error ?? '';
  if (type === 'info') return { kind: 'unknown', reason };
  if (reason === MISMATCH) return { kind: 'ok', answer: { kind: 'mismatch' }, index: at };
  if (type === 'fail') return { kind: 'fail', reason };
  if (f === 'delete') return { kind: 'ok', answer: { kind: 'deleted' }, index: at };
  assert(version !== undefined, 'an answer says its version');
  const answer: Answer =
    f === 'read' ? { kind: 'seen', value, version } : { kind: 'written', version };
  return { kind: 'ok', answer, index: at };
}
