/**
 * From the raw samples of an open-loop phase to histograms, after the phase.
 *
 * A cell collects the requests that belong together (by default: operation, node, and route). It
 * keeps one histogram per clock, failures in histograms of their own (a fast 503 must not improve a
 * median), and the response times in order of intended start, from which quantiles with intervals
 * are computed exactly.
 *
 * Tail attribution: `responseClean` holds the response times to which the generator's own lateness
 * added little. The share of the two tails says which quantiles can be trusted.
 */

import assert from 'node:assert/strict';
import type { QuantileSeries } from '../analysis/quantiles.ts';
import { ROUTES, type Route, type Target } from './exchange.ts';
import { Histogram } from './histogram.ts';
import type { IntervalEntry } from './hlog.ts';
import { OUTCOMES, type Outcome, type Samples } from './open-loop.ts';
import type { Plan } from './plan.ts';

const NS_PER_MS = 1_000_000;

const CLEAN_LAG_NS = NS_PER_MS;
const CLEAN_LAG_SHARE = 0.1;

/** Whether the generator's lateness is no notable part: lag <= max(1 ms, 10 % of response). */
export function isCleanSample(lagNs: number, responseNs: number): boolean {
  return lagNs <= Math.max(CLEAN_LAG_NS, CLEAN_LAG_SHARE * responseNs);
}

export const CLOCKS = ['response', 'service', 'wait', 'lag'] as const;

export type ClockName = (typeof CLOCKS)[number];

/** One request as a cell is chosen for it. */
export type SampleLabel = {
  readonly operation: string;
  readonly target: string;
  readonly route: Route;
};

export type Cell = {
  readonly tag: string;
  readonly counts: Readonly<Record<Outcome, number>>;
  /** Of requests that ended `ok` or `invalid`. */
  readonly clocks: Readonly<Record<ClockName, Histogram>>;
  readonly responseClean: Histogram;
  /** Response times of failed requests, by failure class. */
  readonly failures: ReadonlyMap<string, Histogram>;
  /** As `quantiles` takes it. */
  readonly series: ResponseSeries;
};

/** Columns in order of intended start; answered and censored requests, not failed ones. */
export type ResponseSeries = QuantileSeries & {
  readonly values: Float64Array;
  readonly unit: 'us';
  readonly isCensored: Uint8Array;
  readonly isClean: Uint8Array;
  readonly droppedCount: number;
};

export type Recording = {
  readonly cells: ReadonlyMap<string, Cell>;
  destroy(): void;
};

/** `<operation>.<node>.<route>`: with the clock appended, the tag of an interval log. */
export function defaultTag(label: SampleLabel): string {
  return `${label.operation}.${label.target}.${label.route}`;
}

/**
 * Collects the samples whose intended start lies in [`startMs`, `endMs`) into cells by `tagOf`;
 * a sample without a tag is left out.
 */
export function record(options: {
  plan: Plan;
  targets: readonly Target[];
  samples: Samples;
  startMs: number;
  endMs: number;
  tagOf: (label: SampleLabel) => string | undefined;
}): Recording {
  const { plan, samples } = options;
  assert(plan.length === samples.length, 'samples of another plan');
  const tagOf = memoizedTags(options);
  const cells = new Map<string, CellBuilder>();

  for (let index = 0; index < plan.length; index++) {
    const intendedMs = (plan.intendedStartNs[index] ?? 0) / NS_PER_MS;
    if (intendedMs < options.startMs || options.endMs <= intendedMs) continue;
    const tag = tagOf(index);
    if (tag === undefined) continue;
    let cell = cells.get(tag);
    if (cell === undefined) cells.set(tag, (cell = new CellBuilder(tag)));
    cell.add(samples, index);
  }

  const built = new Map([...cells].map(([tag, cell]) => [tag, cell.build()]));
  return {
    cells: built,
    destroy: () => {
      for (const cell of built.values()) destroyCell(cell);
    },
  };
}

/**
 * Returns one entry per second, tag, and clock, by time of completion, for an interval log.
 * Encoding costs a millisecond each: `clocks` says which ones are worth it.
 */
export function intervalEntries(options: {
  plan: Plan;
  targets: readonly Target[];
  samples: Samples;
  startTimeMs: number;
  clocks: readonly ClockName[];
  tagOf: (label: SampleLabel) => string | undefined;
}): IntervalEntry[] {
  const { plan, samples, startTimeMs, clocks } = options;
  const tagOf = memoizedTags(options);
  const seconds = new Map<number, Map<string, Histogram>>();

  for (let index = 0; index < plan.length; index++) {
    const tag = tagOf(index);
    if (tag === undefined || !isAnswered(samples, index)) continue;
    const second = Math.floor((samples.completionNs[index] ?? 0) / 1e9);
    let histograms = seconds.get(second);
    if (histograms === undefined) seconds.set(second, (histograms = new Map()));
    for (const clock of clocks) {
      const key = `${tag}.${clock}`;
      let histogram = histograms.get(key);
      if (histogram === undefined) histograms.set(key, (histogram = new Histogram()));
      histogram.recordNs(Math.max(0, clockColumn(samples, clock)[index] ?? 0));
    }
  }

  return [...seconds]
    .toSorted(([left], [right]) => left - right)
    .flatMap(([second, histograms]) =>
      [...histograms].map(([tag, histogram]) => {
        const entry = {
          tag,
          startTimeMs: startTimeMs + second * 1000,
          lengthMs: 1000,
          maxUs: histogram.maxUs,
          histogram: histogram.encode(),
        };
        histogram.destroy();
        return entry;
      }),
    );
}

class CellBuilder {
  readonly #tag: string;
  readonly #counts = OUTCOMES.map(() => 0);
  readonly #clocks = {
    response: new Histogram(),
    service: new Histogram(),
    wait: new Histogram(),
    lag: new Histogram(),
  };
  readonly #responseClean = new Histogram();
  readonly #failures = new Map<string, Histogram>();
  readonly #responseUs: number[] = [];
  readonly #isCensored: number[] = [];
  readonly #isClean: number[] = [];

  constructor(tag: string) {
    this.#tag = tag;
  }

  add(samples: Samples, index: number): void {
    const outcome = samples.outcome[index] ?? 0;
    this.#counts[outcome] = (this.#counts[outcome] ?? 0) + 1;

    const responseNs = samples.responseNs[index] ?? Number.NaN;
    switch (OUTCOMES[outcome]) {
      case 'ok':
      case 'invalid':
        for (const clock of CLOCKS) {
          this.#clocks[clock].recordNs(Math.max(0, clockColumn(samples, clock)[index] ?? 0));
        }
        this.#addResponse(responseNs, samples.lagNs[index] ?? 0, false);
        break;
      case 'failed':
        this.#failureHistogram(samples, index).recordNs(Math.max(0, responseNs));
        break;
      case 'timedOut':
      case 'abandoned':
        this.#addResponse(responseNs, samples.lagNs[index] ?? 0, true);
        break;
      case 'unstarted':
      case 'dropped':
      case undefined:
        break;
    }
  }

  #addResponse(responseNs: number, lagNs: number, isCensored: boolean): void {
    const isClean = isCleanSample(lagNs, responseNs);
    this.#responseUs.push(responseNs / 1000);
    this.#isCensored.push(isCensored ? 1 : 0);
    this.#isClean.push(isClean ? 1 : 0);
    if (isClean && !isCensored) this.#responseClean.recordNs(responseNs);
  }

  #failureHistogram(samples: Samples, index: number): Histogram {
    const failureClass = samples.failureClasses[samples.failure[index] ?? 0] ?? 'unknown';
    let histogram = this.#failures.get(failureClass);
    if (histogram === undefined) this.#failures.set(failureClass, (histogram = new Histogram()));
    return histogram;
  }

  build(): Cell {
    const counts = Object.fromEntries(
      OUTCOMES.map((outcome, index) => [outcome, this.#counts[index] ?? 0]),
    ) as Record<Outcome, number>;
    return {
      tag: this.#tag,
      counts,
      clocks: this.#clocks,
      responseClean: this.#responseClean,
      failures: this.#failures,
      series: {
        values: Float64Array.from(this.#responseUs),
        unit: 'us',
        isCensored: Uint8Array.from(this.#isCensored),
        isClean: Uint8Array.from(this.#isClean),
        droppedCount: counts.dropped,
      },
    };
  }
}

function destroyCell(cell: Cell): void {
  for (const clock of CLOCKS) cell.clocks[clock].destroy();
  for (const histogram of cell.failures.values()) histogram.destroy();
  cell.responseClean.destroy();
}

function isAnswered(samples: Samples, index: number): boolean {
  const outcome = OUTCOMES[samples.outcome[index] ?? 0];
  return outcome === 'ok' || outcome === 'invalid';
}

function clockColumn(samples: Samples, clock: ClockName): Float64Array {
  switch (clock) {
    case 'response':
      return samples.responseNs;
    case 'service':
      return samples.serviceNs;
    case 'wait':
      return samples.waitNs;
    case 'lag':
      return samples.lagNs;
  }
}

/** Asks `tagOf` once for each combination of operation, target, and route. */
function memoizedTags(options: {
  plan: Plan;
  targets: readonly Target[];
  samples: Samples;
  tagOf: (label: SampleLabel) => string | undefined;
}): (index: number) => string | undefined {
  const { plan, targets, samples, tagOf } = options;
  const tags = new Map<number, string | undefined>();
  return (index) => {
    const operation = plan.operation[index] ?? 0;
    const target = plan.target[index] ?? 0;
    const route = samples.route[index] ?? 0;
    const key = (operation * 256 + target) * ROUTES.length + route;
    if (!tags.has(key)) {
      tags.set(
        key,
        tagOf({
          operation: plan.operationNames[operation] ?? '',
          target: targets[target]?.name ?? '',
          route: ROUTES[route] ?? 'unknown',
        }),
      );
    }
    return tags.get(key);
  };
}
