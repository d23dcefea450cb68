import { expect, test } from 'vitest';
import { createRandom } from './random.ts';

test('equal seeds and streams give equal sequences, all others differ', () => {
  const draw = (seed: number, stream: 'key' | 'size') => {
    const random = createRandom(seed, stream);
    return Array.from({ length: 5 }, () => random.next()).join();
  };
  expect(draw(1, 'key')).toBe(draw(1, 'key'));
  expect(new Set([draw(1, 'key'), draw(1, 'size'), draw(2, 'key'), draw(-1, 'key')]).size).toBe(4);
});

test('below() is uniform by chi-square', () => {
  const random = createRandom(7, 'key');
  const counts = Array.from({ length: 64 }, () => 0);
  for (let i = 0; i < 64_000; i++) {
    const value = random.below(64);
    counts[value] = (counts[value] ?? 0) + 1;
  }
  const chiSquare = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  // 63 degrees of freedom: 0.1 % beyond 103.4 and below 32.
  expect(chiSquare).toBeLessThan(103.4);
  expect(chiSquare).toBeGreaterThan(32);
});
