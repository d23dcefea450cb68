/**
 * How long a node takes from the start of its process until it serves local reads of everything
 * that it knew to be committed, with a large state and a long log behind it.
 *
 * Two states of the disk: the store holds all that is committed, as after an orderly end, or none
 * of the log, which is more than a crash in mode `overlay` can leave to replay. The node is one of
 * three voters and its peers are away: it serves what its log says is committed, no more. The files
 * come from the page cache.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import { encodeConfiguration } from '../../../server/raft/configuration.ts';
import type { Entry } from '../../../server/raft/message.ts';
import { openReplicaStorage } from '../../../server/replica/replica-storage.ts';
import { encodeCommand } from '../../../server/storage/command.ts';
import type { StoreOperation } from '../../../server/storage/store.ts';

export type RestartSize = {
  readonly keys: number;
  readonly entries: number;
  readonly rounds: number;
};

/** Milliseconds since the process began. */
export type Stages = {
  readonly loadedMs: number;
  readonly storeMs: number;
  readonly logMs: number;
  readonly servingMs: number;
  /** CPU of the whole process by then: what a busy machine leaves comparable. */
  readonly cpuMs: number;
};

export type Restarts = {
  readonly level: readonly Stages[];
  /** With the whole log to replay. */
  readonly behind: readonly Stages[];
};

export const VALUE_BYTES = 300;
export const OPTIONS = { nodeId: 'n1', logThread: 'worker', fsmMode: 'overlay' } as const;
const PROGRAM = fileURLToPath(new URL('./measured-node.js', import.meta.url));
const BATCH = 2_000;
const RESTART_MS_MAX = 120_000;
const SERVERS = ['n1', 'n2', 'n3'].map((id) => {
  return { id, address: '127.0.0.1:1', suffrage: 'voter' as const };
});

/** In `directory`, which the caller removes. */
export async function measureRestarts(directory: string, size: RestartSize): Promise<Restarts> {
  const { keys, entries, rounds } = size;
  const credentials = await createClusterCredentials();
  writeFileSync(join(directory, 'credentials.json'), JSON.stringify(credentials), { mode: 0o600 });
  const behind = join(directory, 'behind');
  await build(behind, keys, entries);
  const level = join(directory, 'level');
  cpSync(behind, level, { recursive: true });
  await applyAll(level, entries);
  return {
    level: restartEach(level, entries, rounds),
    behind: restartEach(behind, entries, rounds),
  };
}

/** A store that stands at the first entry of a log with so many entries, all known committed. */
async function build(directory: string, keys: number, entries: number): Promise<void> {
  const storage = await openReplicaStorage(directory, OPTIONS);
  const position = {
    lastIncludedIndex: 1,
    lastIncludedTerm: 1,
    configuration: { servers: SERVERS },
  };
  for (let first = 0; first < keys; first += BATCH) {
    const puts = Array.from({ length: Math.min(BATCH, keys - first) }, (_, i) => putOf(first + i));
    await storage.store.apply(puts, position);
    storage.store.publish();
  }
  await storage.store.close();
  const { log } = await storage.openLog();
  const hardState = { currentTerm: 1, votedFor: 'n1', commitIndex: 0 };
  const servers = encodeConfiguration({ servers: SERVERS });
  await log.append({
    hardState,
    entries: [{ index: 1, term: 1, kind: 'configuration', command: servers }],
  });
  for (let first = 2; first <= entries; first += BATCH) {
    await log.append({ entries: entriesFrom(first, Math.min(BATCH, entries - first + 1)) });
  }
  await log.append({ hardState: { ...hardState, commitIndex: entries }, entries: [] });
  await log.close();
}

/** What the store is filled with. */
function putOf(number: number): StoreOperation {
  const key = `logical/5f0c1c1e-3a51-4d5c-8b0f-2f6a1e0b7c55/key-${number}`;
  return { kind: 'put', key, value: Buffer.alloc(VALUE_BYTES, number) };
}

/** What the entry at an index puts: another value, so that one who did not apply it is found out. */
export function laterPutOf(index: number): { readonly key: string; readonly value: Buffer } {
  return { key: putOf(index).key, value: Buffer.alloc(VALUE_BYTES, index + 1) };
}

function entriesFrom(first: number, count: number): Entry[] {
  return Array.from({ length: count }, (_, i): Entry => {
    const command = encodeCommand([{ kind: 'put', ...laterPutOf(first + i) }]);
    return { index: first + i, term: 1, kind: 'command', command };
  });
}

/** Brings the store to the end of the log. */
async function applyAll(directory: string, entries: number): Promise<void> {
  const { store } = await openReplicaStorage(directory, OPTIONS);
  for (let first = 2; first <= entries; first += BATCH) {
    const count = Math.min(BATCH, entries - first + 1);
    const puts = Array.from({ length: count }, (_, i): StoreOperation => {
      return { kind: 'put', ...laterPutOf(first + i) };
    });
    await store.apply(puts, { ...store.position(), lastIncludedIndex: first + count - 1 });
    store.publish();
  }
  await store.close();
}

function restartEach(directory: string, entries: number, rounds: number): Stages[] {
  const stages: Stages[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // Each restart changes what it finds.
    const copy = `${directory}-${round}`;
    cpSync(directory, copy, { recursive: true });
    const child = spawnSync(process.execPath, [PROGRAM, copy, String(entries)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: RESTART_MS_MAX,
      killSignal: 'SIGKILL',
    });
    assert.equal(child.status, 0, 'a restart failed, or took too long');
    stages.push(JSON.parse(child.stdout) as Stages);
    rmSync(copy, { recursive: true });
  }
  return stages;
}
