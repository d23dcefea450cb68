/**
 * What went wrong with snapshots elsewhere, as tests of what happens here. Of the same list:
 * S-40, S-46, and S-47 are in `snapshot.test.ts`, S-44 in `snapshot-transfer.test.ts`, S-65 in
 * `catch-up-hold.test.ts`; S-42, S-45, S-48, S-49 are scripts in `raft/testdata`.
 */

import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openLevelStore } from '../storage/leveldb.ts';
import { decodeSnapshot } from '../storage/snapshot-codec.ts';
import { snapshotHost } from '../testing/snapshot-host.ts';
import { SnapshotBuilder } from './snapshot-builder.ts';
import { findSnapshotFiles } from './snapshot-files.ts';

const logger = { info() {}, warn() {}, error() {} };
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'catalogue-'));
});

afterEach(() => rm(directory, { recursive: true }));

test('S-41: what a crash left of a file being written is no snapshot (redisraft #654)', async () => {
  const id = 'ab'.repeat(16);
  for (const name of [`7-2-${id}.part`, `7-2-${id}.outgoing`, `restore-${id}.part`]) {
    await writeFile(join(directory, name), '');
  }
  await mkdir(join(directory, `${id}.checkpoint`));
  await writeFile(join(directory, `${id}.checkpoint`, 'CURRENT'), '');
  await writeFile(join(directory, '9-2.snapshot'), 'whole');
  expect(await findSnapshotFiles(snapshotHost.files, directory)).toEqual([
    { file: join(directory, '9-2.snapshot'), index: 9, term: 2 },
  ]);
  expect(await readdir(directory)).toEqual(['9-2.snapshot']);
});

test.each(['sync', 'overlay'] as const)(
  'S-43: a snapshot that is built while entries are applied is of one index (openraft #1892): %s',
  async (mode) => {
    const store = await openLevelStore(join(directory, 'store'), { mode });
    const builder = new SnapshotBuilder({
      ...snapshotHost,
      directory: join(directory, 'files'),
      store,
      bytesPerSecond: 0,
      logger,
    });
    const configuration = { servers: [] };
    const apply = async (index: number): Promise<void> => {
      // Every entry says its own index everywhere.
      const value = Buffer.from(`${index}`.padEnd(2_000, '.'));
      const keys = Array.from({ length: 50 }, (_, number) => `k/${number}`);
      const position = { lastIncludedIndex: index, lastIncludedTerm: 1, configuration };
      await store.apply(
        keys.map((key) => ({ kind: 'put' as const, key, value })),
        position,
      );
      store.publish();
    };
    let index = 0;
    for (let round = 0; round < 8; round += 1) {
      index += 1;
      await apply(index);
      const leased = builder.lease(() => index + 1);
      while (builder.statistics().count === round) {
        index += 1;
        await apply(index);
        // No faster than a disk takes it: a checkpoint waits for all that came before it.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const { snapshot, file, release } = await leased;
      const values = new Set<string>();
      for await (const pairs of decodeSnapshot(snapshot, createReadStream(file))) {
        for (const { value } of pairs)
          values.add(Buffer.from(value).toString().split('.')[0] ?? '');
      }
      expect([...values]).toEqual([String(snapshot.lastIncludedIndex)]);
      expect(snapshot.lastIncludedIndex).toBeLessThan(index);
      release();
    }
    await builder.close();
    await store.close();
    expect(await readdir(join(directory, 'files'))).toEqual([]);
  },
);
