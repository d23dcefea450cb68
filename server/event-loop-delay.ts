/** How late an event loop runs what is due: what a thread suffers from whatever occupies it. */

import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Seconds beyond the resolution of the measurement, since the thread began. */
export type EventLoopDelay = {
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
};

const RESOLUTION_MS = 10;
const NS_PER_SECOND = 1e9;

export function measureEventLoopDelay(): () => EventLoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  const seconds = (ns: number): number =>
    Number.isFinite(ns) ? Math.max(0, ns / NS_PER_SECOND - RESOLUTION_MS / 1000) : 0;
  return () => ({
    mean: seconds(histogram.mean),
    p99: seconds(histogram.percentile(99)),
    max: seconds(histogram.max),
  });
}
