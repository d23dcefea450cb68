/**
 * Real time against claimed indexes, in O(n log n): whatever an answer has acknowledged was
 * committed by then, so an answer that promises to be no older than that must claim at least the
 * same index.
 *
 * - A write, and a read that is linearizable, includes all that was acknowledged before it began.
 * - A bounded read includes all that was acknowledged its bound before it began.
 *
 * Together with the exact check of values at claimed indexes (`exact-index.ts`) this decides
 * linearizability without a search, as long as the claims are believed; the search does without.
 */

import type { Operation, Violation } from './operation.ts';

export type FreshnessReport = {
  readonly checkedCount: number;
  readonly violations: readonly Violation[];
};

type Claim = { readonly operation: Operation; readonly index: number };

export function checkFreshness(operations: readonly Operation[]): FreshnessReport {
  const claims = operations.flatMap((operation): Claim[] => {
    const { outcome } = operation;
    return outcome.kind === 'ok' && outcome.index !== undefined
      ? [{ operation, index: outcome.index }]
      : [];
  });
  const acknowledged = highestSoFar(claims);
  const violations: Violation[] = [];
  let checkedCount = 0;
  for (const { operation, index } of claims) {
    const ageNs = agePermittedNs(operation);
    if (ageNs === undefined) continue;
    checkedCount += 1;
    const newest = lastBefore(acknowledged, operation.invokedNs - ageNs);
    if (newest === undefined || newest.index <= index) continue;
    violations.push({
      rule: ageNs === 0 ? 'real-time order' : 'bounded staleness',
      message:
        `claims index ${index}, but ${newest.index} was acknowledged ` +
        `${milliseconds(operation.invokedNs - newest.operation.completedNs)} ms before it began`,
      key: operation.key,
      evidence: [newest.operation, operation],
    });
  }
  return { checkedCount, violations };
}

/** How long before its invocation an operation may end what it includes; undefined: no promise. */
function agePermittedNs({ call }: Operation): number | undefined {
  if (call.kind !== 'read') return 0;
  switch (call.level) {
    case 'linearizable':
      return 0;
    case 'bounded':
      return call.boundNs;
    case 'leader':
    case 'session':
    case 'stale':
      return undefined;
  }
}

/** In the order of completion, only those that claim more than all before. */
function highestSoFar(claims: readonly Claim[]): Claim[] {
  const highest: Claim[] = [];
  const sorted = claims.toSorted((a, b) => a.operation.completedNs - b.operation.completedNs);
  for (const claim of sorted) {
    if ((highest.at(-1)?.index ?? -1) < claim.index) highest.push(claim);
  }
  return highest;
}

/** The last that completed strictly before a time: what completes at it may have overlapped. */
function lastBefore(claims: readonly Claim[], timeNs: number): Claim | undefined {
  let start = 0;
  let end = claims.length;
  while (start < end) {
    const middle = (start + end) >>> 1;
    if ((claims[middle]?.operation.completedNs ?? Infinity) < timeNs) start = middle + 1;
    else end = middle;
  }
  return claims[start - 1];
}

function milliseconds(ns: number): string {
  return (ns / 1e6).toFixed(3);
}
