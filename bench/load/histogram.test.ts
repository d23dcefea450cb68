import hdr from 'hdr-histogram-js';
import { expect, test } from 'vitest';
import { createRandom } from '../random.ts';
import { formatHgrm, percentilePoints } from './hgrm.ts';
import { Histogram, HISTOGRAM_US_MAX } from './histogram.ts';
import { formatIntervalLog, parseIntervalLog } from './hlog.ts';

/** Log-normal microseconds: the shape of response times. */
function sampleUs(count: number, seed: number): number[] {
  const random = createRandom(seed, 'value');
  return Array.from({ length: count }, () => {
    const normal =
      Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
    return 300 * Math.exp(normal);
  });
}

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.recordUs(value);
  return histogram;
}

test('quantiles agree with sorted exact ones to three digits', () => {
  const values = sampleUs(20_001, 1);
  const sorted = values.map((value) => Math.round(value)).toSorted((a, b) => a - b);
  const histogram = histogramOf(values);
  for (const p of [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1]) {
    const exact = sorted[Math.ceil(p * sorted.length - 1e-9) - 1] ?? 0;
    const value = histogram.valueAtQuantile(p);
    expect(value, `p ${p}`).toBeGreaterThanOrEqual(exact);
    expect(value, `p ${p}`).toBeLessThanOrEqual(exact * 1.001 + 1);
  }
  expect(histogram.minUs).toBe(sorted[0]);
  expect(histogram.count).toBe(values.length);
  histogram.destroy();
});

test('every rank is the rank-th sorted value', () => {
  const values = [5, 1, 3, 3, 900, 2047];
  const histogram = histogramOf(values);
  const byRank = values.map((_, i) => histogram.valueAtRank(i + 1));
  expect(byRank).toEqual([1, 3, 3, 5, 900, 2047]);
  histogram.destroy();
});

test('merged histograms equal one that recorded everything', () => {
  const values = sampleUs(6000, 2);
  const parts = [0, 1, 2].map((part) => histogramOf(values.filter((_, i) => i % 3 === part)));
  const merged = Histogram.merge(parts);
  const single = histogramOf(values);
  expect(merged.rows()).toEqual(single.rows());
  expect(merged.encode()).toBe(single.encode());
  expect(merged.minUs).toBe(single.minUs);
  for (const histogram of [...parts, merged, single]) histogram.destroy();
});

test('a decoded histogram re-encodes to the same bytes', () => {
  const histogram = histogramOf(sampleUs(5000, 3));
  const decoded = Histogram.decode(histogram.encode());
  expect(decoded.encode()).toBe(histogram.encode());
  expect(decoded.rows()).toEqual(histogram.rows());
  expect(decoded.minUs).toBe(histogram.minUs);
  const empty = new Histogram();
  const emptyAgain = Histogram.decode(empty.encode());
  expect(emptyAgain.count).toBe(0);
  for (const each of [histogram, decoded, empty, emptyAgain]) each.destroy();
});

test('a value over the range is clamped and counted, a negative or missing one is a bug', () => {
  const histogram = histogramOf([HISTOGRAM_US_MAX, HISTOGRAM_US_MAX + 1, 1e12]);
  expect(histogram.count).toBe(3);
  expect(histogram.clampedCount).toBe(2);
  expect(() => histogram.recordUs(-1)).toThrow('negative');
  expect(() => histogram.recordUs(Number.NaN)).toThrow('missing');
  histogram.destroy();
});

// hdr-histogram-js's script build prints correctly: the WASM build, which records, does not.
test.each([[1], [2], [10], [1000], [5003]])(
  'formatHgrm() prints %i values as the library does',
  (count) => {
    const values = sampleUs(count, count).map((value) => Math.round(value));
    const oracle = hdr.build({
      bitBucketSize: 32,
      autoResize: false,
      highestTrackableValue: HISTOGRAM_US_MAX,
      numberOfSignificantValueDigits: 3,
      useWebAssembly: false,
    });
    for (const value of values) oracle.recordValue(value);
    const histogram = histogramOf(values);
    const text = formatHgrm(histogram);
    const expected = oracle.outputPercentileDistribution(5, 1000).trimEnd();
    // Column for column; the library rounds halves in the last digit the other way.
    const numbers = /\d+\.\d+/g;
    expect(text.trimEnd().replace(numbers, '#')).toBe(expected.replace(numbers, '#'));
    const ours = text.match(numbers)?.map(Number) ?? [];
    for (const [i, number] of (expected.match(numbers) ?? []).entries()) {
      expect(Math.abs((ours[i] ?? 0) - Number(number))).toBeLessThan(0.0011);
    }
    histogram.destroy();
  },
);

test('percentilePoints() agree with sorted exact counts', () => {
  const values = sampleUs(3000, 9).map((value) => Math.round(value));
  const histogram = histogramOf(values);
  for (const { valueUs, fraction, count } of percentilePoints(histogram)) {
    expect(values.filter((value) => value <= valueUs).length).toBe(count);
    expect(count / values.length).toBeGreaterThanOrEqual(fraction - 1e-12);
  }
  histogram.destroy();
});

test('an interval log is read back as written, by us and by the library', () => {
  const histogram = histogramOf([812, 815, 903, 1204, 15_003]);
  const entries = ['read.n1.local.response', 'read.n1.local.lag'].map((tag, i) => ({
    tag,
    startTimeMs: 1_700_000_000_000 + i * 1000,
    lengthMs: 1000,
    maxUs: 15_003,
    histogram: histogram.encode(),
  }));
  const text = formatIntervalLog({ startTimeMs: 1_700_000_000_000, entries });
  expect(parseIntervalLog(text)).toEqual({ startTimeMs: 1_700_000_000_000, entries });

  const reader = new hdr.HistogramLogReader(text, 32, false);
  for (const entry of entries) {
    const read = reader.nextIntervalHistogram();
    expect(read?.tag).toBe(entry.tag);
    expect(read?.totalCount).toBe(5);
    expect(read?.startTimeStampMsec).toBe(entry.startTimeMs);
  }
  histogram.destroy();
});

test('an interval log refuses a tag that would break its line, and a broken line', () => {
  const entry = { tag: 'a,b', startTimeMs: 0, lengthMs: 1000, maxUs: 1, histogram: 'HISTFAAA' };
  expect(() => formatIntervalLog({ startTimeMs: 0, entries: [entry] })).toThrow('tag "a,b"');
  expect(() => parseIntervalLog('Tag=a,1.000,oops\n')).toThrow('line 1');
});
