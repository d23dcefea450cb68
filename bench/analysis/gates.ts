/**
 * The validity gates: which findings about a measurement forbid which numbers of it.
 *
 * Each gate is one row of a table: a limit, the side on which it passes, what its failure costs,
 * and how that reads in a report. The limits are declared here and nowhere else, before any result
 * is seen.
 */

import assert from 'node:assert/strict';

/**
 * A number that knows its unit and its uncertainty, or the reason why there is none: what cannot be
 * known is never left blank and never guessed.
 */
export type Measured<T = number> =
  | {
      readonly value: T;
      readonly unit: string;
      /** Bounds of the 95 % interval. */
      readonly low?: T;
      readonly high?: T;
      /** Effective sample count. */
      readonly samples?: number;
    }
  | Refused;

export type Refused = { readonly refused: string };

/** What a failed gate takes away. */
export type GateEffect =
  /** Throughput is the generator's, not the server's. */
  | 'refuse-throughput'
  /** Response times are polluted. */
  | 'refuse-latency'
  /** Only this quantile and those above it. */
  | 'refuse-quantile'
  /** The point was not saturated: it has no capacity. */
  | 'hollow-point'
  /** No steady state: the figure of this phase is not a figure of the system. */
  | 'refuse-phase'
  /** The offered rate was not carried. */
  | 'rate-not-sustained'
  /** Something is counted wrongly: nothing of the run holds. */
  | 'invalidate-run';

export type GateId = keyof typeof GATES;

export type Gate = {
  readonly id: GateId;
  readonly value: number;
  readonly limit: number;
  readonly pass: boolean;
  readonly effect: GateEffect;
  /** One clause for a refused cell; says value and limit, whether passed or not. */
  readonly reason: string;
};

type GateRow = {
  readonly limit: number;
  readonly passes: 'at-most' | 'at-least';
  readonly effect: GateEffect;
  readonly says: (value: string, limit: string) => string;
  readonly format: (value: number) => string;
};

const percent = (value: number): string => `${Number((value * 100).toFixed(2))} %`;

const GATES = {
  'generator-event-loop': {
    limit: 0.8,
    passes: 'at-most',
    effect: 'refuse-throughput',
    says: (value, limit) => `generator's event loop was ${value} busy, limit ${limit}`,
    format: percent,
  },
  'hollow-point': {
    limit: 0.95,
    passes: 'at-least',
    effect: 'hollow-point',
    says: (value, limit) =>
      `busiest node used ${value} of its quota, saturation begins at ${limit}`,
    format: percent,
  },
  'utilization-law': {
    limit: 0.1,
    passes: 'at-most',
    effect: 'refuse-phase',
    says: (value, limit) =>
      `utilization differs from throughput x demand by ${value}, limit ${limit}`,
    format: percent,
  },
  'littles-law': {
    limit: 0.05,
    passes: 'at-most',
    effect: 'refuse-phase',
    says: (value, limit) =>
      `requests in flight differ from throughput x response time by ${value}, limit ${limit}`,
    format: percent,
  },
  'not-steady': {
    limit: 0.05,
    passes: 'at-most',
    effect: 'refuse-phase',
    says: (value, limit) => `demand still moves by ${value}, steady means ${limit}`,
    format: percent,
  },
  'rate-sustained': {
    limit: 0.99,
    passes: 'at-least',
    effect: 'rate-not-sustained',
    says: (value, limit) => `achieved ${value} of the offered rate, needs ${limit}`,
    format: percent,
  },
  dropped: {
    limit: 0,
    passes: 'at-most',
    effect: 'refuse-quantile',
    says: (value) => `${value} requests were dropped`,
    format: formatCount,
  },
  errors: {
    limit: 0.001,
    passes: 'at-most',
    effect: 'refuse-latency',
    says: (value, limit) => `${value} of the requests failed, limit ${limit}`,
    format: percent,
  },
  'invalid-answers': {
    limit: 0,
    passes: 'at-most',
    effect: 'invalidate-run',
    says: (value) => `${value} answers were wrong`,
    format: formatCount,
  },
  misrouted: {
    limit: 0,
    passes: 'at-most',
    effect: 'refuse-phase',
    says: (value) => `${value} answers came from another node than the mode says`,
    format: formatCount,
  },
  'too-few-intervals': {
    limit: 12,
    passes: 'at-least',
    effect: 'refuse-phase',
    says: (value, limit) =>
      `${value} intervals in which all parties completed something, needs ${limit}`,
    format: formatCount,
  },
  accounting: {
    limit: 0,
    passes: 'at-most',
    effect: 'invalidate-run',
    says: (value) => `${value} planned requests have no outcome`,
    format: formatCount,
  },
  'background-errors': {
    limit: 0.001,
    passes: 'at-most',
    effect: 'refuse-latency',
    says: (value, limit) => `${value} of the background writes failed, limit ${limit}`,
    format: percent,
  },
  'background-rate': {
    limit: 0.95,
    passes: 'at-least',
    effect: 'rate-not-sustained',
    says: (value, limit) =>
      `${value} of the background writes were acknowledged in time, needs ${limit}`,
    format: percent,
  },
  'marker-errors': {
    limit: 0.01,
    passes: 'at-most',
    effect: 'refuse-latency',
    says: (value, limit) => `${value} of the markers met an error, limit ${limit}`,
    format: percent,
  },
  /** More than lie beyond p99 could be all that lies beyond it. */
  'markers-discarded': {
    limit: 0.01,
    passes: 'at-most',
    effect: 'refuse-latency',
    says: (value, limit) =>
      `${value} of the markers were not seen in time or answered by another node, limit ${limit}`,
    format: percent,
  },
  'leader-changed': {
    limit: 0,
    passes: 'at-most',
    effect: 'refuse-phase',
    says: (value) => `the active node changed ${value} times`,
    format: formatCount,
  },
} as const satisfies Record<string, GateRow>;

/** Judges `value`, which must be a number: what was not measured cannot pass a gate. */
export function judgeGate(id: GateId, value: number): Gate {
  assert(Number.isFinite(value), `gate ${id} judges a value that was not measured: ${value}`);
  const row: GateRow = GATES[id];
  return {
    id,
    value,
    limit: row.limit,
    pass: row.passes === 'at-most' ? value <= row.limit : row.limit <= value,
    effect: row.effect,
    reason: row.says(row.format(value), row.format(row.limit)),
  };
}

/** Returns the reasons of the failed gates among `gates` that have one of the `effects`. */
export function refusals(gates: readonly Gate[], effects: readonly GateEffect[]): string[] {
  return gates
    .filter((gate) => !gate.pass && effects.includes(gate.effect))
    .map((gate) => gate.reason);
}

/** Writes a count in groups of three digits: `10 000`. */
export function formatCount(count: number): string {
  return Math.floor(count)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ' ');
}
