/**
 * From what the markers of a phase met to the figures of a point, and whether they may be named.
 *
 * The claim is that a write is visible on *every* standby within so long, so a marker write gives one
 * sample: the slowest of its standbys. What is missing never makes a figure better:
 *
 * - A standby that did not show the marker in time gives a censored sample: longer than that.
 * - An answer from another node, or none, gives no sample; the marker then counts as slower than
 *   all others, and for the lower bound as seen at once.
 * - A marker write that failed was not acknowledged: there is no lag to speak of, only an error.
 *
 * Gates then bound how much may be missing, and hold the background load to its name.
 */

import assert from 'node:assert/strict';

import { judgeGate, refusals, type Gate } from '../analysis/gates.ts';
import { ROUTES } from '../load/exchange.ts';
import { OUTCOMES, type OpenLoopResult } from '../load/open-loop.ts';
import type { Plan } from '../load/plan.ts';
import type { LagCurve, LagMethod, LagNode, LagPoint, Latency } from '../run.ts';
import { latencyOf } from './latency.ts';

/**
 * Isolated writes are slow to collect: a p99 is named from some hundred of them, with its wide
 * interval, instead of the ten thousand that a load test must have.
 */
const EXCEEDANCES_MIN = 4;
const METHODS = ['probe', 'index'] as const;

/** What one standby showed of one marker; microseconds after the acknowledgement. */
export type Sighting =
  | { readonly kind: 'seen'; readonly upperUs: number; readonly lowerUs: number | null }
  /** Not in time: `upperUs` would have been longer than given. */
  | { readonly kind: 'unseen'; readonly upperUs: number; readonly lowerUs: number | null }
  /** Another node gave the answer. */
  | { readonly kind: 'misrouted' }
  /** An error, or no answer. */
  | { readonly kind: 'failed' };

export type Marker =
  | { readonly kind: 'written'; readonly sightings: readonly Sighting[] }
  /** Another node than the active one acknowledged it. */
  | { readonly kind: 'misrouted' }
  | { readonly kind: 'failed' };

export type Markers = { readonly [method in LagMethod]: readonly Marker[] };

/** What became of the background writes of a phase. */
export type BackgroundTally = {
  readonly planned: number;
  /** Due while as many were in flight as there are sockets. */
  readonly dropped: number;
  /** Started, but not acknowledged by the active node itself. */
  readonly failed: number;
  /** Acknowledged before the plan's time was over. */
  readonly acknowledgedInTime: number;
};

export function tallyBackground(
  plan: Pick<Plan, 'length' | 'durationMs'>,
  { samples, counts }: Pick<OpenLoopResult, 'samples' | 'counts'>,
): BackgroundTally {
  let acknowledged = 0;
  let acknowledgedInTime = 0;
  for (let row = 0; row < plan.length; row++) {
    if (OUTCOMES[samples.outcome[row] ?? 0] !== 'ok') continue;
    if (ROUTES[samples.route[row] ?? 0] !== 'direct') continue;
    acknowledged += 1;
    if ((samples.completionNs[row] ?? Number.NaN) <= plan.durationMs * 1e6) acknowledgedInTime += 1;
  }
  const { dropped } = counts;
  return {
    planned: plan.length,
    dropped,
    failed: plan.length - dropped - acknowledged,
    acknowledgedInTime,
  };
}

/**
 * Judges all points of a phase; an idle phase has no background.
 *
 * Markers are judged by the method that fared worse, so that the more frequent one cannot hide it.
 */
export function judgeLag(markers: Markers, background: BackgroundTally | undefined): Gate[] {
  const worst = (of: (list: readonly Marker[]) => number): number =>
    Math.max(...METHODS.map((method) => markers[method]).flatMap((l) => (l.length ? of(l) : [])));
  assert(
    METHODS.some((method) => markers[method].length > 0),
    'a phase without a marker',
  );
  return [
    ...(background === undefined ? [] : judgeBackground(background)),
    judgeGate(
      'marker-errors',
      worst((list) => list.filter(isFailed).length / list.length),
    ),
    judgeGate(
      'markers-discarded',
      worst((list) => list.filter(isDiscarded).length / list.length),
    ),
  ];
}

function judgeBackground(background: BackgroundTally): Gate[] {
  const { planned, dropped, failed, acknowledgedInTime } = background;
  return [
    judgeGate('background-errors', failed / Math.max(1, planned - dropped)),
    judgeGate('dropped', dropped),
    // A plan without arrivals is not the rate that the point is named after.
    judgeGate('background-rate', acknowledgedInTime / Math.max(1, planned)),
  ];
}

function isFailed(marker: Marker): boolean {
  if (marker.kind !== 'written') return marker.kind === 'failed';
  return marker.sightings.some(({ kind }) => kind === 'failed');
}

function isDiscarded(marker: Marker): boolean {
  if (marker.kind !== 'written') return marker.kind === 'misrouted';
  return marker.sightings.some(({ kind }) => kind === 'misrouted' || kind === 'unseen');
}

/** For example `lag/push/idle` or `lag/piggyback/rate100`. */
export function lagScope(commitNotify: LagCurve['commitNotify'], rate: number): string {
  return `lag/${commitNotify}/${rate === 0 ? 'idle' : `rate${rate}`}`;
}

/** Returns a point per method; a failed gate takes all its quantiles away, and says why. */
export function lagPoints(options: {
  readonly rate: number;
  readonly standbyIds: readonly string[];
  readonly markers: Markers;
  readonly gates: readonly Gate[];
}): LagPoint[] {
  const { rate, standbyIds, markers, gates } = options;
  const refused = refusals(gates, [
    'refuse-latency',
    'refuse-quantile',
    'rate-not-sustained',
    'invalidate-run',
  ])[0];
  const keep = (latency: Latency): Latency =>
    refused ? withoutQuantiles(latency, refused) : latency;
  return METHODS.map((method) => {
    const rows = markers[method].flatMap((marker) => {
      if (marker.kind === 'failed') return [];
      if (marker.kind === 'misrouted') return [standbyIds.map(() => MISROUTED)];
      assert(marker.sightings.length === standbyIds.length, 'a standby without a sighting');
      return [marker.sightings];
    });
    return {
      writesPerSecond: rate,
      method,
      perNode: standbyIds.map((id, index): LagNode => {
        const column = rows.map((row) => row[index] ?? MISROUTED);
        return {
          id,
          upper: keep(upperOf(column)),
          lower: method === 'probe' ? keep(lowerOf(column)) : null,
        };
      }),
      upper: keep(upperOf(rows.map(slowest))),
    };
  });
}

const MISROUTED = { kind: 'misrouted' } as const;

/** When the marker was visible on every standby. */
function slowest(sightings: readonly Sighting[]): Sighting {
  const timed = sightings.filter((each) => 'upperUs' in each);
  const isUnseen = timed.some(({ kind }) => kind === 'unseen');
  // A standby without a sample could have been the slowest, unless one is known to have been late.
  const missing = sightings.find((each) => !('upperUs' in each));
  if (missing !== undefined && !isUnseen) return missing;
  return {
    kind: isUnseen ? 'unseen' : 'seen',
    upperUs: Math.max(...timed.map(({ upperUs }) => upperUs)),
    lowerUs: null,
  };
}

function upperOf(sightings: readonly Sighting[]): Latency {
  const timed = sightings.filter((each) => 'upperUs' in each);
  return latencyOf(
    {
      values: timed.map(({ upperUs }) => upperUs),
      isCensored: timed.map(({ kind }) => (kind === 'unseen' ? 1 : 0)),
      droppedCount: sightings.length - timed.length,
    },
    { exceedancesMin: EXCEEDANCES_MIN },
  );
}

/** A lower bound stands, however late the marker came; without a sample it is nothing. */
function lowerOf(sightings: readonly Sighting[]): Latency {
  const values = sightings.map((each) => ('lowerUs' in each ? (each.lowerUs ?? 0) : 0));
  return latencyOf({ values }, { exceedancesMin: EXCEEDANCES_MIN });
}

function withoutQuantiles(latency: Latency, refused: string): Latency {
  return { ...latency, p50: { refused }, p90: { refused }, p99: { refused } };
}
