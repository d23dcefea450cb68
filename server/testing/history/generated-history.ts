/**
 * Histories that are linearizable by construction: every operation takes effect at one moment
 * between its call and its return, on a store of versions with an index, as the real one.
 */

import { Random } from '../random.ts';
import type { LogEffect } from './exact-index.ts';
import type { Answer, Call, Operation, Outcome, Seen } from './operation.ts';
import type { StoredVersion } from './durability.ts';

export type HistoryPlan = {
  readonly seed: number;
  readonly operationCount: number;
  readonly processCount: number;
  readonly keyCount: number;
  /** Of the writes. */
  readonly unknownShare: number;
  readonly hasVersions: boolean;
};

export type GeneratedHistory = {
  readonly operations: readonly Operation[];
  readonly effects: readonly LogEffect[];
  readonly stored: readonly StoredVersion[];
  readonly lastIndex: number;
};

type Planned = {
  readonly process: number;
  readonly key: string;
  readonly call: Call;
  readonly invokedNs: number;
  /** Infinity: never. */
  readonly effectNs: number;
  readonly completedNs: number;
};

const DURATION_NS_MAX = 1000;
const REST_NS_MAX = 300;
const NOTHING: Seen = { value: null, version: 0 };

export function generateHistory(plan: HistoryPlan): GeneratedHistory {
  const planned = planOperations(plan).toSorted((a, b) => a.effectNs - b.effectNs);
  const states = new Map<string, Seen>();
  const effects: LogEffect[] = [];
  const stored: StoredVersion[] = [];
  let index = 0;
  const operations = planned.map((operation): Operation => {
    const { process, key, call, invokedNs, completedNs, effectNs } = operation;
    const before = states.get(key) ?? NOTHING;
    const { answer, after } = applied(call, before, plan.hasVersions);
    if (effectNs !== Infinity && after !== before) {
      index += 1;
      states.set(key, after);
      effects.push({ index, key, state: after });
      if (answer.kind === 'written' && call.kind === 'write') {
        stored.push({ key, version: after.version, value: call.value });
      }
    }
    const outcome: Outcome =
      completedNs === Infinity
        ? { kind: 'unknown', reason: 'timeout' }
        : { kind: 'ok', answer, index };
    return { process, key, call, invokedNs, completedNs, outcome };
  });
  return { operations, effects, stored, lastIndex: index };
}

function planOperations(plan: HistoryPlan): Planned[] {
  const random = new Random(plan.seed, 'history');
  const clocks = Array.from({ length: plan.processCount }, (_, process) => ({ process, ns: 0 }));
  return Array.from({ length: plan.operationCount }, (_, serial): Planned => {
    const clock = random.pick(clocks);
    const invokedNs = clock.ns + random.between(1, REST_NS_MAX);
    const returnNs = invokedNs + random.between(2, DURATION_NS_MAX);
    const call = planCall(random, plan.hasVersions, serial);
    const isUnknown = call.kind !== 'read' && random.chance(plan.unknownShare);
    const effectNs = random.between(invokedNs, returnNs) + random.next();
    const operation = {
      process: clock.process,
      key: `k${random.between(1, plan.keyCount)}`,
      call,
      invokedNs,
      // An unknown one may take effect long after it was given up, or never.
      effectNs: isUnknown ? lateEffect(random, effectNs) : Math.min(effectNs, returnNs),
      completedNs: isUnknown ? Infinity : returnNs,
    };
    clock.ns = returnNs;
    // The process of an operation that may still be under way does nothing more.
    if (isUnknown) clock.process += plan.processCount;
    return operation;
  });
}

function lateEffect(random: Random, effectNs: number): number {
  return random.chance(0.5) ? Infinity : effectNs + random.between(0, 5 * DURATION_NS_MAX);
}

function planCall(random: Random, hasVersions: boolean, serial: number): Call {
  if (random.chance(0.5)) return { kind: 'read', level: 'linearizable' };
  if (random.chance(0.1)) return { kind: 'delete' };
  const cas = hasVersions && random.chance(0.2) ? random.between(0, 3) : undefined;
  return { kind: 'write', value: `v${serial}`, cas };
}

function applied(
  call: Call,
  before: Seen,
  hasVersions: boolean,
): { readonly answer: Answer; readonly after: Seen } {
  switch (call.kind) {
    case 'read':
      return { answer: { kind: 'seen', ...before }, after: before };
    case 'delete': {
      const after = before.value === null ? before : { ...before, value: null };
      return { answer: { kind: 'deleted' }, after };
    }
    case 'write': {
      if (call.cas !== undefined && call.cas !== before.version) {
        return { answer: { kind: 'mismatch' }, after: before };
      }
      const version = hasVersions ? before.version + 1 : 0;
      return { answer: { kind: 'written', version }, after: { value: call.value, version } };
    }
  }
}
