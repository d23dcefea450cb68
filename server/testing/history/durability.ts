/**
 * The writes of a history against everything that was stored by its end. Values are unique, so a
 * value names its write, and one look at the whole store tells for each write whether it is there
 * once, as often as was said, and nowhere else.
 *
 * - lost: acknowledged, and not stored;
 * - misplaced: stored as another version than was acknowledged;
 * - applied twice: stored as more than one version;
 * - dirty: said to have failed, and stored;
 * - phantom: stored, and never written;
 * - dirty read: seen by a read, and not stored as that version.
 */

import assert from 'node:assert/strict';

import type { Operation, Violation } from './operation.ts';

/** One version of one key. */
export type StoredVersion = {
  readonly key: string;
  readonly version: number;
  readonly value: string;
};

export type DurabilityReport = {
  readonly acknowledgedCount: number;
  readonly storedCount: number;
  /** Of the writes whose outcome is unknown, those that have taken effect. */
  readonly unknownStoredCount: number;
  readonly readCount: number;
  readonly violations: readonly Violation[];
};

/** `stored` holds every version of every key of the history. */
export function checkDurability(
  operations: readonly Operation[],
  stored: readonly StoredVersion[],
): DurabilityReport {
  const places = placesOf(stored);
  const writes = writesByValue(operations);
  const violations: Violation[] = [];
  let acknowledgedCount = 0;
  let unknownStoredCount = 0;
  let readCount = 0;
  for (const write of writes.values()) {
    const found = places.get(valueOf(write)) ?? [];
    if (isAcknowledged(write)) acknowledgedCount += 1;
    if (write.outcome.kind === 'unknown' && found.length > 0) unknownStoredCount += 1;
    violations.push(...checkWrite(write, found));
  }
  for (const operation of operations) {
    const { outcome } = operation;
    if (outcome.kind !== 'ok' || outcome.answer.kind !== 'seen') continue;
    readCount += 1;
    violations.push(...checkRead(operation, places, writes));
  }
  for (const version of stored) {
    if (writes.has(version.value)) continue;
    violations.push(
      violation('phantom', `stored as ${place(version)}, written by nobody`, version),
    );
  }
  return {
    acknowledgedCount,
    storedCount: stored.length,
    unknownStoredCount,
    readCount,
    violations,
  };
}

function checkWrite(write: Operation, found: readonly StoredVersion[]): Violation[] {
  const { key, outcome } = write;
  const violations: Violation[] = [];
  const report = (rule: string, message: string): void => {
    violations.push({ rule, message, key, evidence: [write] });
  };
  const places = found.map(place).join(', ');
  if (found.length > 1) report('applied twice', `stored as ${places}`);
  if (found.some((version) => version.key !== key)) report('misplaced', `stored as ${places}`);
  if (outcome.kind === 'fail' && found.length > 0) {
    report('dirty write', `failed (${outcome.reason}), but is stored as ${places}`);
  }
  if (outcome.kind !== 'ok') return violations;
  const { answer } = outcome;
  if (answer.kind === 'mismatch' && found.length > 0) {
    report('dirty write', `did not match, but is stored as ${places}`);
  }
  if (answer.kind !== 'written') return violations;
  if (found.length === 0) report('lost write', `version ${answer.version} was acknowledged`);
  else if (!found.some(({ version }) => version === answer.version)) {
    report('misplaced', `version ${answer.version} was acknowledged, stored as ${places}`);
  }
  return violations;
}

/** A version without its value (deleted since) says nothing about who wrote it. */
function checkRead(
  read: Operation,
  places: ReadonlyMap<string, readonly StoredVersion[]>,
  writes: ReadonlyMap<string, Operation>,
): Violation[] {
  const { key, outcome } = read;
  if (outcome.kind !== 'ok' || outcome.answer.kind !== 'seen') return [];
  const { value, version } = outcome.answer;
  if (value === null) return [];
  const found = places.get(value) ?? [];
  if (found.some((each) => each.key === key && each.version === version)) return [];
  const write = writes.get(value);
  const stored = found.length === 0 ? 'is not stored' : `is stored as ${found.map(place).join()}`;
  return [
    {
      rule: write === undefined ? 'phantom' : 'dirty read',
      message: `saw ${value} as version ${version}, which ${stored}`,
      key,
      evidence: write === undefined ? [read] : [write, read],
    },
  ];
}

function placesOf(stored: readonly StoredVersion[]): Map<string, StoredVersion[]> {
  const places = new Map<string, StoredVersion[]>();
  for (const version of stored) {
    const found = places.get(version.value);
    if (found === undefined) places.set(version.value, [version]);
    else found.push(version);
  }
  return places;
}

function writesByValue(operations: readonly Operation[]): Map<string, Operation> {
  const writes = new Map<string, Operation>();
  for (const operation of operations) {
    const { call } = operation;
    if (call.kind !== 'write') continue;
    assert(!writes.has(call.value), `two writes of ${call.value}: values must be unique`);
    writes.set(call.value, operation);
  }
  return writes;
}

function isAcknowledged({ outcome }: Operation): boolean {
  return outcome.kind === 'ok' && outcome.answer.kind === 'written';
}

function valueOf({ call }: Operation): string {
  assert(call.kind === 'write');
  return call.value;
}

function violation(rule: string, message: string, { key }: StoredVersion): Violation {
  return { rule, message, key, evidence: [] };
}

function place({ key, version }: StoredVersion): string {
  return `${key} version ${version}`;
}
