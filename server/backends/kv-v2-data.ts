/**
 * `data/` and `subkeys/` of kv version 2 (OpenBao internal/builtin/logical/kv path_data.go,
 * path_subkeys.go).
 */

import type { Json, JsonObject, LogicalResponse, Transaction } from '../core/backend.ts';
import {
  countField,
  encodeJson,
  invalidRequest,
  isJsonObject,
  mapField,
  ownField,
  weakInteger,
} from './fields.ts';
import type { Configuration, KeyMetadata } from './kv-v2-record.ts';
import {
  addVersion,
  deleteVersion,
  isDeleted,
  newKeyMetadata,
  putKeyMetadata,
  putVersion,
  readConfiguration,
  readKeyMetadata,
  readVersionJson,
  versionInfo,
} from './kv-v2-record.ts';
import type { VersionedRequest } from './kv-v2-request.ts';
import { lockKey, NOTHING_TO_PATCH } from './kv-v2-request.ts';
import { checkSecretPath } from './listing.ts';
import { mergePatch } from './merge-patch.ts';

export function readData(versioned: VersionedRequest): LogicalResponse | undefined {
  const { request, path } = versioned;
  const found = findVersion(versioned);
  if (found === undefined) return undefined;
  const { metadata, version } = found;
  const info = versionInfo(metadata, version);
  if (found.isGone) return { status: 404, data: { data: null, metadata: info } };
  const json = readVersionJson(request.view, path, version);
  return { dataJson: `{"data":${json},"metadata":${JSON.stringify(info)}}` };
}

/** The shape of a secret: every value is null, down to `depth` levels (0: all). */
export function readSubkeys(versioned: VersionedRequest): LogicalResponse | undefined {
  const { request, path } = versioned;
  const depth = countField(request.data, 'depth') ?? 0;
  const found = findVersion(versioned);
  if (found === undefined) return undefined;
  const { metadata, version } = found;
  const info = versionInfo(metadata, version);
  if (found.isGone) return { status: 404, data: { subkeys: null, metadata: info } };
  const secret = parseSecret(readVersionJson(request.view, path, version));
  const subkeys = withoutValues(secret, depth === 0 ? Infinity : depth);
  return { data: { subkeys, metadata: info } };
}

export async function writeData(versioned: VersionedRequest): Promise<LogicalResponse | undefined> {
  const { request, path, locks } = versioned;
  const { data, view } = request;
  checkSecretPath(path);
  const secret = mapField(data, 'data');
  if (secret === undefined) throw invalidRequest('no data provided');
  const options = mapField(data, 'options');
  view.requireWritable?.();
  const json = encodeJson(secret);
  return locks.run(lockKey(request, path), () =>
    request.transact((transaction) => {
      const nowMs = versioned.clock();
      const metadata = readKeyMetadata(transaction, path) ?? newKeyMetadata(nowMs);
      const configuration = readConfiguration(transaction);
      checkCas(options, configuration, metadata);
      return storeVersion({ transaction, path, json, nowMs }, metadata, configuration);
    }),
  );
}

export async function patchData(versioned: VersionedRequest): Promise<LogicalResponse | undefined> {
  const { request, path, locks } = versioned;
  const { data, view } = request;
  const patch = mapField(data, 'data');
  if (patch === undefined) throw invalidRequest('no data provided');
  const options = mapField(data, 'options');
  view.requireWritable?.();
  return locks.run(lockKey(request, path), () =>
    request.transact((transaction) => {
      const nowMs = versioned.clock();
      const metadata = readKeyMetadata(transaction, path);
      if (metadata === undefined) return NOTHING_TO_PATCH;
      const configuration = readConfiguration(transaction);
      checkCas(options, configuration, metadata);
      const { currentVersion } = metadata;
      const current = metadata.versions[currentVersion];
      if (current === undefined) return NOTHING_TO_PATCH;
      if (current.destroyed || isDeleted(current, nowMs)) {
        return { status: 404, data: versionInfo(metadata, currentVersion) };
      }
      const secret = parseSecret(readVersionJson(transaction, path, currentVersion));
      const json = encodeJson(mergePatch(secret, patch));
      return storeVersion({ transaction, path, json, nowMs }, metadata, configuration);
    }),
  );
}

/** Marks the newest version as deleted; its data stays until it is destroyed. */
export async function deleteData(
  versioned: VersionedRequest,
): Promise<LogicalResponse | undefined> {
  const { request, path, clock, locks } = versioned;
  request.view.requireWritable?.();
  return locks.run(lockKey(request, path), () =>
    request.transact((transaction) => {
      const nowMs = clock();
      const metadata = readKeyMetadata(transaction, path);
      const current = metadata?.versions[metadata.currentVersion];
      if (metadata === undefined || current === undefined) return undefined;
      if (current.destroyed || isDeleted(current, nowMs)) return undefined;
      const versions = {
        ...metadata.versions,
        [metadata.currentVersion]: { ...current, deletionMs: nowMs },
      };
      transaction.write([putKeyMetadata(path, { ...metadata, versions })]);
      return undefined;
    }),
  );
}

/** The version that a read asks for, by default the newest. */
function findVersion({
  request,
  path,
  clock,
}: VersionedRequest): { metadata: KeyMetadata; version: number; isGone: boolean } | undefined {
  const wanted = countField(request.data, 'version') ?? 0;
  const metadata = readKeyMetadata(request.view, path);
  if (metadata === undefined) return undefined;
  const version = wanted === 0 ? metadata.currentVersion : wanted;
  const entry = metadata.versions[version];
  if (entry === undefined) return undefined;
  return { metadata, version, isGone: entry.destroyed || isDeleted(entry, clock()) };
}

function checkCas(
  options: JsonObject | undefined,
  configuration: Configuration,
  metadata: KeyMetadata,
): void {
  const given = options === undefined ? undefined : ownField(options, 'cas');
  if (given === undefined) {
    if (!configuration.casRequired && !metadata.casRequired) return;
    throw invalidRequest('check-and-set parameter required for this call');
  }
  const cas = weakInteger(given);
  if (cas === undefined) throw invalidRequest('error parsing check-and-set parameter');
  if (cas !== metadata.currentVersion) {
    throw invalidRequest('check-and-set parameter did not match the current version');
  }
}

function storeVersion(
  secret: { transaction: Transaction; path: string; json: string; nowMs: number },
  before: KeyMetadata,
  configuration: Configuration,
): LogicalResponse {
  const { transaction, path, json, nowMs } = secret;
  const { metadata, outdated } = addVersion(before, configuration, nowMs);
  transaction.write([
    putVersion(path, metadata.currentVersion, json),
    putKeyMetadata(path, metadata),
    ...outdated.map((version) => deleteVersion(path, version)),
  ]);
  return { data: versionInfo(metadata, metadata.currentVersion) };
}

function parseSecret(json: string): JsonObject {
  const secret: Json = JSON.parse(json);
  return isJsonObject(secret) ? secret : {};
}

function withoutValues(secret: JsonObject, depth: number): JsonObject {
  return Object.fromEntries(
    Object.entries(secret).map(([key, value]) => {
      const hasSubkeys = isJsonObject(value) && Object.keys(value).length > 0;
      return [key, hasSubkeys && depth > 1 ? withoutValues(value, depth - 1) : null];
    }),
  );
}
