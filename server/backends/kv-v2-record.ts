/**
 * What kv version 2 stores, below a prefix of its own so that a mount that was version 1 can be
 * told apart from it (OpenBao uses the mount's UUID for the same purpose):
 *
 *     <prefix>config                      Configuration
 *     <prefix>metadata/<path>             KeyMetadata: the versions there are, and what is set
 *     <prefix>versions/<path>/<number>    JSON of one version's data, as it was sent
 *
 * KeyMetadata is read with every secret, so its versions are no JSON:
 *
 *     | u32 length | settings, JSON | entry | entry | ...
 *     entry:  u48 version | u48 created, ms | u48 deleted, ms (0: not) | u8 destroyed
 *
 * `<path>/<number>` names one version of one path: equal names would need equal last segments,
 * hence equal numbers and equal paths. Metadata and versions of a path change together, in one
 * batch, and both are read in one turn: no reader sees one without the other. (OpenBao
 * internal/builtin/logical/kv/types.proto, path_data.go AddVersion, delete_version_after.go)
 */

import assert from 'node:assert/strict';
import type { JsonObject, Transaction, View, ViewOperation } from '../core/backend.ts';
import { formatTime } from '../duration.ts';

/** What records are read from: storage, or a transaction on it. */
type Reader = Pick<View | Transaction, 'get'>;

const PREFIX = 'kv2-3f9d1c52/';
export const METADATA_PREFIX = `${PREFIX}metadata/`;
const VERSIONS_PREFIX = `${PREFIX}versions/`;
const CONFIG_KEY = `${PREFIX}config`;

const LENGTH_BYTES = 4;
/** 48 bits: until the year 10889. */
const TIME_BYTES = 6;
const ENTRY_BYTES = 3 * TIME_BYTES + 1;

/** path_data.go defaultMaxVersions. */
const MAX_VERSIONS_DEFAULT = 10;
/** Value of `deleteVersionAfterSeconds` in the configuration that turns the feature off. */
export const DELETE_VERSION_AFTER_DISABLED = -1;

/** Zero means that nothing is set. */
export type Configuration = {
  readonly maxVersions: number;
  readonly casRequired: boolean;
  readonly metadataCasRequired: boolean;
  readonly deleteVersionAfterSeconds: number;
};

export type VersionMetadata = {
  readonly createdMs: number;
  /** May lie in the future. */
  readonly deletionMs: number | null;
  readonly destroyed: boolean;
};

/**
 * - `versions` holds at most `currentVersion`, and nothing below `oldestVersion`.
 * - A version that is not destroyed has its data stored.
 */
export type KeyMetadata = {
  readonly versions: { readonly [version: string]: VersionMetadata };
  /** 0 while there is only metadata. */
  readonly currentVersion: number;
  /** 0 until the window of versions moves for the first time. */
  readonly oldestVersion: number;
  readonly createdMs: number;
  readonly updatedMs: number;
  /** Counts the writes of the metadata itself. */
  readonly metadataVersion: number;
  readonly maxVersions: number;
  readonly casRequired: boolean;
  readonly metadataCasRequired: boolean;
  readonly deleteVersionAfterSeconds: number;
  readonly customMetadata: { readonly [key: string]: string } | null;
};

const UNCONFIGURED: Configuration = {
  maxVersions: 0,
  casRequired: false,
  metadataCasRequired: false,
  deleteVersionAfterSeconds: 0,
};

export function newKeyMetadata(nowMs: number): KeyMetadata {
  return {
    versions: {},
    currentVersion: 0,
    oldestVersion: 0,
    createdMs: nowMs,
    updatedMs: nowMs,
    metadataVersion: 0,
    maxVersions: 0,
    casRequired: false,
    metadataCasRequired: false,
    deleteVersionAfterSeconds: 0,
    customMetadata: null,
  };
}

export function readConfiguration(view: Reader): Configuration {
  const bytes = view.get(CONFIG_KEY);
  return bytes === undefined ? UNCONFIGURED : (parse(asBuffer(bytes)) as Configuration);
}

export function putConfiguration(configuration: Configuration): ViewOperation {
  return { kind: 'put', key: CONFIG_KEY, value: Buffer.from(JSON.stringify(configuration)) };
}

/** Whether `readKeyMetadata` finds any, without parsing it. */
export function hasKeyMetadata(view: Reader, path: string): boolean {
  return path !== '' && !path.endsWith('/') && view.get(METADATA_PREFIX + path) !== undefined;
}

export function readKeyMetadata(view: Reader, path: string): KeyMetadata | undefined {
  if (path === '' || path.endsWith('/')) return undefined;
  const bytes = view.get(METADATA_PREFIX + path);
  return bytes === undefined ? undefined : decodeKeyMetadata(bytes);
}

export function putKeyMetadata(path: string, metadata: KeyMetadata): ViewOperation {
  assert(metadata.oldestVersion <= metadata.currentVersion + 1);
  return { kind: 'put', key: METADATA_PREFIX + path, value: encodeKeyMetadata(metadata) };
}

export function deleteKeyMetadata(path: string): ViewOperation {
  return { kind: 'delete', key: METADATA_PREFIX + path };
}

/** The data of a version that its metadata says to exist, as JSON text. */
export function readVersionJson(view: Reader, path: string, version: number): string {
  const bytes = view.get(versionKey(path, version));
  assert(bytes !== undefined, 'could not find version data');
  return asBuffer(bytes).toString('utf8');
}

export function putVersion(path: string, version: number, json: string): ViewOperation {
  return { kind: 'put', key: versionKey(path, version), value: Buffer.from(json) };
}

export function deleteVersion(path: string, version: number): ViewOperation {
  return { kind: 'delete', key: versionKey(path, version) };
}

/**
 * Adds a version and moves the window: returns the metadata and which versions fell out of it.
 * The larger of the two limits counts, as in OpenBao.
 */
export function addVersion(
  metadata: KeyMetadata,
  configuration: Configuration,
  nowMs: number,
): { metadata: KeyMetadata; outdated: number[] } {
  const currentVersion = metadata.currentVersion + 1;
  const versions: Record<string, VersionMetadata> = {
    ...metadata.versions,
    [currentVersion]: {
      createdMs: nowMs,
      deletionMs: deletionTimeMs(nowMs, configuration, metadata),
      destroyed: false,
    },
  };
  const limit = Math.max(metadata.maxVersions, configuration.maxVersions) || MAX_VERSIONS_DEFAULT;
  const oldestVersion =
    currentVersion - metadata.oldestVersion >= limit
      ? currentVersion - limit + 1
      : metadata.oldestVersion;
  const outdated = Object.keys(versions)
    .map(Number)
    .filter((version) => version < oldestVersion);
  const kept = Object.entries(versions).filter(([version]) => Number(version) >= oldestVersion);
  return {
    metadata: {
      ...metadata,
      versions: Object.fromEntries(kept),
      currentVersion,
      oldestVersion,
      updatedMs: nowMs,
    },
    outdated,
  };
}

/** When a version that is created, or brought back, now is deleted by itself. */
export function deletionTimeMs(
  nowMs: number,
  configuration: Configuration,
  metadata: KeyMetadata,
): number | null {
  const ofMount = configuration.deleteVersionAfterSeconds;
  if (ofMount === DELETE_VERSION_AFTER_DISABLED) return null;
  const set = [ofMount, metadata.deleteVersionAfterSeconds].filter((seconds) => seconds > 0);
  return set.length === 0 ? null : nowMs + Math.min(...set) * 1000;
}

export function isDeleted(version: VersionMetadata, nowMs: number): boolean {
  return version.deletionMs !== null && version.deletionMs <= nowMs;
}

/** How a version is described by reads, writes and refusals alike. */
export function versionInfo(metadata: KeyMetadata, version: number): JsonObject {
  const entry = metadata.versions[version];
  assert(entry !== undefined);
  return {
    version,
    created_time: formatTime(entry.createdMs),
    deletion_time: formatTime(entry.deletionMs),
    destroyed: entry.destroyed,
    custom_metadata: metadata.customMetadata,
  };
}

function versionKey(path: string, version: number): string {
  return `${VERSIONS_PREFIX}${path}/${version}`;
}

function encodeKeyMetadata({ versions, ...settings }: KeyMetadata): Buffer {
  const json = Buffer.from(JSON.stringify(settings));
  const entries = Object.entries(versions);
  const record = Buffer.alloc(LENGTH_BYTES + json.length + entries.length * ENTRY_BYTES);
  record.writeUInt32BE(json.length, 0);
  json.copy(record, LENGTH_BYTES);
  let offset = LENGTH_BYTES + json.length;
  for (const [version, { createdMs, deletionMs, destroyed }] of entries) {
    record.writeUIntBE(Number(version), offset, TIME_BYTES);
    record.writeUIntBE(createdMs, offset + TIME_BYTES, TIME_BYTES);
    record.writeUIntBE(deletionMs ?? 0, offset + 2 * TIME_BYTES, TIME_BYTES);
    record.writeUInt8(destroyed ? 1 : 0, offset + 3 * TIME_BYTES);
    offset += ENTRY_BYTES;
  }
  assert(offset === record.length);
  return record;
}

function decodeKeyMetadata(bytes: Uint8Array): KeyMetadata {
  const record = asBuffer(bytes);
  const end = LENGTH_BYTES + record.readUInt32BE(0);
  assert((record.length - end) % ENTRY_BYTES === 0, 'kv metadata has half an entry');
  const versions: Record<string, VersionMetadata> = {};
  for (let offset = end; offset < record.length; offset += ENTRY_BYTES) {
    const deletionMs = record.readUIntBE(offset + 2 * TIME_BYTES, TIME_BYTES);
    versions[record.readUIntBE(offset, TIME_BYTES)] = {
      createdMs: record.readUIntBE(offset + TIME_BYTES, TIME_BYTES),
      deletionMs: deletionMs === 0 ? null : deletionMs,
      destroyed: record.readUInt8(offset + 3 * TIME_BYTES) === 1,
    };
  }
  const settings = parse(record.subarray(LENGTH_BYTES, end)) as Omit<KeyMetadata, 'versions'>;
  return { ...settings, versions };
}

/** Only this file writes these records, so their shape needs no check beyond being JSON. */
function parse(json: Buffer): unknown {
  return JSON.parse(json.toString('utf8'));
}

function asBuffer({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}
