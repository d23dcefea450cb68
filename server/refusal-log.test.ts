import { expect, test } from 'vitest';
import { RefusalLog } from './refusal-log.ts';

test('a line is said once a minute, few lines at all, and what was left out is counted', () => {
  let nowMs = 0;
  const lines: object[] = [];
  const log = new RefusalLog(
    (fields) => lines.push(fields),
    () => nowMs,
  );
  for (let count = 0; count < 1_000; count += 1) log.say('refused', { reason: 'identity' });
  expect(lines).toEqual([{ reason: 'identity' }]);
  for (let count = 0; count < 1_000; count += 1) log.say('refused', { reason: `frame ${count}` });
  expect(lines).toHaveLength(8);
  expect(lines[1]).toEqual({ reason: 'frame 0', suppressed: 999 });
  nowMs = 60_000;
  log.say('refused', { reason: 'identity' });
  expect(lines.at(-1)).toEqual({ reason: 'identity', suppressed: 993 });
  log.say('limit', { reason: 'identity' });
  expect(lines).toHaveLength(10);
});
