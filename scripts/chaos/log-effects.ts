/**
 * What the log of a stopped node does to each key of the mount, entry by entry: it is replayed from
 * its first entry on a store in memory. Values are encrypted, but physical paths are not: an entry
 * that writes `versions/<key>/<n>` is the one that made version n, and what that holds the cluster
 * itself has told.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';

import { ApplyGroup } from '../../server/replica/apply-group.ts';
import { openDurableLog, SEGMENT_BYTES_DEFAULT } from '../../server/storage/durable-log.ts';
import { createMemoryStore } from '../../server/storage/memory.ts';
import type { StoreOperation } from '../../server/storage/store.ts';
import type { StoredVersion } from '../../server/testing/history/durability.ts';
import type { LogEffect } from '../../server/testing/history/exact-index.ts';
import type { Seen } from '../../server/testing/history/operation.ts';

export type ReplayedLog = {
  readonly effects: readonly LogEffect[];
  readonly lastIndex: number;
  /** As `sys/internal/state-hash` tells it of a node. */
  readonly stateHash: string;
};

/** `kv-v2-record.ts`; a change there shows as a log without effects, which is refused. */
const VERSION_PATH = /\/versions\/([^/]+)\/(\d+)$/;
const METADATA_PATH = /\/metadata\/([^/]+)$/;

const NOTHING: Seen = { value: null, version: 0 };

/** Replays what the node has applied. */
export async function replayLog(
  raftDirectory: string,
  node: { readonly id: string; readonly appliedIndex: number },
  stored: readonly StoredVersion[],
): Promise<ReplayedLog> {
  const { log, recovered } = await openDurableLog(join(raftDirectory, 'log'), {
    thread: 'inline',
    segmentBytes: SEGMENT_BYTES_DEFAULT,
    identity: node.id,
  });
  await log.close();
  assert(
    recovered.snapshot.index === 0,
    'the log of the node does not reach back to its beginning',
  );
  const store = createMemoryStore();
  const tracker = new EffectTracker(stored);
  for (const entry of recovered.entries) {
    if (node.appliedIndex < entry.index) break;
    const group = new ApplyGroup(store, [entry], store.position().configuration);
    await group.evaluate();
    const operations = group.operations();
    await store.apply(operations, group.position());
    store.publish();
    tracker.note(entry.index, operations);
  }
  assert(tracker.effects.length > 0, 'the log shows no version of any key');
  const lastIndex = store.position().lastIncludedIndex;
  return { effects: tracker.effects, lastIndex, stateHash: await store.stateHash() };
}

class EffectTracker {
  readonly effects: LogEffect[] = [];
  readonly #values: ReadonlyMap<string, string>;
  readonly #states = new Map<string, Seen>();

  constructor(stored: readonly StoredVersion[]) {
    this.#values = new Map(stored.map(({ key, version, value }) => [`${key} ${version}`, value]));
  }

  /** Metadata that changes together with a version names that; by itself it deletes. */
  note(index: number, operations: readonly StoreOperation[]): void {
    const made = new Map<string, number>();
    for (const { key: path } of operations) {
      const [, key = '', version] = VERSION_PATH.exec(path) ?? [];
      if (version !== undefined) made.set(key, Number(version));
    }
    for (const { key: path } of operations) {
      const key = METADATA_PATH.exec(path)?.[1];
      if (key === undefined) continue;
      const version = made.get(key);
      const before = this.#states.get(key) ?? NOTHING;
      const value = version === undefined ? null : (this.#values.get(`${key} ${version}`) ?? null);
      const state = { value, version: version ?? before.version };
      this.#states.set(key, state);
      this.effects.push({ index, key, state });
    }
  }
}
