import { describe, expect, test } from 'vitest';
import { formatDuration, formatTime, humanDuration, parseDurationSeconds } from './duration.ts';

describe('parseDurationSeconds()', () => {
  const rows: [input: unknown, seconds: number | undefined][] = [
    [30, 30],
    [1.9, 1],
    ['30', 30],
    ['1h30m', 5400],
    ['-5s', -5],
    ['7d', 604_800],
    ['1500ms', 1],
    ['.5h', 1800],
    ['', 0],
    [null, 0],
    ['x', undefined],
    ['1h 30m', undefined],
    ['1d12h', undefined],
    [true, undefined],
    ['9999999999999', undefined],
    ['1.h', 3600],
    ['1.5.5h', undefined],
  ];
  test.each(rows)('%j', (input, seconds) => {
    expect(parseDurationSeconds(input)).toBe(seconds);
  });

  test('a long text is refused in one pass', () => {
    expect(parseDurationSeconds(`${'1'.repeat(3_000_000)}x`)).toBeUndefined();
  });
});

describe('humanDuration() leaves zero parts out of formatDuration()', () => {
  const rows: [seconds: number, go: string, human: string][] = [
    [0, '0s', '0s'],
    [45, '45s', '45s'],
    [60, '1m0s', '1m'],
    [3600, '1h0m0s', '1h'],
    [3605, '1h0m5s', '1h5s'],
    [5400, '1h30m0s', '1h30m'],
    [36_000, '10h0m0s', '10h'],
    [37_800, '10h30m0s', '10h30m'],
    [600, '10m0s', '10m'],
    [2_764_800, '768h0m0s', '768h'],
  ];
  test.each(rows)('%d', (seconds, go, human) => {
    expect(formatDuration(seconds)).toBe(go);
    expect(humanDuration(seconds)).toBe(human);
  });
});

test('formatTime() keeps as many digits as it needs', () => {
  expect([0, 500, 1_893_456_000_120, null].map(formatTime)).toEqual([
    '1970-01-01T00:00:00Z',
    '1970-01-01T00:00:00.5Z',
    '2030-01-01T00:00:00.12Z',
    '',
  ]);
});
