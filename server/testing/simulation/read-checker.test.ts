import { describe, expect, test } from 'vitest';

import { Ledger } from './invariants.ts';
import { ReadChecker } from './read-checker.ts';

/** Entries 1 to 3, committed at 10, 20 and 30 ms. */
function checker(): ReadChecker {
  const reads = new ReadChecker(new Ledger());
  for (const index of [1, 2, 3]) reads.onCommitted(index, 10 * index);
  return reads;
}

describe('the checker of reads sees', () => {
  test('a read index below what was committed', () => {
    const reads = checker();
    const [low, high] = [reads.ask(3), reads.ask(3)];
    reads.onReadStates([{ kind: 'confirmed', id: high, index: 3 }]);
    expect(() => reads.onReadStates([{ kind: 'confirmed', id: low, index: 2 }])).toThrow(/^I14/);
  });

  test('a read index that nobody committed', () => {
    const reads = checker();
    const id = reads.ask(3);
    expect(() => reads.onReadStates([{ kind: 'confirmed', id, index: 4 }])).toThrow(/^I14/);
  });

  test('an end that comes twice', () => {
    const reads = checker();
    const id = reads.ask(3);
    reads.onReadStates([{ kind: 'failed', id }]);
    expect(() => reads.onReadStates([{ kind: 'failed', id }])).toThrow(/^I14/);
  });

  test('a state that is called too fresh', () => {
    const reads = checker();
    reads.onFreshness('n1', { asOfMs: 20, index: 1 });
    expect(() => reads.onFreshness('n1', { asOfMs: 21, index: 1 })).toThrow(/^I14/);
  });
});
