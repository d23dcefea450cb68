/**
 * The machine that a result belongs to, and how quiet it was. Figures from different machines are
 * never compared, so this says enough to tell them apart; it names no host and no path.
 */

import { closeSync, fdatasyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { readMachineUsage } from '../cluster/process-usage.ts';
import type { Environment } from '../run.ts';

const FSYNC_SAMPLES = 200;
const FSYNC_BYTES = 512;
const QUIET_MS = 1_500;
const TIMER_MS = 5;

/** Takes about two seconds, during which nothing else of the run may work. */
export async function observeEnvironment(directory: string): Promise<Environment> {
  const before = readMachineUsage();
  const startedNs = process.hrtime.bigint();
  const ownBefore = process.cpuUsage();
  const timerLagP99Us = await timerLag(QUIET_MS);
  const elapsedSeconds = Number(process.hrtime.bigint() - startedNs) / 1e9;
  const own = process.cpuUsage(ownBefore);
  const ownSeconds = (own.user + own.system) / 1e6;
  const busySeconds = readMachineUsage().busySeconds - before.busySeconds;

  return {
    node: process.versions.node,
    v8: process.versions.v8,
    os: `${type()} ${release()} ${process.arch}`,
    cpuModel: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    filesystem: filesystemOf(directory),
    fsyncP50Us: fsyncP50(directory),
    timerLagP99Us,
    loadAverage: loadavg()[0] ?? 0,
    tenantCores: Math.max(0, (busySeconds - ownSeconds) / elapsedSeconds),
  };
}

async function timerLag(durationMs: number): Promise<number> {
  const lagsUs: number[] = [];
  const endNs = process.hrtime.bigint() + BigInt(durationMs) * 1_000_000n;
  while (process.hrtime.bigint() < endNs) {
    const startedNs = process.hrtime.bigint();
    await delay(TIMER_MS);
    lagsUs.push(Number(process.hrtime.bigint() - startedNs) / 1_000 - TIMER_MS * 1_000);
  }
  return quantile(lagsUs, 0.99);
}

/** What one acknowledged write must wait for on this disk, in microseconds. */
function fsyncP50(directory: string): number {
  const path = join(directory, 'fsync-probe');
  const file = openSync(path, 'w');
  const block = Buffer.alloc(FSYNC_BYTES, 1);
  const timesUs: number[] = [];
  try {
    for (let i = 0; i < FSYNC_SAMPLES; i++) {
      const startedNs = process.hrtime.bigint();
      writeSync(file, block);
      fdatasyncSync(file);
      timesUs.push(Number(process.hrtime.bigint() - startedNs) / 1_000);
    }
  } finally {
    closeSync(file);
    rmSync(path);
  }
  return quantile(timesUs, 0.5);
}

function quantile(values: number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0);
}

/** The type of the file system with the longest mount point above `directory`. */
export function filesystemOf(directory: string): string {
  let best = { length: -1, type: 'unknown' };
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    const mountPoint = left?.split(' ')[4];
    const kind = right?.split(' ')[0];
    if (mountPoint === undefined || kind === undefined) continue;
    const isAbove = mountPoint === '/' || `${directory}/`.startsWith(`${mountPoint}/`);
    if (isAbove && mountPoint.length > best.length)
      best = { length: mountPoint.length, type: kind };
  }
  return best.type;
}
