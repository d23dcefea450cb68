/**
 * kv version 2: paths with versions, check-and-set and metadata (OpenBao
 * internal/builtin/logical/kv). This file holds the routes and the configuration of the mount;
 * `kv-v2-record.ts` says what is stored.
 *
 * - A change of a path is one transaction: check-and-set holds when it is applied, whoever wrote in
 *   between. The lock of the path is for fairness only: rivals queue instead of conflicting. It
 *   exists on the active node alone, because a standby stops at `requireWritable`.
 * - Reads take no lock: storage is read synchronously, so a handler that does not wait between its
 *   reads sees one state.
 */

import type {
  Backend,
  LogicalRequest,
  LogicalResponse,
  Operation,
  Transaction,
} from '../core/backend.ts';
import { unsupportedOperationError } from '../errors.ts';
import { formatDuration } from '../duration.ts';
import { booleanField, countField, signedDurationField } from './fields.ts';
import { KeyLock } from './key-lock.ts';
import { deleteData, patchData, readData, readSubkeys, writeData } from './kv-v2-data.ts';
import {
  deleteMetadata,
  listMetadata,
  patchMetadata,
  readMetadata,
  scanMetadata,
  writeMetadata,
} from './kv-v2-metadata.ts';
import {
  DELETE_VERSION_AFTER_DISABLED,
  hasKeyMetadata,
  putConfiguration,
  readConfiguration,
} from './kv-v2-record.ts';
import type { Clock, VersionedHandler, VersionedRequest } from './kv-v2-request.ts';
import { lockKey } from './kv-v2-request.ts';
import { deleteVersions, destroyVersions, undeleteVersions } from './kv-v2-versions.ts';

type Operations = { readonly [operation in Operation]?: VersionedHandler };

const ROUTES = new Map<string, Operations>([
  [
    'data',
    {
      read: readData,
      create: writeData,
      update: writeData,
      patch: patchData,
      delete: deleteData,
    },
  ],
  [
    'metadata',
    {
      read: readMetadata,
      create: writeMetadata,
      update: writeMetadata,
      patch: patchMetadata,
      delete: deleteMetadata,
      list: listMetadata,
      scan: scanMetadata,
    },
  ],
  ['detailed-metadata', { list: listMetadata, scan: scanMetadata }],
  ['delete', { create: deleteVersions, update: deleteVersions }],
  ['undelete', { create: undeleteVersions, update: undeleteVersions }],
  ['destroy', { create: destroyVersions, update: destroyVersions }],
  ['subkeys', { read: readSubkeys }],
]);

const CONFIG_OPERATIONS: Operations = {
  read: readConfig,
  create: writeConfig,
  update: writeConfig,
};

/** What the CLI calls each operation, for the hint on a path that version 2 does not have. */
const CLI_COMMANDS: { readonly [operation in Operation]?: string } = {
  create: 'put',
  update: 'put',
  patch: 'patch',
  read: 'get',
  list: 'list',
  scan: 'scan',
  delete: 'delete',
};

export function createKvV2(clock: Clock): Backend {
  const locks = new KeyLock();
  return {
    type: 'kv',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async (request) => {
      const { section, path } = splitPath(request);
      const operations = path === undefined ? undefined : ROUTES.get(section);
      const isConfig = request.path === 'config';
      const handlers = isConfig ? CONFIG_OPERATIONS : operations;
      if (handlers === undefined) return invalidPath(request);
      const handler = handlers[request.operation];
      if (handler === undefined) {
        throw unsupportedOperationError();
      }
      return handler({ request, path: path ?? '', clock, locks });
    },
    isOneTransaction: () => true,
    exists: async (request) => {
      const { section, path } = splitPath(request);
      if (path === undefined || (section !== 'data' && section !== 'metadata')) return true;
      return hasKeyMetadata(request.view, path);
    },
  };
}

/** `path` is undefined where the request names no secret; a list of the root may omit its slash. */
function splitPath({ path, operation }: LogicalRequest): {
  section: string;
  path: string | undefined;
} {
  const slash = path.indexOf('/');
  if (slash !== -1) return { section: path.slice(0, slash), path: path.slice(slash + 1) };
  const isListing = operation === 'list' || operation === 'scan';
  return { section: path, path: isListing ? '' : undefined };
}

/** backend.go pathInvalid: 404 with a hint in an envelope. */
function invalidPath({ path, operation }: LogicalRequest): LogicalResponse {
  if (ROUTES.has(path) && path !== 'subkeys' && path !== 'detailed-metadata') {
    const warning = 'Non-listing operations on the root of a K/V v2 mount are not supported.';
    return { status: 404, warnings: [warning] };
  }
  const command = CLI_COMMANDS[operation] ?? '';
  return {
    status: 404,
    warnings: [
      `Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the OpenBao CLI, use 'bao kv ${command}' for this operation.`,
    ],
  };
}

function readConfig({ request }: VersionedRequest): LogicalResponse {
  const configuration = readConfiguration(request.view);
  return {
    data: {
      max_versions: configuration.maxVersions,
      cas_required: configuration.casRequired,
      metadata_cas_required: configuration.metadataCasRequired,
      delete_version_after: formatDuration(configuration.deleteVersionAfterSeconds),
    },
  };
}

async function writeConfig({
  request,
  locks,
}: VersionedRequest): Promise<LogicalResponse | undefined> {
  const { data, view } = request;
  const maxVersions = countField(data, 'max_versions');
  const casRequired = booleanField(data, 'cas_required');
  const metadataCasRequired = booleanField(data, 'metadata_cas_required');
  const deleteAfter = signedDurationField(data, 'delete_version_after');
  const given = [maxVersions, casRequired, metadataCasRequired, deleteAfter];
  if (given.every((field) => field === undefined)) return undefined;
  view.requireWritable?.();
  // The lock of the empty path: no secret has it.
  const change = (transaction: Transaction): undefined => {
    const current = readConfiguration(transaction);
    const configuration = {
      maxVersions: maxVersions ?? current.maxVersions,
      casRequired: casRequired ?? current.casRequired,
      metadataCasRequired: metadataCasRequired ?? current.metadataCasRequired,
      deleteVersionAfterSeconds:
        deleteAfter === undefined
          ? current.deleteVersionAfterSeconds
          : Math.max(deleteAfter, DELETE_VERSION_AFTER_DISABLED),
    };
    transaction.write([putConfiguration(configuration)]);
  };
  return locks.run(lockKey(request, ''), () => request.transact(change));
}
