/**
 * Expected refusals of the server, as one closed set of codes. A bug is an assertion; a failing
 * disk is the original error; everything a caller may be told is a `ServerError`. The HTTP layer
 * owns the table from code to status and is checked to be complete.
 */

export type ErrorCode =
  /** 400: the request itself is wrong. */
  | 'invalid-request'
  /** 403 */
  | 'permission-denied'
  /** 404: no such path, with the message as the only error. */
  | 'unsupported-path'
  /** 405 */
  | 'unsupported-operation'
  /** 409 */
  | 'conflict'
  /** 413 */
  | 'too-large'
  /** 415 */
  | 'unsupported-media-type'
  /** 429 */
  | 'too-many-requests'
  /** 503: not unsealed, or not initialised. */
  | 'sealed'
  /** 503 with Retry-After: a queue is full. */
  | 'overloaded'
  /** 503 with Retry-After: nobody leads at the moment; nothing was executed. */
  | 'no-leader'
  /** 503 with Retry-After: others kept changing what a transaction read; nothing was executed. */
  | 'transaction-conflict'
  /** 503 with Retry-After: this node cannot prove now that it is as current as was asked. */
  | 'not-current'
  /** Typed ErrReadOnly: a write met the barrier of a standby. Never reaches a client. */
  | 'read-only'
  /** Typed ErrStandbyPleaseForward: the active node must answer this. Never reaches a client. */
  | 'standby-please-forward'
  /** 504: a write was handed over and its fate is unknown. It must not be replayed. */
  | 'outcome-unknown'
  /** 504: a repeated request took effect before, and what it was answered is not known any more. */
  | 'response-lost'
  /** 504: a stamp is so old that nobody can say whether its request took effect before. */
  | 'session-expired'
  /** 500, as OpenBao answers it: as things are, this cannot be done, and nothing was. */
  | 'refused'
  /** 500 */
  | 'internal';

export class ServerError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ServerError';
    this.code = code;
  }
}

/** `logical.ErrReadOnly` of OpenBao (sdk/logical/error.go), thrown by the barrier of a standby. */
export function readOnlyError(): ServerError {
  return new ServerError('read-only', 'cannot write to readonly storage');
}

/** The RFC's `ErrStandbyPleaseForward`; OpenBao's text for `ErrPerfStandbyPleaseForward`. */
export function standbyPleaseForwardError(): ServerError {
  return new ServerError('standby-please-forward', 'please forward to the active node');
}

export function isServerError(error: unknown, code: ErrorCode): error is ServerError {
  return error instanceof ServerError && error.code === code;
}

/** How OpenBao prints an error that a backend returns without a response (go-multierror). */
export function asMultierror(message: string): string {
  return `1 error occurred:\n\t* ${message}\n\n`;
}

/** `logical.ErrUnsupportedOperation` of a backend: the path is there, but not for that. */
export function unsupportedOperationError(): ServerError {
  return new ServerError('unsupported-operation', asMultierror('unsupported operation'));
}

/** `logical.ErrUnsupportedPath` of a backend. */
export function unsupportedPathError(): ServerError {
  return new ServerError('unsupported-path', asMultierror('unsupported path'));
}
