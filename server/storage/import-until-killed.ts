/**
 * A process for `leveldb.test.ts` that kills itself while it imports a snapshot.
 *
 *     node import-until-killed.js <store directory> <snapshot file> <position> <step>
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { openLevelStoreWithSteps } from './leveldb.ts';
import { decodePosition } from './store-position.ts';

const [directory, snapshotPath, position, fatalStep] = process.argv.slice(2);
assert(directory !== undefined && snapshotPath !== undefined && position !== undefined);

const store = await openLevelStoreWithSteps(directory, { mode: 'sync' }, (step) => {
  if (step === fatalStep) process.kill(process.pid, 'SIGKILL');
});
await store.importSnapshot(
  decodePosition(Buffer.from(position)),
  chunks(readFileSync(snapshotPath)),
);
await store.close();

async function* chunks(bytes: Buffer) {
  yield bytes;
}
