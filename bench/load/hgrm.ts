/**
 * The HdrHistogram percentile text (.hgrm), as Java's HdrHistogram prints it and the HdrHistogram
 * plotter reads it. Values are printed in milliseconds.
 */

import { HISTOGRAM_US_MAX, type Histogram } from './histogram.ts';

const US_PER_MS = 1000;

/** Reporting points each time the distance to 100 % halves; customary. */
const TICKS_PER_HALF_DISTANCE = 5;

/** Of a histogram with three significant digits. */
const SUB_BUCKET_COUNT = 2048;

export function formatHgrm(histogram: Histogram): string {
  const lines = ['       Value     Percentile TotalCount 1/(1-Percentile)', ''];
  for (const point of percentilePoints(histogram)) {
    const columns = [
      (point.valueUs / US_PER_MS).toFixed(3).padStart(12),
      point.fraction.toFixed(12).padStart(2),
      String(point.count).padStart(10),
    ];
    // The last row has no fourth column: Java and JS leave it out, wrk2 prints `inf`.
    if (point.fraction < 1) columns.push((1 / (1 - point.fraction)).toFixed(2).padStart(14));
    lines.push(columns.join(' '));
  }

  const summary = (value: number): string => (value / US_PER_MS).toFixed(3).padStart(12);
  const whole = (value: number): string => String(value).padStart(12);
  lines.push(
    `#[Mean    = ${summary(histogram.meanUs)}, StdDeviation   = ${summary(histogram.standardDeviationUs)}]`,
    `#[Max     = ${summary(histogram.maxUs)}, Total count    = ${whole(histogram.count)}]`,
    `#[Buckets = ${whole(bucketCount())}, SubBuckets     = ${whole(SUB_BUCKET_COUNT)}]`,
    '',
  );
  return lines.join('\n');
}

export type PercentilePoint = {
  readonly valueUs: number;
  /** In [0, 1]. */
  readonly fraction: number;
  /** Values at or below `valueUs`. */
  readonly count: number;
};

/**
 * Returns the points of HdrHistogram's percentile iteration: each value answers all levels that it
 * reaches, the last one a single level and then 100 %.
 */
export function percentilePoints(histogram: Histogram): PercentilePoint[] {
  const total = histogram.count;
  const rows = histogram.rows();
  const points: PercentilePoint[] = [];
  let count = 0;
  let level = 0;
  for (const row of rows.slice(0, -1)) {
    count += row.count;
    for (; level <= (100 * count) / total; level = nextLevel(level)) {
      points.push({ valueUs: row.valueUs, fraction: level / 100, count });
    }
  }
  const last = rows.at(-1);
  if (last !== undefined) {
    points.push({ valueUs: last.valueUs, fraction: level / 100, count: total });
    points.push({ valueUs: last.valueUs, fraction: 1, count: total });
  }
  return points;
}

function nextLevel(level: number): number {
  const halvings = Math.floor(Math.log2(100 / (100 - level))) + 1;
  return level + 100 / (TICKS_PER_HALF_DISTANCE * 2 ** halvings);
}

function bucketCount(): number {
  let buckets = 1;
  for (let covered = SUB_BUCKET_COUNT; covered <= HISTOGRAM_US_MAX; covered *= 2) buckets += 1;
  return buckets;
}
