/**
 * cubbyhole: storage that belongs to one token and goes with it (OpenBao
 * internal/vault/logical_cubbyhole.go, routing/router.go). Keys lie below the SHA-256 of the token,
 * so that a token can find its own and a key does not give a token away.
 */

import { createHash } from 'node:crypto';
import type { Backend, LogicalRequest, LogicalResponse, View } from '../core/backend.ts';
import { ServerError, unsupportedOperationError } from '../errors.ts';
import { encodeJson, invalidRequest } from './fields.ts';
import { checkSecretPath, directoryOf, listResponse, pageOf, scanKeys } from './listing.ts';

/** Operations per batch when a token's storage is cleared: far below the size of one log entry. */
const DELETES_PER_BATCH_MAX = 1000;

export function createCubbyhole(): Backend {
  return {
    type: 'cubbyhole',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async (request) => {
      const prefix = ownPrefix(request);
      switch (request.operation) {
        case 'read':
          return read(request, prefix);
        case 'create':
        case 'update':
          return write(request, prefix);
        case 'delete':
          return remove(request, prefix);
        case 'list':
          return listResponse(
            await request.view.list(prefix + directoryOf(request.path), pageOf(request.data)),
          );
        default:
          throw unsupportedOperationError();
      }
    },
    isOneTransaction: () => true,
    exists: async (request) => request.view.get(ownPrefix(request) + request.path) !== undefined,
    revokeToken: async (view, tokenId) => clear(view, prefixOf(tokenId)),
  };
}

function read({ view, path }: LogicalRequest, prefix: string): LogicalResponse | undefined {
  if (path === '') throw invalidRequest('missing path');
  const bytes = path.endsWith('/') ? undefined : view.get(prefix + path);
  if (bytes === undefined) return undefined;
  const { buffer, byteOffset, length } = bytes;
  return { dataJson: Buffer.from(buffer, byteOffset, length).toString('utf8') };
}

async function remove(
  request: LogicalRequest,
  prefix: string,
): Promise<LogicalResponse | undefined> {
  request.view.requireWritable?.();
  if (request.path === '') return undefined;
  return request.transact((transaction) => {
    transaction.write([{ kind: 'delete', key: prefix + request.path }]);
    return undefined;
  });
}

async function write(
  request: LogicalRequest,
  prefix: string,
): Promise<LogicalResponse | undefined> {
  const { data, path, view } = request;
  checkSecretPath(path);
  if (Object.keys(data).length === 0) throw invalidRequest('missing data fields');
  view.requireWritable?.();
  const value = Buffer.from(encodeJson(data));
  return request.transact((transaction) => {
    transaction.write([{ kind: 'put', key: prefix + path, value }]);
    return undefined;
  });
}

function ownPrefix({ token }: LogicalRequest): string {
  if (token === undefined) throw new ServerError('permission-denied', 'permission denied');
  if (token.type !== 'service') {
    throw invalidRequest("cubbyhole operations are only supported by 'service' type tokens");
  }
  return prefixOf(token.id);
}

function prefixOf(tokenId: string): string {
  return `${createHash('sha256').update(tokenId).digest('hex')}/`;
}

/** In pages from the start: what was deleted is no longer in the next one. */
async function clear(view: View, prefix: string): Promise<void> {
  const page = { after: '', limit: DELETES_PER_BATCH_MAX };
  for (;;) {
    const keys = await scanKeys(view, prefix, page);
    if (keys.length === 0) return;
    await view.write(keys.map((key) => ({ kind: 'delete', key: prefix + key })));
  }
}
