/** The thread that writes one snapshot: reads a checkpoint, says what it has written, and ends. */

import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';

import { exportCheckpoint } from '../storage/level-reads.ts';
import { systemClock } from './clock.ts';
import { systemFileOperations } from './file-operations.ts';
import { Pace } from './pace.ts';
import { writeChunks } from './snapshot-source.ts';
import type { SnapshotWork } from './snapshot-source.ts';

const { checkpoint, position, file, bytesPerSecond } = workerData as SnapshotWork;
const port = parentPort;
assert(port !== null);
const stopped = new AbortController();
const pace = new Pace(bytesPerSecond, systemClock);
port.once('message', () => {
  stopped.abort(new Error('the node stops'));
  pace.lift();
});
try {
  const chunks = pace.spread(exportCheckpoint(checkpoint, position));
  port.postMessage(await writeChunks(systemFileOperations, file, chunks, stopped.signal));
} finally {
  port.close();
}
