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

/** For a histogram whose samples are not kept one by one: closed-loop responses. */
export function latencyOfHistogram(histogram: Histogram): Latency {
  const at = (p: number) =>
    histogram.count === 0 ? NONE : { value: histogram.valueAtQuantile(p), unit: 'us' };
  return {
    count: histogram.count,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    maxUs: histogram.count === 0 ? 0 : histogram.maxUs,
    hdr: histogram.encode(),
  };
}

const NONE = { refused: 'no samples' };
