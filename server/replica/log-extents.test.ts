import { expect, test } from 'vitest';
import { EXTENTS_MAX, LogExtents } from './log-extents.ts';

test('however often it is looked at, and however far back, few extents are kept', () => {
  const extents = new LogExtents();
  const lookBackMs = 6_400;
  const late: number[] = [];
  let most = 0;
  for (let atMs = 0; atMs < 3 * lookBackMs; atMs += 1) {
    extents.add({ atMs, lastIndex: atMs }, lookBackMs);
    // Of nothing yet, and then of what is asked for or shortly before.
    late.push(Math.max(0, atMs - lookBackMs) - extents.lastIndexAt(atMs - lookBackMs));
    most = Math.max(most, extents.count);
  }
  expect(Math.min(...late)).toBe(0);
  expect(Math.max(...late)).toBe(lookBackMs / EXTENTS_MAX - 1);
  expect(most).toBe(EXTENTS_MAX + 1);
});

test('who does not look back asks for all that there is', () => {
  const extents = new LogExtents();
  for (let atMs = 1; atMs < 100; atMs += 1) {
    extents.add({ atMs, lastIndex: atMs }, 0);
    expect(extents.lastIndexAt(atMs)).toBe(atMs);
    expect(extents.count).toBe(1);
  }
});
