/**
 * Method and URL to operation and path (OpenBao http/logical.go `buildLogicalRequestNoAuth`).
 * No URL class: the target is cut where it must be, and decoded only where something is encoded.
 */

import type { JsonObject, Operation } from '../core/backend.ts';
import { ServerError } from '../errors.ts';

export type RequestTarget = {
  readonly operation: Operation;
  /** Without `v1/`; ends in `/` for list and scan. */
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
  /** The request's data is its query; otherwise it is the body. */
  readonly isDataInQuery: boolean;
};

const API_PREFIX = '/v1/';
/** Printable, and neither encoded nor in need of a second look. */
const PLAIN_PATH = /^(?!.*\/(?:\/|\.\.?(?:\/|$)))[!-$&-~]*$/;
/** `unicode.IsPrint` of Go: of the separators only the ASCII space. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;
const RELATIVE = /(?:^|\/)\.\.?(?:\/|$)/;

/** Throws `unsupported-path` outside `/v1/`, `unsupported-operation`, `invalid-request`. */
export function parseTarget(method: string, url: string): RequestTarget {
  const question = url.indexOf('?');
  const query = question === -1 ? '' : url.slice(question + 1);
  const path = parsePath(question === -1 ? url : url.slice(0, question));
  switch (method) {
    case 'GET':
      return query === ''
        ? { operation: 'read', path, query, isDataInQuery: true }
        : { ...readOrList(path, query), query, isDataInQuery: true };
    case 'POST':
    case 'PUT':
      requireLeaf(path);
      return { operation: 'update', path, query, isDataInQuery: false };
    case 'PATCH':
      requireLeaf(path);
      return { operation: 'patch', path, query, isDataInQuery: false };
    case 'DELETE':
      return { operation: 'delete', path, query, isDataInQuery: true };
    case 'LIST':
      return { operation: 'list', path: directory(path), query, isDataInQuery: true };
    case 'SCAN':
      return { operation: 'scan', path: directory(path), query, isDataInQuery: true };
    default:
      throw new ServerError('unsupported-operation', `unsupported method ${method}`);
  }
}

/** The data of a request that has it in the query: what says list or scan is no part of it. */
export function queryData({ operation, query }: RequestTarget): JsonObject {
  return query === '' ? {} : parseQuery(query, operation === 'read' ? undefined : operation);
}

/** One value is a string, several are a list (OpenBao `parseQuery`). */
export function parseQuery(query: string, except?: string): JsonObject {
  const values = new Map<string, string | string[]>();
  for (const [key, value] of new URLSearchParams(query)) {
    if (key === except) continue;
    const present = values.get(key);
    if (present === undefined) values.set(key, value);
    else if (typeof present === 'string') values.set(key, [present, value]);
    else present.push(value);
  }
  return Object.fromEntries(values);
}

function parsePath(target: string): string {
  if (!target.startsWith(API_PREFIX)) throw new ServerError('unsupported-path', 'no such path');
  const path = target.slice(API_PREFIX.length);
  return PLAIN_PATH.test(target) ? path : decodePath(path);
}

function decodePath(encoded: string): string {
  let path: string;
  try {
    path = decodeURIComponent(encoded);
  } catch {
    throw new ServerError('invalid-request', 'malformed path encoding');
  }
  if (UNPRINTABLE.test(path)) {
    throw new ServerError('invalid-request', 'path contains unprintable characters');
  }
  if (RELATIVE.test(path)) throw new ServerError('invalid-request', 'relative paths not supported');
  // Go's router redirects to the path without empty segments; the outcome is the same.
  return path.replace(/\/{2,}/g, '/').replace(/^\//, '');
}

function readOrList(path: string, query: string): { operation: Operation; path: string } {
  const parameters = new URLSearchParams(query);
  const isList = booleanParameter(parameters, 'list');
  const isScan = booleanParameter(parameters, 'scan');
  if (isList && isScan) {
    throw new ServerError('invalid-request', 'list and scan exclude each other');
  }
  if (isList) return { operation: 'list', path: directory(path) };
  if (isScan) return { operation: 'scan', path: directory(path) };
  return { operation: booleanParameter(parameters, 'help') ? 'help' : 'read', path };
}

/** Go's `strconv.ParseBool`. */
function booleanParameter(parameters: URLSearchParams, name: string): boolean {
  const value = parameters.get(name);
  if (value === null || value === '') return false;
  if (/^(?:1|t|true|TRUE|True|T)$/.test(value)) return true;
  if (/^(?:0|f|false|FALSE|False|F)$/.test(value)) return false;
  throw new ServerError('invalid-request', `query parameter "${name}" must be a boolean`);
}

function directory(path: string): string {
  return path.endsWith('/') ? path : `${path}/`;
}

function requireLeaf(path: string): void {
  if (path.endsWith('/')) {
    throw new ServerError('invalid-request', "cannot write to a path ending in '/'");
  }
}
