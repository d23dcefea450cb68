/**
 * When each request of an open-loop run is *intended* to start.
 *
 * A schedule reads no clock and hears of no response, so a slow server cannot slow it down. That
 * is what keeps coordinated omission out of the numbers: response time counts from here.
 *
 * Every schedule is two things put together: an arrival sequence of rate one (evenly spaced, or
 * the partial sums of exponential gaps), and a rate profile that stretches it, given as the
 * inverse of the expected number of arrivals by time t. The n-th arrival is computed from n, never
 * from a rounded predecessor, so that rounding cannot accumulate into drift.
 */

import assert from 'node:assert/strict';
import type { Random } from '../random.ts';

const NS_PER_SECOND = 1_000_000_000;
const NS_PER_MS = 1_000_000;

/** Rates are arrivals per second. `poisson` and `constant` name their arrivals, the others say. */
export type ScheduleSpec =
  | { readonly kind: 'poisson' | 'constant'; readonly rate: number }
  | {
      /** From one rate to another in a straight line, then staying there. */
      readonly kind: 'ramp';
      readonly startRate: number;
      readonly endRate: number;
      readonly durationMs: number;
      readonly arrival: Arrival;
    }
  | {
      /** One rate after another; the last one continues. */
      readonly kind: 'step';
      readonly steps: readonly { readonly rate: number; readonly durationMs: number }[];
      readonly arrival: Arrival;
    }
  | {
      /** Each period begins with `burstMs` at `burstRate`; the rest of it runs at `rate`. */
      readonly kind: 'burst';
      readonly rate: number;
      readonly burstRate: number;
      readonly burstMs: number;
      readonly periodMs: number;
      readonly arrival: Arrival;
    };

export type Arrival = 'poisson' | 'even';

/** An infinite, strictly increasing sequence of intended start times. */
export type Schedule = {
  /** Returns the next intended start, in whole nanoseconds from the start of the phase. */
  nextNs(): number;
};

/** Maps an expected number of arrivals to the time, in ns, by which they have come. */
type RateProfile = (arrivalCount: number) => number;

export function createSchedule(spec: ScheduleSpec, random: Random): Schedule {
  const profile = rateProfile(spec);
  const nextArrival = arrivalOf(spec) === 'even' ? evenArrivals() : poissonArrivals(random);

  let previousNs = -1;
  return {
    nextNs: () => {
      // Two arrivals may fall into the same nanosecond: the later one moves up, the sequence does not.
      previousNs = Math.max(previousNs + 1, Math.ceil(profile(nextArrival())));
      return previousNs;
    },
  };
}

/** Returns the expected number of arrivals in the first `durationMs` per second of it. */
export function meanRate(spec: ScheduleSpec, durationMs: number): number {
  const profile = rateProfile(spec);
  const durationNs = durationMs * NS_PER_MS;
  let below = 0;
  let above = 1;
  while (profile(above) < durationNs && above < Number.MAX_SAFE_INTEGER) above *= 2;
  for (let halving = 0; halving < 100; halving++) {
    const middle = (below + above) / 2;
    if (profile(middle) < durationNs) below = middle;
    else above = middle;
  }
  return (above * 1000) / durationMs;
}

function arrivalOf(spec: ScheduleSpec): Arrival {
  switch (spec.kind) {
    case 'poisson':
      return 'poisson';
    case 'constant':
      return 'even';
    case 'ramp':
    case 'step':
    case 'burst':
      return spec.arrival;
  }
}

function evenArrivals(): () => number {
  let count = 0;
  return () => ++count;
}

/** Partial sums of exponential gaps of mean one. */
function poissonArrivals(random: Random): () => number {
  let sum = 0;
  // 1 - next() lies in (0, 1]: the logarithm is finite.
  return () => (sum -= Math.log(1 - random.next()));
}

function rateProfile(spec: ScheduleSpec): RateProfile {
  switch (spec.kind) {
    case 'poisson':
    case 'constant':
      assertRate(spec.rate);
      return (count) => (count * NS_PER_SECOND) / spec.rate;
    case 'ramp':
      return rampProfile(spec.startRate, spec.endRate, spec.durationMs * NS_PER_MS);
    case 'step':
      return stepProfile(spec.steps);
    case 'burst':
      return burstProfile(spec);
  }
}

/** Solves r0 t + (r1 - r0) t^2 / 2T = n for t, in the form that stays exact where r0 = r1. */
function rampProfile(startRate: number, endRate: number, durationNs: number): RateProfile {
  assert(0 <= startRate, `start rate must not be negative: ${startRate}`);
  assertRate(endRate);
  assert(0 < durationNs, `ramp must last: ${durationNs} ns`);
  const start = startRate / NS_PER_SECOND;
  const end = endRate / NS_PER_SECOND;
  const slope = (end - start) / durationNs;
  const arrivalsInRamp = ((start + end) / 2) * durationNs;

  return (count) =>
    count < arrivalsInRamp
      ? (2 * count) / (start + Math.sqrt(Math.max(0, start * start + 2 * slope * count)))
      : durationNs + (count - arrivalsInRamp) / end;
}

function stepProfile(steps: readonly { rate: number; durationMs: number }[]): RateProfile {
  const last = steps.at(-1);
  assert(last !== undefined, 'a step schedule needs a step');
  assertRate(last.rate);

  return (count) => {
    let left = count;
    let elapsedNs = 0;
    for (const step of steps) {
      const durationNs = step.durationMs * NS_PER_MS;
      const arrivals = (step.rate * durationNs) / NS_PER_SECOND;
      if (left < arrivals) return elapsedNs + (left * NS_PER_SECOND) / step.rate;
      left -= arrivals;
      elapsedNs += durationNs;
    }
    return elapsedNs + (left * NS_PER_SECOND) / last.rate;
  };
}

function burstProfile(spec: {
  rate: number;
  burstRate: number;
  burstMs: number;
  periodMs: number;
}): RateProfile {
  assert(0 <= spec.rate, `rate must not be negative: ${spec.rate}`);
  assertRate(spec.burstRate);
  assert(0 < spec.burstMs, `burst must last: ${spec.burstMs} ms`);
  assert(spec.burstMs < spec.periodMs, `burst must end within its period: ${spec.burstMs} ms`);
  const inBurst = (spec.burstRate * spec.burstMs) / 1000;
  const inPeriod = inBurst + (spec.rate * (spec.periodMs - spec.burstMs)) / 1000;

  return (count) => {
    const periods = Math.floor(count / inPeriod);
    const left = count - periods * inPeriod;
    const withinMs =
      left < inBurst || spec.rate === 0
        ? (left * 1000) / spec.burstRate
        : spec.burstMs + ((left - inBurst) * 1000) / spec.rate;
    return (periods * spec.periodMs + withinMs) * NS_PER_MS;
  };
}

function assertRate(rate: number): void {
  assert(0 < rate, `rate must be positive: ${rate}`);
  assert(rate <= NS_PER_SECOND, `arrivals less than 1 ns apart: ${rate}`);
}
