/**
 * The files of snapshots in their directory. The name says what a file is:
 *
 *     <index>-<term>.snapshot         arrived, complete and durable: also the record of an
 *                                     installation under way (`recovery.ts`)
 *     <index>-<term>-<id>.part        on its way in
 *     <index>-<term>-<id>.outgoing    built here for others
 *     <id>.checkpoint                 a directory: what that is being built from
 *
 * Only the first kind outlives the process that wrote it.
 */

import { join } from 'node:path';
import type { SnapshotMetadata } from '../raft/message.ts';
import type { FileOperations } from './file-operations.ts';

export type SnapshotFile = {
  readonly file: string;
  readonly index: number;
  readonly term: number;
};

export function snapshotFileName(
  { lastIncludedIndex: index, lastIncludedTerm: term }: SnapshotMetadata,
  kind: 'snapshot' | { readonly id: Buffer; readonly suffix: 'part' | 'outgoing' },
): string {
  if (kind === 'snapshot') return `${index}-${term}.snapshot`;
  return `${index}-${term}-${kind.id.toString('hex')}.${kind.suffix}`;
}

export function checkpointName(id: Buffer): string {
  return `${id.toString('hex')}.checkpoint`;
}

/** The complete snapshots in the directory, which is created if missing; leftovers are removed. */
export async function findSnapshotFiles(
  files: FileOperations,
  directory: string,
): Promise<SnapshotFile[]> {
  await files.makeDirectory(directory);
  const found: SnapshotFile[] = [];
  for (const name of await files.list(directory)) {
    const match = /^(\d+)-(\d+)\.snapshot$/.exec(name);
    const file = join(directory, name);
    if (match !== null) found.push({ file, index: Number(match[1]), term: Number(match[2]) });
    else if (/\.(?:part|outgoing|checkpoint)$/.test(name)) await files.remove(file);
  }
  return found;
}
