/**
 * kv version 1: one JSON object per path (OpenBao internal/builtin/logical/kv/passthrough.go).
 *
 * The stored record is laid out so that a read parses nothing:
 *
 *     | u32 big endian: lease duration in seconds | JSON of the secret, UTF-8 |
 *
 * The duration is what the `ttl` (or `lease`) key of the secret says, worked out once when it is
 * written; `LEASE_UNSET` stands for the default of the mount at the time of the read.
 */

import assert from 'node:assert/strict';
import type { Backend, LogicalRequest, LogicalResponse } from '../core/backend.ts';
import { unsupportedOperationError } from '../errors.ts';
import { parseDurationSeconds } from '../duration.ts';
import { encodeJson, invalidRequest, ownField } from './fields.ts';
import {
  checkSecretPath,
  directoryOf,
  listResponse,
  pageOf,
  scanKeys,
  scanResponse,
} from './listing.ts';

/** 768 h, OpenBao's `default_lease_ttl`. */
const DEFAULT_LEASE_TTL_SECONDS = 2_764_800;
const LEASE_BYTES = 4;
const LEASE_UNSET = 0xffff_ffff;

export function createKvV1(): Backend {
  return {
    type: 'kv',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async (request) => {
      switch (request.operation) {
        case 'read':
          return read(request);
        case 'create':
        case 'update':
          return write(request);
        case 'delete':
          return remove(request);
        case 'list':
          return list(request);
        case 'scan':
          return scan(request);
        default:
          throw unsupportedOperationError();
      }
    },
    isOneTransaction: () => true,
    exists: async ({ view, path }) => path !== '' && view.get(path) !== undefined,
  };
}

function read(request: LogicalRequest): LogicalResponse | undefined {
  if (request.path === '' || request.path.endsWith('/')) return undefined;
  const record = request.view.get(request.path);
  if (record === undefined) return undefined;
  assert(record.length > LEASE_BYTES, 'kv record is too short');
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.length);
  const leaseSeconds = bytes.readUInt32BE(0);
  return {
    dataJson: bytes.toString('utf8', LEASE_BYTES),
    leaseDurationSeconds:
      leaseSeconds === LEASE_UNSET
        ? (request.defaultLeaseTtlSeconds ?? DEFAULT_LEASE_TTL_SECONDS)
        : leaseSeconds,
  };
}

async function write(request: LogicalRequest): Promise<LogicalResponse | undefined> {
  checkSecretPath(request.path);
  const { data, path, view } = request;
  if (Object.keys(data).length === 0) throw invalidRequest('missing data fields');
  view.requireWritable?.();
  const json = encodeJson(data);
  const record = Buffer.allocUnsafe(LEASE_BYTES + Buffer.byteLength(json));
  record.writeUInt32BE(leaseSecondsOf(data), 0);
  record.write(json, LEASE_BYTES, 'utf8');
  return request.transact((transaction) => {
    transaction.write([{ kind: 'put', key: path, value: record }]);
    return undefined;
  });
}

async function remove(request: LogicalRequest): Promise<LogicalResponse | undefined> {
  const { path, view } = request;
  view.requireWritable?.();
  if (path === '' || path.endsWith('/')) return undefined;
  return request.transact((transaction) => {
    transaction.write([{ kind: 'delete', key: path }]);
    return undefined;
  });
}

async function list(request: LogicalRequest): Promise<LogicalResponse | undefined> {
  const keys = await request.view.list(directoryOf(request.path), pageOf(request.data));
  return listResponse(keys);
}

async function scan(request: LogicalRequest): Promise<LogicalResponse> {
  const directory = directoryOf(request.path);
  return scanResponse(await scanKeys(request.view, directory, pageOf(request.data)));
}

/** What cannot be parsed, or does not fit a lease, leaves the mount's default in force. */
function leaseSecondsOf(data: LogicalRequest['data']): number {
  const hint = ownField(data, 'ttl') ?? ownField(data, 'lease');
  if (hint === undefined) return LEASE_UNSET;
  const seconds = parseDurationSeconds(hint);
  return seconds === undefined || seconds < 0 || LEASE_UNSET <= seconds ? LEASE_UNSET : seconds;
}
