import { expect, test } from 'vitest';
import { CommitTimes } from './raft-statistics.ts';

test('a batch counts from its proposal until all of it is committed', () => {
  const times = new CommitTimes();
  times.proposed(3, 100);
  times.proposed(5, 110);
  times.committed(2, 120);
  expect(times.statistics().count).toBe(0);
  times.committed(4, 130);
  expect(times.statistics()).toMatchObject({ count: 1, lastMs: 30 });
  times.committed(9, 200);
  expect(times.statistics()).toEqual({ count: 2, lastMs: 90, totalMs: 120, maxMs: 90 });
});

test('what a deposed leader had proposed does not count', () => {
  const times = new CommitTimes();
  times.proposed(3, 100);
  times.leadershipLost();
  times.committed(3, 500);
  expect(times.statistics().count).toBe(0);
});
