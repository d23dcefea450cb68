/**
 * Every read against the log: what it saw of a key must be what the entries up to the index that
 * its answer claims leave there, no older and no newer. Holds at every level and on every node.
 *
 * Linear but for a binary search per read. Finds what no search over values can: a claim that runs
 * ahead of a cache, a batch that is visible in part, an index that went back.
 */

import type { Operation, Seen, Violation } from './operation.ts';

/** The effect of a log entry on one key; several may share an index. */
export type LogEffect = { readonly index: number; readonly key: string; readonly state: Seen };

export type ExactIndexReport = {
  readonly checkedCount: number;
  readonly violations: readonly Violation[];
};

const NOTHING: Seen = { value: null, version: 0 };

/** `effects` in the order of the log, which is complete up to `lastIndex`. */
export function checkExactIndex(
  operations: readonly Operation[],
  log: { readonly effects: readonly LogEffect[]; readonly lastIndex: number },
): ExactIndexReport {
  const byKey = effectsByKey(log.effects);
  const violations: Violation[] = [];
  let checkedCount = 0;
  for (const operation of operations) {
    const { outcome, key } = operation;
    if (outcome.kind !== 'ok' || outcome.index === undefined) continue;
    const { answer, index } = outcome;
    if (answer.kind !== 'seen') continue;
    checkedCount += 1;
    const message =
      log.lastIndex < index
        ? `claims index ${index}, but the log ends at ${log.lastIndex}`
        : difference(answer, byKey.get(key) ?? [], index);
    if (message === undefined) continue;
    violations.push({ rule: 'exact index', message, key, evidence: [operation] });
  }
  return { checkedCount, violations };
}

function effectsByKey(effects: readonly LogEffect[]): Map<string, LogEffect[]> {
  const byKey = new Map<string, LogEffect[]>();
  for (const effect of effects) {
    const ofKey = byKey.get(effect.key);
    if (ofKey === undefined) byKey.set(effect.key, [effect]);
    else ofKey.push(effect);
  }
  return byKey;
}

function difference(seen: Seen, effects: readonly LogEffect[], index: number): string | undefined {
  const position = countUpTo(effects, index);
  const expected = effects[position - 1]?.state ?? NOTHING;
  if (isSame(seen, expected)) return undefined;
  const at = effects.find(({ state }) => isSame(seen, state))?.index;
  const origin = at === undefined ? 'at no index' : `at index ${at}`;
  return `saw ${describe(seen)}, which is there ${origin}; at index ${index} it is ${describe(expected)}`;
}

/** How many effects have an index of at most `index`. */
function countUpTo(effects: readonly LogEffect[], index: number): number {
  let start = 0;
  let end = effects.length;
  while (start < end) {
    const middle = (start + end) >>> 1;
    if ((effects[middle]?.index ?? Infinity) <= index) start = middle + 1;
    else end = middle;
  }
  return start;
}

function isSame(left: Seen, right: Seen): boolean {
  return left.value === right.value && left.version === right.version;
}

function describe({ value, version }: Seen): string {
  return `${value} version ${version}`;
}
