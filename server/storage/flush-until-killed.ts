/**
 * A process for `overlay-crash.test.ts` that applies batches to an overlay store until it is
 * killed, and tells on stdout how far it is: `<visible index> <durable index>`.
 *
 *     node flush-until-killed.js <store directory>
 *
 * What a batch holds is a function of its index, so that the state at any index can be computed.
 */

import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { openLevelStore } from './leveldb.ts';
import type { StoreOperation } from './store.ts';

const KEYS = 40;
const VALUE_BYTES = 20_000;

/** Some keys are written, one is deleted, and one is overwritten within the batch. */
export function operationsAt(index: number): StoreOperation[] {
  const key = (number: number): string => `k/${(index * 7 + number) % KEYS}`;
  const value = (text: string): Buffer => Buffer.alloc(VALUE_BYTES, text);
  return [
    { kind: 'put', key: key(1), value: value(`${index} first `) },
    { kind: 'put', key: key(2), value: value(`${index} `) },
    { kind: 'delete', key: key(3) },
    { kind: 'put', key: key(1), value: value(`${index} second `) },
  ];
}

async function run(directory: string): Promise<void> {
  const store = await openLevelStore(directory, { mode: 'overlay' });
  let index = store.position().lastIncludedIndex;
  for (;;) {
    index += 1;
    const written = store.apply(operationsAt(index), {
      lastIncludedIndex: index,
      lastIncludedTerm: 1,
      configuration: { servers: [] },
    });
    if (written !== undefined) await written;
    store.publish();
    writeSync(1, `${index} ${store.durablePosition().lastIncludedIndex}\n`);
    await nextTurn();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  assert(process.argv[2] !== undefined);
  await run(process.argv[2]);
}
