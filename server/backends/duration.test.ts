import { describe, expect, test } from 'vitest';
import { formatDuration, formatTime, parseDurationSeconds } from './duration.ts';

describe('a duration is read as Go and parseutil read it', () => {
  test.each<[unknown, number | undefined]>([
    [30, 30],
    [-1, -1],
    [1.9, 1],
    ['30', 30],
    ['-30', -30],
    ['', 0],
    [null, 0],
    ['1h', 3600],
    ['1h30m', 5400],
    ['1.5h', 5400],
    ['-5s', -5],
    ['7d', 604_800],
    ['900ms', 0],
    ['1s500ms', 1],
    ['9223372036', 9_223_372_036],
    ['9223372037', undefined],
    [1e300, undefined],
    [Number.NaN, undefined],
    ['1y', undefined],
    ['h', undefined],
    ['1h ago', undefined],
    ['soon', undefined],
    [true, undefined],
    [[], undefined],
    [{}, undefined],
  ])('%j is %j', (input, seconds) => {
    expect(parseDurationSeconds(input)).toBe(seconds);
  });
});

test.each([
  [0, '0s'],
  [59, '59s'],
  [60, '1m0s'],
  [3600, '1h0m0s'],
  [12_319, '3h25m19s'],
  [-1, '-1s'],
])('%d seconds print as %s', (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test.each([
  [null, ''],
  [Date.UTC(2026, 0, 2, 10, 0, 0, 0), '2026-01-02T10:00:00Z'],
  [Date.UTC(2026, 0, 2, 10, 0, 0, 120), '2026-01-02T10:00:00.12Z'],
  [Date.UTC(2026, 0, 2, 10, 0, 0, 1), '2026-01-02T10:00:00.001Z'],
])('%j prints as %s', (timeMs, text) => {
  expect(formatTime(timeMs)).toBe(text);
});
