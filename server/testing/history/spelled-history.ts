/** Operations on the key `k` in few words, for histories written out by hand. */

import type { Answer, Call, Operation, Outcome } from './operation.ts';

let processes = 0;

export function operation(
  [invokedNs, completedNs]: readonly [number, number],
  call: Call,
  outcome: Outcome,
): Operation {
  return { process: processes++, key: 'k', call, outcome, invokedNs, completedNs };
}

export function read(from: number, to: number, value: string | null, version = 0): Operation {
  return ok([from, to], { kind: 'read', level: 'linearizable' }, { kind: 'seen', value, version });
}

export function write(from: number, to: number, value: string): Operation {
  return ok([from, to], { kind: 'write', value }, { kind: 'written', version: 0 });
}

export function written(
  from: number,
  to: number,
  value: string,
  version: number,
  cas?: number,
): Operation {
  return ok([from, to], { kind: 'write', value, cas }, { kind: 'written', version });
}

export function mismatch(from: number, to: number, value: string, cas: number): Operation {
  return ok([from, to], { kind: 'write', value, cas }, { kind: 'mismatch' });
}

export function deleted(from: number, to: number): Operation {
  return ok([from, to], { kind: 'delete' }, { kind: 'deleted' });
}

export function unknownWrite(from: number, value: string, cas?: number): Operation {
  const outcome: Outcome = { kind: 'unknown', reason: 'timeout' };
  return operation([from, Infinity], { kind: 'write', value, cas }, outcome);
}

function ok(interval: readonly [number, number], call: Call, answer: Answer): Operation {
  return operation(interval, call, { kind: 'ok', answer });
}
