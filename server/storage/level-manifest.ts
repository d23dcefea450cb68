/**
 * Which files a LevelDB database is made of, from its manifest: a log of edits, the sum of which is
 * the present (leveldb db/version_edit.cc).
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { LevelCursor } from './level-cursor.ts';
import { readLevelLog, type LevelFault } from './level-log.ts';

export type LevelManifest = {
  /** By number. */
  readonly tables: ReadonlySet<number>;
  /** Logs before this one have become tables. */
  readonly firstLog: number;
};

const FILE_NAME = /^(\d+)\.(ldb|log)$/;
const COMPARATOR = 1;
const LOG_NUMBER = 2;
const NEXT_FILE_NUMBER = 3;
const LAST_SEQUENCE = 4;
const COMPACT_POINTER = 5;
const DELETED_FILE = 6;
const NEW_FILE = 7;
const PREVIOUS_LOG_NUMBER = 9;

/** The name of the manifest that counts in a database's directory. */
export async function manifestName(directory: string): Promise<string> {
  return (await readFile(join(directory, 'CURRENT'), 'utf8')).trim();
}

export async function readManifestFile(
  path: string,
): Promise<{ readonly manifest: LevelManifest; readonly fault: LevelFault | undefined }> {
  const { records, fault } = readLevelLog(await readFile(path));
  return { manifest: readManifest(records), fault };
}

/** Whether a file of the directory is a table or a log of the database, not a leftover. */
export function isInUse(name: string, { tables, firstLog }: LevelManifest): boolean {
  const [, number = '', extension] = FILE_NAME.exec(name) ?? [];
  if (extension === 'log') return firstLog <= Number(number);
  return extension === 'ldb' && tables.has(Number(number));
}

function readManifest(records: readonly Buffer[]): LevelManifest {
  const tables = new Set<number>();
  let firstLog = 0;
  for (const record of records) {
    const cursor = new LevelCursor(record, 0);
    while (cursor.offset < record.length) {
      const tag = cursor.varint();
      switch (tag) {
        case COMPARATOR:
          cursor.skipString();
          break;
        case LOG_NUMBER:
          firstLog = cursor.varint();
          break;
        case NEXT_FILE_NUMBER:
        case LAST_SEQUENCE:
        case PREVIOUS_LOG_NUMBER:
          cursor.varint();
          break;
        case COMPACT_POINTER:
          cursor.varint();
          cursor.skipString();
          break;
        case DELETED_FILE:
          cursor.varint();
          tables.delete(cursor.varint());
          break;
        case NEW_FILE:
          cursor.varint();
          tables.add(cursor.varint());
          cursor.varint();
          cursor.skipString();
          cursor.skipString();
          break;
        default:
          throw new Error(`Cannot read the manifest of a store: tag ${tag} is unknown`);
      }
    }
  }
  return { tables, firstLog };
}
