/**
 * From the closed set of error codes to what goes over the wire: the status, and OpenBao's body
 * `{"errors":[...]}` (http/handler.go `respondError`, `logical.RespondErrorCommon`).
 */

import { ServerError, type ErrorCode } from '../errors.ts';

const STATUS_BY_CODE = {
  'invalid-request': 400,
  'permission-denied': 403,
  'unsupported-path': 404,
  'unsupported-operation': 405,
  conflict: 409,
  'too-large': 413,
  'unsupported-media-type': 415,
  'too-many-requests': 429,
  sealed: 503,
  overloaded: 503,
  'no-leader': 503,
  'transaction-conflict': 503,
  'not-current': 503,
  'outcome-unknown': 504,
  'response-lost': 504,
  'session-expired': 504,
  refused: 500,
  internal: 500,
  // These two are turned into a forwarded request. One that arrives here is a bug.
  'read-only': 500,
  'standby-please-forward': 500,
} as const satisfies Record<ErrorCode, number>;

const RETRY_AFTER_SECONDS: { readonly [Code in ErrorCode]?: number } = {
  'too-many-requests': 1,
  overloaded: 1,
  'no-leader': 1,
  'transaction-conflict': 1,
  'not-current': 1,
};

export function statusOf(code: ErrorCode): number {
  return STATUS_BY_CODE[code];
}

/** Seconds after which a client may come again, where nothing was executed. */
export function retryAfterSeconds(code: ErrorCode): number | undefined {
  return RETRY_AFTER_SECONDS[code];
}

export function errorBody(messages: readonly string[]): string {
  return `${JSON.stringify({ errors: messages })}\n`;
}

/** A bug keeps its message and stack for the log: a client learns only that there was one. */
export function toServerError(error: unknown): ServerError {
  if (error instanceof ServerError) return error;
  return new ServerError('internal', 'internal error', { cause: error });
}
