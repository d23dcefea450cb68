/**
 * Latency histograms in whole microseconds, three significant digits.
 *
 * A thin keeper of hdr-histogram-js's WASM build that closes its traps: it records only rounded
 * integers (a fraction corrupts the minimum), clamps and counts what lies over its range (it would
 * throw), and must be destroyed (its memory is not the garbage collector's). Its own text output
 * is wrong: `hgrm.ts` formats from `rows()`.
 */

import assert from 'node:assert/strict';
import hdr from 'hdr-histogram-js';

/** One minute: longer than any timeout. */
export const HISTOGRAM_US_MAX = 60_000_000;

const SIGNIFICANT_DIGITS = 3;

hdr.initWebAssemblySync();

/** Values that the histogram cannot tell apart: `valueUs` is the highest of them. */
export type HistogramRow = { readonly valueUs: number; readonly count: number };

export class Histogram {
  #wasm: hdr.WasmHistogram;
  #clampedCount = 0;
  #minUs = Number.POSITIVE_INFINITY;

  constructor() {
    this.#wasm = hdr.WasmHistogram.build({
      bitBucketSize: 32,
      autoResize: false,
      lowestDiscernibleValue: 1,
      highestTrackableValue: HISTOGRAM_US_MAX,
      numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
    });
  }

  recordUs(valueUs: number): void {
    assert(valueUs >= 0, 'negative or missing duration');
    let whole = Math.round(valueUs);
    if (whole > HISTOGRAM_US_MAX) {
      this.#clampedCount += 1;
      whole = HISTOGRAM_US_MAX;
    }
    this.#minUs = Math.min(this.#minUs, whole);
    this.#wasm.recordValue(whole);
  }

  recordNs(valueNs: number): void {
    this.recordUs(valueNs / 1000);
  }

  get count(): number {
    return this.#wasm.totalCount;
  }

  /** Values recorded as `HISTOGRAM_US_MAX` because they were longer. */
  get clampedCount(): number {
    return this.#clampedCount;
  }

  get maxUs(): number {
    return this.#wasm.maxValue;
  }

  get minUs(): number {
    return this.count === 0 ? 0 : this.#minUs;
  }

  get meanUs(): number {
    return this.count === 0 ? 0 : this.#wasm.mean;
  }

  get standardDeviationUs(): number {
    return this.count === 0 ? 0 : this.#wasm.stdDeviation;
  }

  /** Returns the `rank`-th smallest value, counting from 1, as the highest value equivalent to it. */
  valueAtRank(rank: number): number {
    assert(1 <= rank, 'rank counts from 1');
    assert(rank <= this.count, 'rank exceeds the count');
    return this.#wasm.getValueAtPercentile((100 * rank) / this.count);
  }

  /** Returns the smallest value that at least the fraction `p` of all values do not exceed. */
  valueAtQuantile(p: number): number {
    if (this.count === 0) return 0;
    return this.valueAtRank(Math.max(1, Math.ceil(p * this.count - 1e-9)));
  }

  /** Distinct values with their counts, in ascending order. */
  rows(): HistogramRow[] {
    const script = hdr.decodeFromCompressedBase64(this.encode(), 32, false);
    assert(script instanceof hdr.JsHistogram, 'decoded into a WASM histogram');
    const rows: HistogramRow[] = [];
    for (let index = 0; index < script.countsArrayLength; index++) {
      const count = script.getCountAtIndex(index);
      if (count === 0) continue;
      rows.push({ valueUs: script.highestEquivalentValue(script.valueFromIndex(index)), count });
    }
    return rows;
  }

  /** Adds all of `other` to this histogram. */
  add(other: Histogram): void {
    this.#wasm.add(other.#wasm);
    this.#clampedCount += other.#clampedCount;
    this.#minUs = Math.min(this.#minUs, other.#minUs);
  }

  /** HdrHistogram V2, compressed, base64: readable by every HdrHistogram library. */
  encode(): string {
    return hdr.encodeIntoCompressedBase64(this.#wasm);
  }

  /** Reads what `encode` wrote. The number of clamped values is not part of the format. */
  static decode(base64: string): Histogram {
    const decoded = hdr.decodeFromCompressedBase64(base64, 32, true);
    assert(decoded instanceof hdr.WasmHistogram, 'decoded into a script histogram');
    const histogram = new Histogram();
    histogram.#wasm.add(decoded);
    if (decoded.totalCount > 0) {
      histogram.#minUs = decoded.getValueAtPercentile(0);
    }
    decoded.destroy();
    return histogram;
  }

  /** Returns a new histogram of all values; destroys none of the given ones. */
  static merge(histograms: readonly Histogram[]): Histogram {
    const merged = new Histogram();
    for (const histogram of histograms) merged.add(histogram);
    return merged;
  }

  destroy(): void {
    this.#wasm.destroy();
  }
}
