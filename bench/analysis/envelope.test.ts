import { expect, test } from 'vitest';

import { createRandom, type Random } from '../random.ts';
import { lowerEnvelope } from './envelope.ts';
import { slopeOf } from './slope.ts';
import type { Point } from './slope.ts';

const MINUTES = 10;
const SAMPLES_PER_MINUTE = 240;
const WINDOWS = 20;

test('the least of each window, where it was', () => {
  const samples = [5, 3, 4, 9, 8, 7].map((y, x) => ({ x, y }));
  expect(lowerEnvelope(samples, 2)).toEqual([
    { x: 1, y: 3 },
    { x: 5, y: 7 },
  ]);
});

/**
 * What the resident memory of a node looks like: teeth of 14 MiB, each of a length of its own, that
 * come back to a level which differs by a MiB or two from one to the next.
 */
function sawtooth(random: Random, slope: number, teethPerMinute: number): Point[] {
  const points: Point[] = [];
  let start = 0;
  let length = 0;
  let level = 0;
  for (let i = 0; i < MINUTES * SAMPLES_PER_MINUTE; i += 1) {
    const x = i / SAMPLES_PER_MINUTE;
    if (start + length <= x) {
      start = x;
      length = (0.8 + 0.4 * random.next()) / teethPerMinute;
      // Nearly normal, with a deviation of 1.
      level = random.next() + random.next() + random.next() + random.next() - 2;
      level *= Math.sqrt(3);
    }
    const jitter = 0.5 * random.next();
    points.push({ x, y: 200 + slope * x + level + 14 * ((x - start) / length) + jitter });
  }
  return points;
}

test.each([0, 0.4, -1])('a sawtooth with slope %d is found, within a third of a MiB', (slope) => {
  const random = createRandom(7, 'value');
  const rounds = 300;
  let hits = 0;
  let width = 0;
  for (let round = 0; round < rounds; round += 1) {
    const { low, high } = slopeOf(lowerEnvelope(sawtooth(random, slope, 3.3), WINDOWS));
    if (low <= slope && slope <= high) hits += 1;
    width += (high - low) / rounds;
  }
  expect(hits / rounds).toBeGreaterThan(0.92);
  expect(width / 2).toBeLessThan(1 / 3);
});
