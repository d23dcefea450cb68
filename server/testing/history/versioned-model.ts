/**
 * A key of kv version 2: each write makes the next version, a check-and-set only if the current
 * version is the one it names. A delete takes the value away and leaves the version.
 */

import assert from 'node:assert/strict';

import type { Operation, Seen } from './operation.ts';
import type { Model } from './wgl-search.ts';

export const versionedModel: Model<Operation, Seen> = {
  initial: { value: null, version: 0 },
  isMemoryless: false,
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

function isSame(left: Seen, right: Seen): boolean {
  return left.version === right.version && left.value === right.value;
}
