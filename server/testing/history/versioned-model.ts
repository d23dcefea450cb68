/**
 * A key of kv version 2: each write makes the next version, a check-and-set only if the current
 * version is the one it names. A delete takes the value away and leaves the version.
 */

import assert from 'node:assert/strict';

import type { StoredVersion } from './durability.ts';
import type { Operation, Seen } from './operation.ts';
import type { Model } from './wgl-search.ts';

export const versionedModel: Model<Operation, Seen> = {
  initial: { value: null, version: 0 },
  isMemoryless: false,
  isInterchangeable: ({ isUnseen }) => isUnseen === true,
  isObservation: ({ call, outcome }) =>
    call.kind === 'read' || (outcome.kind === 'ok' && outcome.answer.kind === 'mismatch'),
  fingerprint: ({ value, version }) => `${version} ${value === null ? 'gone' : `= ${value}`}`,
  step(state, { call, outcome }) {
    const answer = outcome.kind === 'ok' ? outcome.answer : undefined;
    switch (call.kind) {
      case 'read':
        assert(answer?.kind === 'seen', 'a read without an answer');
        return isSame(state, answer) ? state : undefined;
      case 'delete':
        return state.value === null ? state : { value: null, version: state.version };
      case 'write': {
        const isMatch = call.cas === undefined || call.cas === state.version;
        if (answer?.kind === 'mismatch') return isMatch ? undefined : state;
        if (!isMatch) return undefined;
        const version = state.version + 1;
        if (answer?.kind === 'written' && answer.version !== version) return undefined;
        return { value: call.value, version };
      }
    }
  },
  stateAfter({ call, outcome }) {
    if (outcome.kind !== 'ok') return undefined;
    const { answer } = outcome;
    if (answer.kind === 'seen') return { value: answer.value, version: answer.version };
    if (answer.kind !== 'written' || call.kind !== 'write') return undefined;
    return { value: call.value, version: answer.version };
  },
};

/**
 * Says of the unknown writes of one key what the reads tell: the version that a value was seen as,
 * or that nobody saw it. Values are unique. Without this a search has to try every choice among the
 * writes that a partition left open.
 */
export function narrowUnknown(operations: readonly Operation[]): Operation[] {
  const versions = new Map<string, number>();
  for (const { outcome } of operations) {
    if (outcome.kind !== 'ok' || outcome.answer.kind !== 'seen') continue;
    const { value, version } = outcome.answer;
    if (value !== null) versions.set(value, version);
  }
  return operations.map((operation): Operation => {
    const { call, outcome } = operation;
    if (call.kind !== 'write' || outcome.kind !== 'unknown') return operation;
    const version = versions.get(call.value);
    // A check-and-set has its effect on one version only: it is not like any other.
    if (version === undefined) return { ...operation, isUnseen: call.cas === undefined };
    return { ...operation, outcome: { kind: 'ok', answer: { kind: 'written', version } } };
  });
}

/**
 * The same from what was stored in the end, which tells it of every write: as what version it took
 * effect, or that it never did.
 */
export function resolveUnknown(
  operations: readonly Operation[],
  stored: readonly StoredVersion[],
): Operation[] {
  const versions = new Map(stored.map(({ value, version }) => [value, version]));
  return operations.flatMap((operation): Operation[] => {
    const { call, outcome } = operation;
    if (call.kind !== 'write' || outcome.kind !== 'unknown') return [operation];
    const version = versions.get(call.value);
    if (version === undefined) return [];
    return [{ ...operation, outcome: { kind: 'ok', answer: { kind: 'written', version } } }];
  });
}

function isSame(left: Seen, right: Seen): boolean {
  return left.version === right.version && left.value === right.value;
}
