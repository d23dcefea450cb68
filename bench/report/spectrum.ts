/**
 * Points of a latency spectrum out of a recorded histogram: latency against 1 / (1 - quantile),
 * as HdrHistogram's plotters draw it, so that each nine takes the same room.
 */

import { decodeFromCompressedBase64 } from 'hdr-histogram-js';

import type { Latency } from '../run.ts';

export type SpectrumPoint = { readonly nines: number; readonly ms: number };

const STEPS_PER_DECADE = 12;
/** Beyond this, fewer than so many samples lie above the quantile and the line is noise. */
const SAMPLES_ABOVE_MIN = 5;

export function spectrumOf(latency: Latency): SpectrumPoint[] {
  if (latency.count === 0) return [];
  const histogram = decodeFromCompressedBase64(latency.hdr, 32, false);
  const last = Math.max(2, latency.count / SAMPLES_ABOVE_MIN);
  const steps = Math.ceil(Math.log10(last) * STEPS_PER_DECADE);
  return Array.from({ length: steps + 1 }, (_, step) => {
    const nines = 10 ** (step / STEPS_PER_DECADE);
    const us = histogram.getValueAtPercentile(100 * (1 - 1 / nines));
    return { nines, ms: Math.max(us, 1) / 1_000 };
  }).filter(({ nines }) => nines <= last);
}

/** Cumulative share of samples at or below each distinct value. */
export function cumulativeOf(latency: Latency): { readonly ms: number; readonly share: number }[] {
  if (latency.count === 0) return [];
  const histogram = decodeFromCompressedBase64(latency.hdr, 32, false);
  return Array.from({ length: 101 }, (_, percentile) => ({
    ms: Math.max(histogram.getValueAtPercentile(percentile), 1) / 1_000,
    share: percentile / 100,
  }));
}
