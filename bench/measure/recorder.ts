/**
 * What a run keeps beside `run.json`: an interval log of raw histograms, and samples of the nodes.
 * Collected in memory and written at the end, so that no disk write falls into a measurement.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Histogram } from '../load/histogram.ts';
import { formatIntervalLog, type IntervalEntry } from '../load/hlog.ts';
import type { ScalingNode } from '../run.ts';

export type Recorder = {
  /** `scope` becomes the tag: no comma, space or line end. Times in milliseconds of the epoch. */
  slice(scope: string, when: { startMs: number; endMs: number }, responses: Histogram): void;
  add(entries: readonly IntervalEntry[]): void;
  nodes(scope: string, nodes: readonly ScalingNode[]): void;
  write(directory: string): void;
};

export function createRecorder(startTimeMs: number): Recorder {
  const entries: IntervalEntry[] = [];
  const lines: string[] = [];
  return {
    slice(scope, { startMs, endMs }, responses) {
      entries.push({
        tag: `${scope}.response`,
        startTimeMs: startMs,
        lengthMs: endMs - startMs,
        maxUs: responses.maxUs,
        histogram: responses.encode(),
      });
    },
    add: (more) => void entries.push(...more),
    nodes(scope, nodes) {
      for (const node of nodes) lines.push(JSON.stringify({ scope, ...node }));
    },
    write(directory) {
      writeFileSync(join(directory, 'intervals.hlog'), formatIntervalLog({ startTimeMs, entries }));
      writeFileSync(join(directory, 'nodes.jsonl'), lines.map((line) => `${line}\n`).join(''));
    },
  };
}
