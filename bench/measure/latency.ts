/** From raw response times to what a result keeps of them: quantiles, maximum, raw histogram. */

import { quantiles, type QuantileSeries } from '../analysis/quantiles.ts';
import { Histogram } from '../load/histogram.ts';
import type { Latency } from '../run.ts';

const QUANTILES = [0.5, 0.9, 0.99] as const;

/** `series` holds microseconds, in the order in which the requests were meant to start. */
export function latencyOf(
  series: Omit<QuantileSeries, 'unit'>,
  options: { readonly exceedancesMin?: number } = {},
): Latency {
  const [p50, p90, p99] = quantiles({ ...series, unit: 'us' }, QUANTILES, options);
  const histogram = new Histogram();
  for (let i = 0; i < series.values.length; i++) histogram.recordUs(series.values[i] ?? 0);
  const latency = {
    count: histogram.count,
    p50: p50 ?? NONE,
    p90: p90 ?? NONE,
    p99: p99 ?? NONE,
    maxUs: histogram.count === 0 ? 0 : histogram.maxUs,
    hdr: histogram.encode(),
  };
  histogram.destroy();
  return latency;
}

/**
 * Closed-loop responses under a quota, kept as raw data only: at saturation they are connections
 * divided by throughput, plus throttling, and say nothing of the server.
 */
export function closedLoopLatency(histogram: Histogram): Latency {
  const refused = { refused: 'closed loop: response time is connections / throughput' };
  return {
    count: histogram.count,
    p50: refused,
    p90: refused,
    p99: refused,
    maxUs: histogram.count === 0 ? 0 : histogram.maxUs,
    hdr: histogram.encode(),
  };
}

const NONE = { refused: 'no samples' };
