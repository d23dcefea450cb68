/** A key as a register: it holds the value that was last written, or null. Versions are ignored. */

import assert from 'node:assert/strict';

import type { Operation } from './operation.ts';
import type { Model } from './wgl-search.ts';

export const registerModel: Model<Operation, string | null> = {
  initial: null,
  isMemoryless: true,
  // At most one in a row is taken anyway.
  isInterchangeable: () => false,
  isObservation: ({ call }) => call.kind === 'read',
  fingerprint: (state) => state,
  step(state, { call, outcome }) {
    switch (call.kind) {
      case 'read':
        assert(outcome.kind === 'ok' && outcome.answer.kind === 'seen', 'a read without an answer');
        return outcome.answer.value === state ? state : undefined;
      case 'write':
        assert(call.cas === undefined, 'a register has no versions to check');
        return call.value;
      case 'delete':
        return null;
    }
  },
  stateAfter({ call, outcome }) {
    switch (call.kind) {
      case 'read':
        return outcome.kind === 'ok' && outcome.answer.kind === 'seen'
          ? outcome.answer.value
          : undefined;
      case 'write':
        return call.value;
      case 'delete':
        return null;
    }
  },
};
