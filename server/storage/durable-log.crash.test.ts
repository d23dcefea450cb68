import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { openDurableLog } from './durable-log.ts';

const PROGRAM = fileURLToPath(new URL('./append-until-killed.js', import.meta.url));
const OPTIONS = { thread: 'inline', segmentBytes: 128 * 1024, identity: 'crash/n1' } as const;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'durable-log-crash-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Reopens the log, checks what it holds, and returns its last index. */
async function lastIntactIndex(): Promise<number> {
  const { log, recovered } = await openDurableLog(directory, OPTIONS);
  await log.close();
  for (const [i, entry] of recovered.entries.entries()) {
    expect(entry.index).toBe(i + 1);
    const isIntact = Buffer.alloc(2000, `${entry.index} `).equals(entry.command);
    expect(isIntact).toBe(true);
  }
  return recovered.entries.length;
}

/** Kills the program with its `count`-th acknowledgment, and returns the last one that it sent. */
async function runUntilKilled(thread: 'worker' | 'inline', count: number): Promise<number> {
  const child = spawn(process.execPath, [PROGRAM, directory, thread, '131072'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let acknowledged = 0;
  let lineCount = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Math.max(acknowledged, Number(line));
    lineCount += 1;
    if (lineCount === count) child.kill('SIGKILL');
  }
  await exited;
  return acknowledged;
}

test.each(['worker', 'inline'] as const)(
  'what a killed process acknowledged is there (%s)',
  async (thread) => {
    for (let round = 1; round <= 10; round += 1) {
      const acknowledged = await runUntilKilled(thread, 1 + ((round * 37) % 150));
      expect(await lastIntactIndex()).toBeGreaterThanOrEqual(acknowledged);
    }
  },
);

test.each(['worker', 'inline'] as const)(
  'a file-size limit fails appends with its code, and loses nothing (%s)',
  async (thread) => {
    // 1.5 MiB: a segment that the large entry needs for itself is too much. Node would die of the
    // signal.
    const script = `trap '' XFSZ; ulimit -f 3072; exec "$0" "$@"`;
    const command = [process.execPath, PROGRAM, directory, thread, '1048576', '300'];
    const child = spawnSync('sh', ['-c', script, ...command]);
    const lines = child.stdout.toString().trim().split('\n');
    expect(lines.at(-1)).toBe('failed EFBIG');
    const acknowledged = Math.max(...lines.slice(0, -1).map(Number));
    expect(acknowledged).toBeGreaterThan(100);
    expect(await lastIntactIndex()).toBeGreaterThanOrEqual(acknowledged);
    expect(child.status).toBe(0);
  },
);
