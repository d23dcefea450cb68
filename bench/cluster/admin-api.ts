/**
 * The few calls of OpenBao's HTTP API by which a cluster is brought up and looked at. Used outside
 * measurements only: convenience before speed.
 */

import { request } from 'undici';

export type JsonObject = { readonly [key: string]: unknown };

/** An answer that is not 2xx. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export type Call = {
  readonly address: string;
  readonly token?: string;
  readonly headers?: { readonly [name: string]: string };
  readonly timeoutMs?: number;
};

const TIMEOUT_MS = 10_000;

export type Answer = {
  readonly status: number;
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: JsonObject;
};

/** Never throws for a status; throws for a broken connection or a timeout. */
export async function call(
  method: 'GET' | 'PUT' | 'POST' | 'DELETE',
  path: string,
  options: Call & { readonly body?: JsonObject },
): Promise<Answer> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const answer = await request(`${options.address}/v1/${path}`, {
    method,
    headers: {
      ...(options.token === undefined ? {} : { 'x-vault-token': options.token }),
      ...options.headers,
    },
    body: options.body === undefined ? null : JSON.stringify(options.body),
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, body: parseObject(text) };
}

export async function expectOk(
  method: 'GET' | 'PUT' | 'POST' | 'DELETE',
  path: string,
  options: Call & { readonly body?: JsonObject },
): Promise<Answer> {
  const answer = await call(method, path, options);
  if (answer.status < 200 || answer.status > 299) {
    const errors = JSON.stringify(answer.body['errors'] ?? answer.body);
    throw new ApiError(answer.status, `${method} ${path}: ${answer.status} ${errors}`);
  }
  return answer;
}

function parseObject(text: string): JsonObject {
  if (!text.startsWith('{')) return {};
  const value: unknown = JSON.parse(text);
  return value as JsonObject; // The text is an object: it parsed and starts with a brace.
}
