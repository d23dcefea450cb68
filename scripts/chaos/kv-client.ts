/**
 * Calls of a client on a kv version 2 mount, and what their answers say for certain.
 *
 * - A write fails without effect only where the server says so (503, and what it refuses as wrong),
 *   or where no connection was made. Everything else that is not an answer is unknown.
 * - A read without an answer says nothing: it fails.
 */

import { Pool } from 'undici';

import type { Answer, Call, Outcome } from '../../server/testing/history/operation.ts';

export const MOUNT = 'chaos';

export type Reply = { readonly outcome: Outcome; readonly token: string | undefined };

export type KvClient = {
  /** `token` is sent with session reads: the `X-Vault-Index` of an earlier answer. */
  call(address: string, key: string, what: Call, token?: string): Promise<Reply>;
  /** One version of a key, or undefined if there is none. */
  readVersion(address: string, key: string, version: number): Promise<string | null | undefined>;
  close(): Promise<void>;
};

/** Longer than an election; a client that waits longer has given up. */
const TIMEOUT_MS = 4_000;
/** Connections to a node that hangs are all in use until then. */
const CONNECTIONS_MAX = 64;

/** Levels that an answer must name (`X-Bao-Consistency`) to count as one of them. */
const CONFIRMED: ReadonlySet<string> = new Set(['linearizable', 'bounded', 'leader']);

const TELL_LEVEL = { 'x-bao-consistency-info': '1' };

type RawReply = {
  readonly status: number;
  readonly token: string | undefined;
  readonly level: string | undefined;
  readonly body: ReplyBody;
};

type ReplyBody = {
  readonly errors?: readonly string[];
  readonly data?: {
    readonly version?: number;
    readonly data?: { readonly value?: string } | null;
    readonly metadata?: { readonly version?: number };
  };
};

export function createKvClient(rootToken: string): KvClient {
  const pools = new Map<string, Pool>();

  async function send(
    address: string,
    request: {
      readonly method: 'GET' | 'POST' | 'DELETE';
      readonly path: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: object;
    },
  ): Promise<RawReply> {
    const pool =
      pools.get(address) ??
      new Pool(address, { connections: CONNECTIONS_MAX, connectTimeout: TIMEOUT_MS });
    pools.set(address, pool);
    const { statusCode, headers, body } = await pool.request({
      method: request.method,
      path: `/v1/${MOUNT}/${request.path}`,
      headers: { 'x-vault-token': rootToken, ...request.headers },
      body: request.body === undefined ? null : JSON.stringify(request.body),
      // Covers the wait for a connection as well.
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await body.text();
    return {
      status: statusCode,
      token: single(headers['x-vault-index']),
      level: single(headers['x-bao-consistency']),
      body: text.startsWith('{') ? (JSON.parse(text) as ReplyBody) : {},
    };
  }

  return {
    async call(address, key, what, token) {
      try {
        const reply = await send(address, requestOf(key, what, token));
        return { outcome: outcomeOf(what, reply), token: reply.token };
      } catch (error) {
        return { outcome: outcomeOfError(what, error), token: undefined };
      }
    },
    async readVersion(address, key, version) {
      const reply = await send(address, { method: 'GET', path: `data/${key}?version=${version}` });
      if (reply.status !== 200 && reply.status !== 404) {
        throw new Error(`version ${version} of ${key}: ${reply.status}`);
      }
      if (reply.body.data === undefined) return undefined;
      return reply.body.data.data?.value ?? null;
    },
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
}

/** The index in an `X-Vault-Index`. */
export function indexOf(token: string): number {
  const { value } = JSON.parse(Buffer.from(token, 'base64').toString()) as { value: string };
  return Number(value);
}

function requestOf(
  key: string,
  call: Call,
  token: string | undefined,
): {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  headers?: Record<string, string>;
  body?: object;
} {
  const path = `data/${key}`;
  switch (call.kind) {
    case 'read':
      return { method: 'GET', path, headers: readHeaders(call, token) };
    case 'write': {
      const options = call.cas === undefined ? {} : { options: { cas: call.cas } };
      return { method: 'POST', path, body: { data: { value: call.value }, ...options } };
    }
    case 'delete':
      return { method: 'DELETE', path };
  }
}

function readHeaders(
  call: Call & { kind: 'read' },
  token: string | undefined,
): Record<string, string> {
  switch (call.level) {
    case 'stale':
      return {};
    case 'session':
      return {
        'x-vault-index': token ?? '',
        'x-vault-inconsistent': 'await-state,forward-active-node',
      };
    case 'bounded':
      return { ...TELL_LEVEL, 'x-bao-max-staleness': `${(call.boundNs ?? 0) / 1e6}ms` };
    case 'linearizable':
    case 'leader':
      return { ...TELL_LEVEL, 'x-bao-consistency': call.level };
  }
}

function outcomeOf(call: Call, reply: RawReply): Outcome {
  const { status, token, body } = reply;
  const index = token === undefined ? undefined : indexOf(token);
  const answer = answerOf(call, reply);
  if (answer !== undefined) return { kind: 'ok', answer, index };
  const reason = `${status} ${body.errors?.join('; ') ?? ''}`.trim();
  const isCertain = call.kind === 'read' || (status < 500 && status !== 408) || status === 503;
  return { kind: isCertain ? 'fail' : 'unknown', reason };
}

function answerOf(call: Call, { status, level, body }: RawReply): Answer | undefined {
  switch (call.kind) {
    case 'read': {
      // A server that does not know the level answers at another one.
      if (CONFIRMED.has(call.level) && level !== call.level) return undefined;
      const { data, errors } = body;
      if (status === 404 && data === undefined) {
        return errors?.length === 0 ? { kind: 'seen', value: null, version: 0 } : undefined;
      }
      const version = data?.metadata?.version;
      if ((status !== 200 && status !== 404) || version === undefined) return undefined;
      return { kind: 'seen', value: data?.data?.value ?? null, version };
    }
    case 'write':
      if (status === 200 && body.data?.version !== undefined) {
        return { kind: 'written', version: body.data.version };
      }
      return status === 400 && isMismatch(body) ? { kind: 'mismatch' } : undefined;
    case 'delete':
      return status === 204 ? { kind: 'deleted' } : undefined;
  }
}

function isMismatch({ errors }: ReplyBody): boolean {
  return errors?.some((error) => error.includes('did not match the current version')) === true;
}

/** Only a connection that was never made has carried no request. */
function outcomeOfError(call: Call, error: unknown): Outcome {
  const { code = '', name = '' } = error as { readonly code?: string; readonly name?: string };
  const reason = code === '' ? name : code;
  const isCertain =
    call.kind === 'read' || code === 'ECONNREFUSED' || code === 'UND_ERR_CONNECT_TIMEOUT';
  return { kind: isCertain ? 'fail' : 'unknown', reason };
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}
