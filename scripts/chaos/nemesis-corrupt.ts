/**
 * Changes bytes in a file of a node that is down. Such a node may refuse to start, or start and say
 * of what it cannot read that it cannot; what it must not do is answer something else. Its files
 * are mended afterwards: the audit wants to see it whole.
 *
 * Only files that are written once are changed, and of a log only what whole batches follow: damage
 * at the very end cannot be told from a write that a crash cut short.
 */

import assert from 'node:assert/strict';
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Random } from '../../server/testing/random.ts';
import { pause, type Nemesis, type NemesisOptions } from './nemesis.ts';

const SERVES_MS = { min: 300, max: 1_000 };
const REST_MS = { min: 300, max: 1_000 };
const BYTES_CHANGED_MAX = 4;
/** A smaller file has no middle. */
const BYTES_MIN = 1024;
/** Beyond the file's own header, and well before the end of what is in use. */
const SPAN = { start: 0.1, end: 0.6 };

type Damage = { readonly file: string; readonly sound: Buffer };

export function createCorruptNemesis({ cluster, random }: NemesisOptions): Nemesis {
  return {
    name: 'corrupt',
    async cycle(broke) {
      const leader = await cluster.findActive();
      const id = random.pick(cluster.ids.filter((each) => each !== leader));
      const directory = cluster.raftDirectory(id);
      const node = cluster.node(id);
      cluster.signal(id, 'SIGKILL');
      await node.exited;

      const copy = `${directory}.sound`;
      cpSync(directory, copy, { recursive: true });
      const damage = changeBytes(directory, random);
      const kind = { wal: 'raft log', ldb: 'LevelDB table', log: 'LevelDB log' }[
        damage.file.slice(-3) as 'wal' | 'ldb' | 'log'
      ];
      const refusal = await cluster.cluster.restart(id).then(
        () => undefined,
        (error: unknown) => String(error),
      );
      broke(`${kind} damaged, ${refusal === undefined ? 'started' : 'refused'}`);
      if (refusal === undefined) {
        await pause(random, SERVES_MS.min, SERVES_MS.max);
        await stopAndMend(id, damage);
      } else {
        // It has promised nothing since. (One that refused when it was unsealed still runs.)
        await cluster.node(id).stop();
        rmSync(directory, { recursive: true });
        cpSync(copy, directory, { recursive: true });
      }
      rmSync(copy, { recursive: true });
      await cluster.cluster.restart(id);
      await pause(random, REST_MS.min, REST_MS.max);
    },
  };

  /** What the node has written since is kept. */
  async function stopAndMend(id: string, { file, sound }: Damage): Promise<void> {
    await cluster.node(id).stop();
    if (isThere(file)) writeFileSync(file, sound);
  }
}

function changeBytes(directory: string, random: Random): Damage {
  const file = random.pick(filesIn(directory, random.pick(['log', 'store'])));
  const sound = readFileSync(file);
  const bytes = Buffer.from(sound);
  const usedBytes = sound.findLastIndex((byte) => byte !== 0);
  const start = random.between(
    Math.floor(SPAN.start * usedBytes),
    Math.floor(SPAN.end * usedBytes),
  );
  for (let at = start; at < start + random.between(1, BYTES_CHANGED_MAX); at += 1) {
    bytes[at] = (bytes[at] ?? 0) ^ random.between(1, 255);
  }
  writeFileSync(file, bytes);
  return { file, sound };
}

/** Segments of the log; tables and write-ahead logs of LevelDB. */
function filesIn(directory: string, part: 'log' | 'store'): string[] {
  const folder = join(directory, part);
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(wal|ldb|log)$/.test(name))
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).size > BYTES_MIN);
  assert(files.length > 0, `no file to damage in ${folder}`);
  return files;
}

function isThere(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false }) !== undefined;
}
