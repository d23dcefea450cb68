/**
 * The HdrHistogram interval log, version 1.3: one line per second and tag.
 *
 * Values are microseconds, the `Interval_Max` column is divided by 1000 (a comment in the log says
 * so, since the format does not). A tag is `<operation>.<node>.<route>.<clock>`.
 */

import assert from 'node:assert/strict';

/** The divisor of the `Interval_Max` column: microseconds in, milliseconds out. */
const MAX_RATIO = 1000;

const LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"';

/** A tag must survive in a comma-separated line, and the line must not look like a comment. */
const TAG = /^[^\s,"#][^\s,]*$/;

export type IntervalEntry = {
  readonly tag: string;
  /** Since the epoch. */
  readonly startTimeMs: number;
  readonly lengthMs: number;
  readonly maxUs: number;
  /** HdrHistogram V2, compressed, base64. */
  readonly histogram: string;
};

export type IntervalLog = {
  readonly startTimeMs: number;
  readonly entries: readonly IntervalEntry[];
};

export function formatIntervalLog(log: IntervalLog): string {
  const lines = [
    '#[Histogram log format version 1.3]',
    `#[StartTime: ${seconds(log.startTimeMs)} (seconds since epoch), ${new Date(log.startTimeMs).toUTCString()}]`,
    `#[Unit: us, MaxRatio: ${MAX_RATIO}]`,
    LEGEND,
  ];
  for (const entry of log.entries) {
    assert(TAG.test(entry.tag), `Cannot write interval log tag "${entry.tag}": no comma or space`);
    const columns = [
      seconds(entry.startTimeMs),
      seconds(entry.lengthMs),
      (entry.maxUs / MAX_RATIO).toFixed(3),
      entry.histogram,
    ];
    lines.push(`Tag=${entry.tag},${columns.join(',')}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Reads a log in absolute time, as `formatIntervalLog` writes it; untagged lines have the tag ''. */
export function parseIntervalLog(text: string): IntervalLog {
  let startTimeMs = 0;
  const entries: IntervalEntry[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const start = /^#\[StartTime: ([\d.]+)/.exec(line);
    if (start !== null) startTimeMs = Number(start[1]) * 1000;
    if (line.trim() === '' || line.startsWith('#') || line.startsWith('"')) continue;
    entries.push(parseEntry(line, index + 1));
  }
  return { startTimeMs, entries };
}

function parseEntry(line: string, lineNumber: number): IntervalEntry {
  const match =
    /^(?:Tag=([^,\s]+),)?(\d+(?:\.\d+)?),(\d+(?:\.\d+)?),(\d+(?:\.\d+)?),(HIST[\w+/=]+)$/.exec(
      line.trim(),
    );
  if (match === null) {
    throw new Error(`Cannot parse interval log line ${lineNumber}: "${line.slice(0, 60)}"`);
  }
  const [, tag = '', start, length, max, histogram = ''] = match;
  return {
    tag,
    startTimeMs: Math.round(Number(start) * 1000),
    lengthMs: Math.round(Number(length) * 1000),
    maxUs: Math.round(Number(max) * MAX_RATIO),
    histogram,
  };
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(3);
}
