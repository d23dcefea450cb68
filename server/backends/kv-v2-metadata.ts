/**
 * `metadata/` and `detailed-metadata/` of kv version 2 (OpenBao
 * internal/builtin/logical/kv/path_metadata.go).
 */

import type { JsonObject, LogicalResponse, Transaction } from '../core/backend.ts';
import { formatDuration, formatTime } from '../duration.ts';
import {
  booleanField,
  countField,
  durationField,
  integerField,
  invalidRequest,
  mapField,
  weakString,
} from './fields.ts';
import type { Configuration, KeyMetadata } from './kv-v2-record.ts';
import {
  deleteKeyMetadata,
  deleteVersion,
  METADATA_PREFIX,
  newKeyMetadata,
  putKeyMetadata,
  readConfiguration,
  readKeyMetadata,
} from './kv-v2-record.ts';
import type { VersionedRequest } from './kv-v2-request.ts';
import { lockKey, NOTHING_TO_PATCH } from './kv-v2-request.ts';
import {
  checkSecretPath,
  directoryOf,
  listResponse,
  pageOf,
  scanKeys,
  scanResponse,
  withKeyInfo,
} from './listing.ts';

/** path_metadata.go maxCustomMetadata*; lengths are bytes of UTF-8. */
const CUSTOM_KEYS_MAX = 64;
const CUSTOM_KEY_BYTES_MAX = 128;
const CUSTOM_VALUE_BYTES_MAX = 512;

type Settings = {
  readonly maxVersions: number | undefined;
  readonly casRequired: boolean | undefined;
  readonly metadataCasRequired: boolean | undefined;
  readonly deleteVersionAfterSeconds: number | undefined;
  readonly custom: JsonObject | undefined;
};

export function readMetadata({ request, path }: VersionedRequest): LogicalResponse | undefined {
  const metadata = readKeyMetadata(request.view, path);
  return metadata === undefined ? undefined : { data: metadataInfo(metadata) };
}

export async function writeMetadata(
  versioned: VersionedRequest,
): Promise<LogicalResponse | undefined> {
  const { request, path } = versioned;
  checkSecretPath(path);
  const settings = settingsOf(request.data);
  if (Object.values(settings).every((field) => field === undefined)) return undefined;
  const custom = customMetadataOf(settings.custom ?? {});
  return changeMetadata(versioned, settings, (metadata) => {
    const cas = integerField(request.data, 'metadata_cas');
    if (metadata === undefined && cas !== undefined && cas !== 0) {
      throw invalidRequest('metadata_cas must be 0 when creating new metadata');
    }
    return settings.custom === undefined ? (metadata?.customMetadata ?? {}) : custom;
  });
}

/** Null removes a key of the custom metadata, or all of it. */
export async function patchMetadata(
  versioned: VersionedRequest,
): Promise<LogicalResponse | undefined> {
  const { request, path } = versioned;
  const settings = settingsOf(request.data);
  if (Object.values(settings).every((field) => field === undefined)) return undefined;
  if (path === '') throw invalidRequest('missing path');
  const entries = Object.entries(settings.custom ?? {});
  const added = customMetadataOf(Object.fromEntries(entries.filter(([, value]) => value !== null)));
  const removed = new Set(entries.filter(([, value]) => value === null).map(([key]) => key));
  const removesAll = request.data['custom_metadata'] === null;
  return changeMetadata(versioned, settings, (metadata) => {
    if (metadata === undefined) return undefined;
    const kept = Object.entries(removesAll ? {} : (metadata.customMetadata ?? {}));
    const merged = {
      ...Object.fromEntries(kept.filter(([key]) => !removed.has(key))),
      ...added,
    };
    checkKeyCount(Object.keys(merged).length);
    return merged;
  });
}

/** The path goes, with every version of it. */
export async function deleteMetadata({
  request,
  path,
  locks,
}: VersionedRequest): Promise<LogicalResponse | undefined> {
  request.view.requireWritable?.();
  return locks.run(lockKey(request, path), () =>
    request.transact((transaction) => {
      const metadata = readKeyMetadata(transaction, path);
      if (metadata === undefined) return undefined;
      const versions = Object.keys(metadata.versions).map(Number);
      transaction.write([
        deleteKeyMetadata(path),
        ...versions.map((version) => deleteVersion(path, version)),
      ]);
      return undefined;
    }),
  );
}

export async function listMetadata(
  versioned: VersionedRequest,
): Promise<LogicalResponse | undefined> {
  const { request, path } = versioned;
  const directory = directoryOf(path);
  const keys = await request.view.list(METADATA_PREFIX + directory, pageOf(request.data));
  return withDetails(versioned, listResponse(keys), keys);
}

export async function scanMetadata(
  versioned: VersionedRequest,
): Promise<LogicalResponse | undefined> {
  const { request, path } = versioned;
  const prefix = METADATA_PREFIX + directoryOf(path);
  const keys = await scanKeys(request.view, prefix, pageOf(request.data));
  return withDetails(versioned, scanResponse(keys), keys);
}

function withDetails(
  { request, path }: VersionedRequest,
  response: LogicalResponse | undefined,
  keys: readonly string[],
): LogicalResponse | undefined {
  if (!request.path.startsWith('detailed-metadata')) return response;
  const directory = directoryOf(path);
  return withKeyInfo(
    response,
    keys.map((key) => {
      const metadata = readKeyMetadata(request.view, directory + key);
      return [key, metadata === undefined ? {} : metadataInfo(metadata)] as const;
    }),
  );
}

/**
 * Applies `settings` and the custom metadata that `customOf` makes of what there is; undefined
 * from it means that there is nothing to change (404).
 */
async function changeMetadata(
  { request, path, clock, locks }: VersionedRequest,
  settings: Settings,
  customOf: (metadata: KeyMetadata | undefined) => KeyMetadata['customMetadata'] | undefined,
): Promise<LogicalResponse | undefined> {
  const cas = integerField(request.data, 'metadata_cas');
  request.view.requireWritable?.();
  const change = (transaction: Transaction): LogicalResponse | undefined => {
    const configuration = readConfiguration(transaction);
    const current = readKeyMetadata(transaction, path);
    const custom = customOf(current);
    if (custom === undefined) return NOTHING_TO_PATCH;
    checkMetadataCas(cas, current, configuration);
    const nowMs = clock();
    const before = current ?? newKeyMetadata(nowMs);
    const after: KeyMetadata = {
      ...before,
      updatedMs: nowMs,
      metadataVersion: before.metadataVersion + 1,
      maxVersions: settings.maxVersions ?? before.maxVersions,
      casRequired: settings.casRequired ?? before.casRequired,
      metadataCasRequired: settings.metadataCasRequired ?? before.metadataCasRequired,
      deleteVersionAfterSeconds:
        settings.deleteVersionAfterSeconds ?? before.deleteVersionAfterSeconds,
      customMetadata: custom === null || Object.keys(custom).length === 0 ? null : custom,
    };
    transaction.write([putKeyMetadata(path, after)]);
    const warnings = mandateWarnings(settings, configuration);
    return warnings.length === 0 ? undefined : { warnings };
  };
  return locks.run(lockKey(request, path), () => request.transact(change));
}

function checkMetadataCas(
  cas: number | undefined,
  metadata: KeyMetadata | undefined,
  configuration: Configuration,
): void {
  const isRequired = configuration.metadataCasRequired || metadata?.metadataCasRequired === true;
  if (cas === undefined) {
    if (!isRequired) return;
    throw invalidRequest('metadata check-and-set parameter required for this call');
  }
  if (metadata !== undefined && cas !== metadata.metadataVersion) {
    throw invalidRequest('metadata check-and-set parameter does not match the current version');
  }
}

function mandateWarnings(settings: Settings, configuration: Configuration): string[] {
  const ignored = (name: string): string =>
    `"${name}" set to false, but is mandated by backend config. This value will be ignored.`;
  const warnings: string[] = [];
  if (settings.casRequired === false && configuration.casRequired) {
    warnings.push(ignored('cas_required'));
  }
  if (settings.metadataCasRequired === false && configuration.metadataCasRequired) {
    warnings.push(ignored('metadata_cas_required'));
  }
  return warnings;
}

function settingsOf(data: JsonObject): Settings {
  return {
    maxVersions: countField(data, 'max_versions'),
    casRequired: booleanField(data, 'cas_required'),
    metadataCasRequired: booleanField(data, 'metadata_cas_required'),
    deleteVersionAfterSeconds: durationField(data, 'delete_version_after'),
    custom: mapField(data, 'custom_metadata'),
  };
}

function customMetadataOf(given: JsonObject): { readonly [key: string]: string } {
  const entries = Object.entries(given);
  checkKeyCount(entries.length);
  const problems: string[] = [];
  const checked = entries.map(([key, value]) => {
    const text = weakString(value);
    if (text === undefined) {
      problems.push(`value for key ${JSON.stringify(key)} is not a string`);
      return [key, ''] as const;
    }
    problems.push(...customEntryProblems(key, text));
    return [key, text] as const;
  });
  if (problems.length > 0) throw customMetadataError(problems);
  return Object.fromEntries(checked);
}

function checkKeyCount(count: number): void {
  if (count <= CUSTOM_KEYS_MAX) return;
  throw customMetadataError([
    `payload must contain at most ${CUSTOM_KEYS_MAX} keys, provided ${count}`,
  ]);
}

function customEntryProblems(key: string, value: string): string[] {
  const quoted = JSON.stringify(key);
  const problems: string[] = [];
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes === 0 || keyBytes > CUSTOM_KEY_BYTES_MAX) {
    problems.push(
      `length of key ${quoted} is ${keyBytes} but must be 0 < len(key) <= ${CUSTOM_KEY_BYTES_MAX}`,
    );
  }
  const valueBytes = Buffer.byteLength(value);
  if (valueBytes === 0 || valueBytes > CUSTOM_VALUE_BYTES_MAX) {
    problems.push(
      `length of value for key ${quoted} is ${valueBytes} but must be 0 < len(value) <= ${CUSTOM_VALUE_BYTES_MAX}`,
    );
  }
  if (!isPrintable(key)) {
    problems.push(`key ${quoted} (${key}) contains unprintable characters`);
  }
  if (!isPrintable(value)) {
    problems.push(`value for key ${quoted} contains unprintable characters`);
  }
  return problems;
}

/** All problems at once, in the layout of go-multierror. */
function customMetadataError(problems: readonly string[]): Error {
  const noun = problems.length === 1 ? 'error' : 'errors';
  const lines = problems.map((problem) => `\t* custom_metadata validation failed: ${problem}\n`);
  return invalidRequest(`${problems.length} ${noun} occurred:\n${lines.join('')}\n`);
}

/** Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols, and the ASCII space. */
function isPrintable(text: string): boolean {
  return /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u.test(text);
}

function metadataInfo(metadata: KeyMetadata): JsonObject {
  const versions = Object.entries(metadata.versions).map(
    ([version, entry]) =>
      [
        version,
        {
          created_time: formatTime(entry.createdMs),
          deletion_time: formatTime(entry.deletionMs),
          destroyed: entry.destroyed,
        },
      ] as const,
  );
  return {
    versions: Object.fromEntries(versions),
    current_version: metadata.currentVersion,
    current_metadata_version: metadata.metadataVersion,
    oldest_version: metadata.oldestVersion,
    created_time: formatTime(metadata.createdMs),
    updated_time: formatTime(metadata.updatedMs),
    max_versions: metadata.maxVersions,
    cas_required: metadata.casRequired,
    metadata_cas_required: metadata.metadataCasRequired,
    delete_version_after: formatDuration(metadata.deleteVersionAfterSeconds),
    custom_metadata: metadata.customMetadata,
  };
}
