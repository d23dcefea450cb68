import type { LogicalRequest, LogicalResponse } from '../core/backend.ts';
import type { KeyLock } from './key-lock.ts';

/** Milliseconds since the epoch. */
export type Clock = () => number;

/** A request to a mount of kv version 2 that names a secret. */
export type VersionedRequest = {
  readonly request: LogicalRequest;
  /** Of the secret: what follows `data/`, `metadata/` and so on. */
  readonly path: string;
  readonly clock: Clock;
  readonly locks: KeyLock;
};

export type VersionedHandler = (
  request: VersionedRequest,
) => Promise<LogicalResponse | undefined> | LogicalResponse | undefined;

/** An answer without a body (sdk/logical/response.go RespondWithStatusCode of nothing). */
export const NOTHING_TO_PATCH: LogicalResponse = {
  status: 404,
  raw: { contentType: 'application/json', body: '' },
};

/** One backend may serve several mounts. */
export function lockKey(request: LogicalRequest, path: string): string {
  return `${request.mountAccessor}/${path}`;
}
