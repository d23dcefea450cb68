/**
 * What a write costs at the disk, layer by layer: encoded, written, synced; then decoded and
 * applied. The log runs in this thread, so that its cost shows here.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Entry } from '../../server/raft/message.ts';
import { decodeCommand, encodeCommand } from '../../server/storage/command.ts';
import { SEGMENT_BYTES_DEFAULT, openDurableLogOn } from '../../server/storage/durable-log.ts';
import { encodeEntry } from '../../server/storage/entry-codec.ts';
import { openLevelStore } from '../../server/storage/leveldb.ts';
import { systemFiles, type LogFiles } from '../../server/storage/log-files.ts';
import type { Store, StoreOperation } from '../../server/storage/store.ts';
import type { MicroBenchmark, MicroGroup } from './benchmark.ts';

const ENTRIES = 16;
const VALUE = Buffer.alloc(1024, 7);
const PUTS = 4;
/** Keys that are written again and again, so that the store does not grow without end. */
const KEYS = 4096;
const DECODES = 100;

const UNSYNCED: LogFiles = {
  ...systemFiles,
  datasync: () => undefined,
  syncDirectory: () => undefined,
};

export async function storageWrites(): Promise<MicroGroup> {
  const directory = mkdtempSync(join(tmpdir(), 'baobench-micro-'));
  const what = `${ENTRIES} entries of 1 KiB`;
  const written = await openLog(join(directory, 'written'), UNSYNCED);
  const synced = await openLog(join(directory, 'synced'), systemFiles);
  const store = await openLevelStore(join(directory, 'store'), { mode: 'sync' });
  return {
    benchmarks: [
      entryEncoding(`log: encode ${what}`),
      logAppend(`log: encode and write ${what}`, written),
      logAppend(`log: encode, write and sync ${what}`, synced),
      commandDecoding(),
      storeApply(store),
    ],
    close: async () => {
      await written.close();
      await synced.close();
      await store.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function openLog(directory: string, files: LogFiles) {
  const { log } = await openDurableLogOn(files, directory, {
    thread: 'inline',
    segmentBytes: SEGMENT_BYTES_DEFAULT,
    identity: 'micro',
  });
  await log.append({ hardState: { currentTerm: 1, votedFor: null, commitIndex: 0 }, entries: [] });
  return log;
}

/** New objects each time: an entry is encoded once and remembered. */
function entriesAfter(index: number): Entry[] {
  return Array.from({ length: ENTRIES }, (_, i): Entry => {
    return { index: index + i + 1, term: 1, kind: 'command', command: VALUE };
  });
}

function entryEncoding(name: string): MicroBenchmark {
  let entries: Entry[] = [];
  return {
    kind: 'sync',
    name,
    callsPerSample: 1,
    prepare: () => {
      entries = entriesAfter(0);
    },
    run: () => {
      let bytes = 0;
      for (const entry of entries) bytes += encodeEntry(entry).length;
      return bytes;
    },
  };
}

function logAppend(name: string, log: Awaited<ReturnType<typeof openLog>>): MicroBenchmark {
  let entries: Entry[] = [];
  return {
    kind: 'async',
    name,
    callsPerSample: 1,
    prepare: () => {
      const last = entries.at(-1)?.index ?? 0;
      log.compact(last);
      entries = entriesAfter(last);
    },
    run: async () => {
      await log.append({ entries });
      return entries.length;
    },
  };
}

function putsFrom(first: number): StoreOperation[] {
  return Array.from({ length: PUTS }, (_, i): StoreOperation => {
    const key = `logical/5f0c1c1e-3a51-4d5c-8b0f-2f6a1e0b7c55/key-${(first + i) % KEYS}`;
    return { kind: 'put', key, value: VALUE };
  });
}

function commandDecoding(): MicroBenchmark {
  const commands = Array.from({ length: 64 }, (_, i) => encodeCommand(putsFrom(i * PUTS)));
  return {
    kind: 'sync',
    name: `fsm: decode a command of ${PUTS} puts of 1 KiB`,
    callsPerSample: DECODES,
    run: () => {
      let operations = 0;
      for (let i = 0; i < DECODES; i += 1) {
        const command = commands[i % commands.length];
        assert(command !== undefined);
        operations += decodeCommand(command).operations.length;
      }
      return operations;
    },
  };
}

function storeApply(store: Store): MicroBenchmark {
  let index = 0;
  let operations: StoreOperation[] = [];
  return {
    kind: 'async',
    name: `fsm: apply and publish ${PUTS} puts (LevelDB, synced)`,
    callsPerSample: 1,
    prepare: () => {
      index += 1;
      operations = putsFrom(index * PUTS);
    },
    run: async () => {
      await store.apply(operations, {
        lastIncludedIndex: index,
        lastIncludedTerm: 1,
        configuration: { servers: [] },
      });
      store.publish();
      return store.position().lastIncludedIndex;
    },
  };
}
