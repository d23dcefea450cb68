/** The headers that mean something to the server, found in one pass over the raw list. */

import { ServerError } from '../errors.ts';

export type RequestHead = {
  token: string;
  /** Empty for root, else `a/b/`. */
  namespacePath: string;
  contentType: string;
  /** -1 without a Content-Length. */
  contentLength: number;
  isChunked: boolean;
  /** `X-Vault-Index`, at most one. */
  index: string | undefined;
  /** `X-Vault-Inconsistent`, unparsed. */
  inconsistent: string | undefined;
  /** `X-Bao-Consistency` and `X-Bao-Max-Staleness`, unparsed, each at most once. */
  consistency: string | undefined;
  maxStaleness: string | undefined;
  /** `X-Bao-Consistency-Info: 1`: tell in headers what the answer rests on. */
  consistencyInfo: boolean;
  /** `X-Vault-No-Request-Forwarding`: redirect instead of forwarding. */
  noForwarding: boolean;
  /** `X-Vault-Wrap-TTL`, unparsed. */
  wrapTtl: string;
};

/** Of these the first counts, so that no two nodes take a request for different ones. */
export const SINGLE_HEADERS: ReadonlySet<string> = new Set([
  'authorization',
  'content-type',
  'x-vault-namespace',
  'x-vault-token',
  'x-vault-wrap-ttl',
]);

/**
 * Names are compared only where the length fits, so that the usual handful of headers costs next
 * to nothing; `IncomingMessage.headers` would build an object of all of them. Of headers that repeat,
 * the first that is not empty counts (Go's `Header.Get`), here and where it is forwarded.
 *
 * @param raw alternating names and values, as received
 */
export function readHead(raw: readonly string[]): RequestHead {
  const head: RequestHead = {
    token: '',
    namespacePath: '',
    contentType: '',
    contentLength: -1,
    isChunked: false,
    index: undefined,
    inconsistent: undefined,
    consistency: undefined,
    maxStaleness: undefined,
    consistencyInfo: false,
    noForwarding: false,
    wrapTtl: '',
  };
  let bearer = '';
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    const length = name.length;
    if (length < 12 || (length > 20 && length !== 22 && length !== 29)) continue;
    const value = raw[at + 1] ?? '';
    if (length === 13 && name.toLowerCase() === 'authorization') bearer ||= bearerToken(value);
    else readHeader(head, name, value);
  }
  if (head.token === '') head.token = bearer;
  return head;
}

function readHeader(head: RequestHead, name: string, value: string): void {
  switch (name.toLowerCase()) {
    case 'x-vault-token':
      head.token ||= value;
      break;
    case 'x-vault-namespace':
      head.namespacePath ||= canonicalNamespace(value);
      break;
    case 'content-type':
      head.contentType ||= value;
      break;
    case 'content-length':
      head.contentLength = Number(value);
      break;
    case 'transfer-encoding':
      head.isChunked = true;
      break;
    case 'x-vault-index':
      head.index = once(head.index, 'X-Vault-Index', value);
      break;
    case 'x-vault-inconsistent':
      head.inconsistent = head.inconsistent === undefined ? value : `${head.inconsistent},${value}`;
      break;
    case 'x-bao-consistency':
      head.consistency = once(head.consistency, 'X-Bao-Consistency', value);
      break;
    case 'x-bao-max-staleness':
      head.maxStaleness = once(head.maxStaleness, 'X-Bao-Max-Staleness', value);
      break;
    case 'x-bao-consistency-info':
      head.consistencyInfo = value === '1' || value === 'true';
      break;
    case 'x-vault-no-request-forwarding':
      head.noForwarding = value !== '';
      break;
    case 'x-vault-wrap-ttl':
      head.wrapTtl ||= value;
      break;
    default:
  }
}

function once(present: string | undefined, name: string, value: string): string {
  if (present === undefined) return value;
  throw new ServerError('invalid-request', `more than one ${name} header`);
}

function bearerToken(authorization: string): string {
  const match = /^bearer +(\S+) *$/i.exec(authorization);
  return match?.[1] ?? '';
}

/** `/a/b` is `a/b/`; empty, `/` and `root` are the root namespace (OpenBao `namespace.Canonicalize`). */
function canonicalNamespace(value: string): string {
  // Not by a pattern, which would look for the end behind each of many slashes.
  let [start, end] = [0, value.length];
  while (value[start] === '/') start += 1;
  while (start < end && value[end - 1] === '/') end -= 1;
  const trimmed = value.slice(start, end);
  return trimmed === '' || trimmed === 'root' ? '' : `${trimmed}/`;
}
