/**
 * The level that a sawtooth returns to: of each window its least sample, where and when it was. A
 * window must be longer than a tooth, or some hold none of the points that the series returns to.
 */

import assert from 'node:assert/strict';

import type { Point } from './slope.ts';

/** `samples` ascend in `x`; windows without any are left out. */
export function lowerEnvelope(samples: readonly Point[], windowCount: number): Point[] {
  const [first, last] = [samples[0], samples.at(-1)];
  assert(first !== undefined && last !== undefined, 'no samples');
  const width = (last.x - first.x) / windowCount;
  const least = new Map<number, Point>();
  for (const sample of samples) {
    const window = Math.min(windowCount - 1, Math.floor((sample.x - first.x) / width));
    const known = least.get(window);
    if (known === undefined || sample.y < known.y) least.set(window, sample);
  }
  return [...least.values()];
}
