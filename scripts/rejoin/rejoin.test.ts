import { expect, test } from 'vitest';

import { runRejoin } from './run.ts';

test('a follower that missed what the log no longer holds comes back with caches that are right', async () => {
  const result = await runRejoin({
    ...{ writes: 3_000, concurrency: 32, valueBytes: 256, rate: 20, phaseMs: 500 },
    storage: { trailing_logs: 100 },
    say: () => undefined,
  });
  expect(result.staleAnswers).toEqual([]);
  // One, although writes went on: the log was kept for what the follower still needed.
  expect(result.snapshotCount).toBe(1);
  expect(result.snapshotBytes).toBeGreaterThan(3_000 * 256);
  const { before, during, after } = result.phases;
  expect(before.failures + during.failures + after.failures).toBe(0);
}, 120_000);
