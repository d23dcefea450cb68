/**
 * `delete/`, `undelete/` and `destroy/` of kv version 2: what happens to versions by number
 * (OpenBao internal/builtin/logical/kv path_delete.go, path_destroy.go).
 */

import type { Transaction, ViewOperation } from '../core/backend.ts';
import { integerListField, invalidRequest } from './fields.ts';
import type { Configuration, KeyMetadata, VersionMetadata } from './kv-v2-record.ts';
import {
  deleteVersion,
  deletionTimeMs,
  isDeleted,
  putKeyMetadata,
  readConfiguration,
  readKeyMetadata,
} from './kv-v2-record.ts';
import type { VersionedHandler } from './kv-v2-request.ts';
import { lockKey } from './kv-v2-request.ts';

type Change = (
  version: VersionMetadata,
  key: { metadata: KeyMetadata; configuration: Configuration; nowMs: number },
) => VersionMetadata;

export const deleteVersions: VersionedHandler = changeVersions(
  'No version number provided',
  (version, { nowMs }) => (isDeleted(version, nowMs) ? version : { ...version, deletionMs: nowMs }),
);

export const undeleteVersions: VersionedHandler = changeVersions(
  'No version number provided',
  (version, { metadata, configuration, nowMs }) => ({
    ...version,
    deletionMs: deletionTimeMs(nowMs, configuration, metadata),
  }),
);

export const destroyVersions: VersionedHandler = changeVersions(
  'no version number provided',
  (version) => ({ ...version, destroyed: true }),
);

/** Versions that do not exist, or are destroyed, stay as they are. */
function changeVersions(messageIfNone: string, changeOne: Change): VersionedHandler {
  return async ({ request, path, clock, locks }) => {
    const numbers = integerListField(request.data, 'versions') ?? [];
    if (numbers.length === 0) throw invalidRequest(messageIfNone);
    const negative = numbers.find((number) => number < 0);
    if (negative !== undefined) {
      throw invalidRequest(`versions must not be negative, got ${negative}`);
    }
    request.view.requireWritable?.();
    const change = (transaction: Transaction): undefined => {
      const metadata = readKeyMetadata(transaction, path);
      if (metadata === undefined) return;
      const key = {
        metadata,
        configuration: readConfiguration(transaction),
        nowMs: clock(),
      };
      const versions: Record<string, VersionMetadata> = { ...metadata.versions };
      const destroyed: ViewOperation[] = [];
      for (const number of new Set(numbers)) {
        const before = versions[number];
        if (before === undefined || before.destroyed) continue;
        const after = changeOne(before, key);
        versions[number] = after;
        if (after.destroyed) destroyed.push(deleteVersion(path, number));
      }
      transaction.write([putKeyMetadata(path, { ...metadata, versions }), ...destroyed]);
    };
    return locks.run(lockKey(request, path), () => request.transact(change));
  };
}
