/**
 * A process for `durable-log.crash.test.ts` that appends entries until it is killed, or until an
 * append fails, and tells on stdout the index of each entry that is acknowledged.
 *
 *     node append-until-killed.js <log directory> <thread> <segment bytes> [<index of a large entry>]
 */

import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';

import type { Entry } from '../raft/message.ts';
import { openDurableLog } from './durable-log.ts';

const CONCURRENCY = 8;
const COMMAND_BYTES = 2000;
const LARGE_BYTES = 2 * 1024 * 1024;

const [directory, thread, segmentBytes, largeIndex] = process.argv.slice(2);
assert(directory !== undefined);
assert(thread === 'worker' || thread === 'inline');

const { log, recovered } = await openDurableLog(directory, {
  thread,
  segmentBytes: Number(segmentBytes),
  identity: 'crash/n1',
});
let last = recovered.entries.at(-1)?.index ?? recovered.snapshot.index;
const term = recovered.hardState.currentTerm + 1;
await log.append({ hardState: { currentTerm: term, votedFor: null, commitIndex: 0 }, entries: [] });

async function appendAll(): Promise<void> {
  for (;;) {
    last += 1;
    const entry: Entry = {
      index: last,
      term,
      kind: 'command',
      command: Buffer.alloc(last === Number(largeIndex) ? LARGE_BYTES : COMMAND_BYTES, `${last} `),
    };
    await log.append({ entries: [entry] });
    writeSync(1, `${entry.index}\n`);
  }
}

try {
  await Promise.all(Array.from({ length: CONCURRENCY }, appendAll));
} catch (error) {
  assert(error instanceof Error);
  const { cause } = error;
  assert(cause instanceof Error && 'code' in cause);
  writeSync(1, `failed ${String(cause.code)}\n`);
  await log.close();
}
