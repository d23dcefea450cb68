/**
 * `X-Vault-Index` and `X-Vault-Inconsistent`: a client carries the index of what it has seen, and
 * says what a node that has not applied it yet should do (OpenBao RFC index-headers; internal/http
 * /index.go). The value is base64 of `{"cluster","namespace","value"}`.
 */

import { ServerError } from '../errors.ts';

export type StorageIndex = { readonly cluster: string; readonly value: number };

export type Inconsistent =
  | { readonly kind: 'fail' }
  | { readonly kind: 'forward-active-node' }
  /** `otherwise` is undefined where the client leaves it to the listener. */
  | { readonly kind: 'await-state'; readonly otherwise: Fallback | undefined };

export type Fallback = 'fail' | 'forward-active-node';

/** Encodes for one cluster, and remembers the last answer: reads between two writes share it. */
export function createIndexEncoder(): (
  cluster: string,
  namespacePath: string,
  value: number,
) => string {
  let last = { cluster: '', value: -1, text: '' };
  return (cluster, namespacePath, value) => {
    if (namespacePath !== '') return encodeIndex(cluster, namespacePath, value);
    if (last.value !== value || last.cluster !== cluster) {
      last = { cluster, value, text: encodeIndex(cluster, '', value) };
    }
    return last.text;
  };
}

function encodeIndex(cluster: string, namespace: string, value: number): string {
  return Buffer.from(JSON.stringify({ cluster, namespace, value: String(value) })).toString(
    'base64',
  );
}

/** Throws `invalid-request`. */
export function decodeIndex(text: string): StorageIndex {
  let decoded: unknown;
  try {
    decoded = JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
  } catch {
    throw malformedIndex();
  }
  if (typeof decoded !== 'object' || decoded === null) throw malformedIndex();
  const { cluster, value } = decoded as { readonly cluster?: unknown; readonly value?: unknown };
  if (typeof cluster !== 'string' || typeof value !== 'string' || !/^\d{1,16}$/.test(value)) {
    throw malformedIndex();
  }
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw malformedIndex();
  return { cluster, value: number };
}

/**
 * Whether an index is one of the state that a node holds, or of one that is still on its way there:
 * a restored state is `<cluster>.<index at which it was restored>`. What was before it is gone.
 */
export function isOfState({ cluster }: StorageIndex, stateId: string | undefined): boolean {
  if (cluster === stateId || stateId === undefined) return cluster === stateId;
  const [id, restored = '0'] = cluster.split('.');
  const [ownId, ownRestored = '0'] = stateId.split('.');
  return id === ownId && Number(ownRestored) < Number(restored);
}

/** At most two values, the second only after `await-state`. Throws `invalid-request`. */
export function parseInconsistent(text: string): Inconsistent {
  const [first = '', second, ...rest] = text.split(',').map((value) => value.trim());
  if (rest.length > 0) throw malformedInconsistent('has more than two values');
  if (second !== undefined && first !== 'await-state') {
    throw malformedInconsistent('takes a second value only after await-state');
  }
  switch (first) {
    case 'fail':
    case 'forward-active-node':
      return { kind: first };
    case 'await-state':
      return { kind: first, otherwise: second === undefined ? undefined : fallback(second) };
    default:
      throw malformedInconsistent('must be fail, forward-active-node or await-state');
  }
}

function fallback(text: string): Fallback {
  if (text === 'fail' || text === 'forward-active-node') return text;
  throw malformedInconsistent('must have fail or forward-active-node as its second value');
}

function malformedIndex(): ServerError {
  return new ServerError('invalid-request', 'malformed X-Vault-Index header');
}

function malformedInconsistent(reason: string): ServerError {
  return new ServerError('invalid-request', `X-Vault-Inconsistent ${reason}`);
}
