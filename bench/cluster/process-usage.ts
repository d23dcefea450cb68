/**
 * What a process has used so far, read from `/proc`. CPU comes from the scheduler's own
 * nanosecond accounting, summed over threads; the ticks of `/proc/<pid>/stat` are 10 ms coarse.
 */

import { readFileSync, readdirSync } from 'node:fs';

export type ProcessUsage = {
  readonly cpuNs: number;
  /** Time spent runnable but waiting for a core: contention, without any privilege. */
  readonly runDelayNs: number;
  readonly rssBytes: number;
};

const PAGE_BYTES = 4096;

/** Throws if the process is gone. */
export function readProcessUsage(processId: number): ProcessUsage {
  let cpuNs = 0;
  let runDelayNs = 0;
  for (const thread of readdirSync(`/proc/${processId}/task`)) {
    const [ran, delayed] = readThread(processId, thread);
    cpuNs += ran;
    runDelayNs += delayed;
  }
  const pages = Number(readFileSync(`/proc/${processId}/statm`, 'utf8').split(' ')[1]);
  return { cpuNs, runDelayNs, rssBytes: pages * PAGE_BYTES };
}

function readThread(processId: number, thread: string): [number, number] {
  try {
    const text = readFileSync(`/proc/${processId}/task/${thread}/schedstat`, 'utf8');
    const [ran, delayed] = text.split(' ');
    return [Number(ran), Number(delayed)];
  } catch {
    return [0, 0]; // The thread ended between listing and reading.
  }
}

/** CPU seconds that the whole machine has been busy, and how long it has been up in core seconds. */
export function readMachineUsage(): { busySeconds: number; stolenSeconds: number } {
  const first = readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '';
  const [user, nice, system, , , interrupt, softInterrupt, stolen] = first
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const ticks = [user, nice, system, interrupt, softInterrupt].reduce<number>(
    (sum, value) => sum + (value ?? 0),
    0,
  );
  return { busySeconds: ticks / 100, stolenSeconds: (stolen ?? 0) / 100 };
}
