/**
 * Histories in EDN, for Jepsen's own checkers (`elle-cli`, Knossos).
 *
 * - `register`: one key, `:f :read` or `:write` with the bare value (`--model register`).
 * - `transactions`: any keys, each operation a transaction of one micro-operation
 *   (`--model rw-register`). A delete writes nil.
 */

import assert from 'node:assert/strict';

import { eventsOf, type HistoryEvent } from './history-event.ts';
import type { Operation } from './operation.ts';

export type EdnForm = 'register' | 'transactions';

/** One map per line. */
export function toEdn(operations: readonly Operation[], form: EdnForm): string {
  if (form === 'register') {
    const keys = new Set(operations.map(({ key }) => key));
    assert(keys.size <= 1, 'a register is one key');
  }
  return eventsOf(operations)
    .map((event) => `${ednEvent(event, form)}\n`)
    .join('');
}

function ednEvent(event: HistoryEvent, form: EdnForm): string {
  const { index, time, type, process, error } = event;
  const fields = [
    [':index', `${index}`],
    [':time', `${Math.round(time)}`],
    [':type', `:${type}`],
    [':process', `${process}`],
    [':f', form === 'register' ? `:${registerFunction(event)}` : ':txn'],
    [':value', form === 'register' ? ednText(event.value) : transactionOf(event)],
    ...(error === undefined ? [] : [[':error', ednText(error)]]),
  ];
  return `{${fields.map((field) => field.join(' ')).join(', ')}}`;
}

function registerFunction({ f }: HistoryEvent): 'read' | 'write' {
  return f === 'read' ? 'read' : 'write';
}

function transactionOf({ f, key, value }: HistoryEvent): string {
  return `[[${f === 'read' ? ':r' : ':w'} ${ednText(key)} ${ednText(value)}]]`;
}

/** EDN's strings escape as JSON's do, but know no `\b`, `\f` or `\/`; keys and values have none. */
function ednText(text: string | null): string {
  return text === null ? 'nil' : JSON.stringify(text);
}
