import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { operationsAt } from './flush-until-killed.ts';
import { openLevelStore } from './leveldb.ts';
import { createMemoryStore } from './memory.ts';

const PROGRAM = fileURLToPath(new URL('./flush-until-killed.js', import.meta.url));

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'overlay-crash-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Kills the program at its `count`-th line; returns the last line, which came before the kill. */
async function runUntilKilled(count: number): Promise<{ visible: number; durable: number }> {
  const child = spawn(process.execPath, [PROGRAM, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let last = { visible: 0, durable: 0 };
  let lineCount = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const [visible = 0, durable = 0] = line.split(' ').map(Number);
    last = { visible, durable };
    lineCount += 1;
    if (lineCount === count) child.kill('SIGKILL');
  }
  await exited;
  return last;
}

/** The digest of the state at `index`, from the batches up to there. */
async function hashAt(index: number): Promise<string> {
  const store = createMemoryStore();
  for (let i = 1; i <= index; i += 1) {
    const configuration = { servers: [] };
    await store.apply(operationsAt(i), {
      lastIncludedIndex: i,
      lastIncludedTerm: 1,
      configuration,
    });
    store.publish();
  }
  return store.stateHash();
}

test('a killed process leaves exactly one state that was visible, no older than what was durable', async () => {
  let flushedRounds = 0;
  for (let round = 1; round <= 8; round += 1) {
    const { visible, durable } = await runUntilKilled(20 + ((round * 61) % 200));
    const store = await openLevelStore(directory, { mode: 'overlay' });
    const { lastIncludedIndex } = store.position();
    expect(lastIncludedIndex).toBeGreaterThanOrEqual(durable);
    expect(lastIncludedIndex).toBeLessThanOrEqual(visible);
    expect(await store.stateHash()).toBe(await hashAt(lastIncludedIndex));
    if (lastIncludedIndex < visible) flushedRounds += 1;
    await store.close();
  }
  // Otherwise it was killed only when there was nothing to lose.
  expect(flushedRounds).toBeGreaterThan(0);
});
