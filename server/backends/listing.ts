/** Lists and scans of what lies below a prefix, and the shape in which OpenBao answers them. */

import type { Json, JsonObject, LogicalResponse, View } from '../core/backend.ts';
import { integerField, invalidRequest, stringField } from './fields.ts';

export type Page = { readonly after: string; readonly limit: number };

/** LevelDB's own limit is far above; OpenBao's bbolt refuses keys above it. */
const PATH_BYTES_MAX = 32_768;

/** `after` is exclusive and lexicographic; `limit` <= 0 means all. */
export function pageOf(data: JsonObject): Page {
  return { after: stringField(data, 'after') ?? '', limit: integerField(data, 'limit') ?? 0 };
}

/** A directory as a storage prefix: empty, or ending in a slash. */
export function directoryOf(path: string): string {
  return path === '' || path.endsWith('/') ? path : `${path}/`;
}

/** Refuses what cannot be the name of a secret. */
export function checkSecretPath(path: string): void {
  if (path === '') throw invalidRequest('missing path');
  if (path.endsWith('/')) throw invalidRequest("cannot write to a path ending in '/'");
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw invalidRequest(`path is too long; the limit is ${PATH_BYTES_MAX} bytes`);
  }
}

/**
 * Every key below `prefix`, relative to it and in byte order: `a`, `a/b`, `a/c/d`. Directories
 * that end before `after` are not entered, so that a page costs what it returns.
 */
export async function scanKeys(view: View, prefix: string, page: Page): Promise<string[]> {
  const keys: string[] = [];
  const pending = [''];
  while (pending.length > 0) {
    const next = pending.pop() ?? '';
    if (next !== '' && !next.endsWith('/')) {
      keys.push(next);
      if (0 < page.limit && page.limit <= keys.length) return keys;
      continue;
    }
    const children = await view.list(prefix + next);
    for (const child of children.toReversed()) {
      const path = next + child;
      const mayFollow = path.endsWith('/') && page.after.startsWith(path);
      if (mayFollow || comesAfter(path, page.after)) pending.push(path);
    }
  }
  return keys;
}

/** Undefined (404) for an empty list (sdk/logical/response.go ListResponse and its 404 rule). */
export function listResponse(keys: readonly string[]): LogicalResponse | undefined {
  return keys.length === 0 ? undefined : { data: { keys } };
}

/** An empty scan is answered with 200: OpenBao's 404 rule knows only lists. */
export function scanResponse(keys: readonly string[]): LogicalResponse {
  return { data: keys.length === 0 ? {} : { keys } };
}

export function withKeyInfo(
  response: LogicalResponse | undefined,
  keyInfo: readonly (readonly [string, Json])[],
): LogicalResponse | undefined {
  if (response === undefined || keyInfo.length === 0) return response;
  return { ...response, data: { ...response.data, key_info: Object.fromEntries(keyInfo) } };
}

function comesAfter(path: string, after: string): boolean {
  return after === '' || Buffer.compare(Buffer.from(path), Buffer.from(after)) > 0;
}
