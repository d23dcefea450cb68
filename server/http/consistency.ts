/**
 * What a request wants to be true of the state that answers it (`docs/consistency.md`): OpenBao's
 * `X-Vault-Index` and `X-Vault-Inconsistent`, and two headers of our own.
 *
 *     X-Bao-Consistency: stale | bounded | session | linearizable | leader
 *     X-Bao-Max-Staleness: 250ms
 *
 * A level is implied by the header that only it takes. An index is heeded at every level.
 */

import { parseDurationMs } from '../duration.ts';
import { ServerError } from '../errors.ts';
import type { RequestHead } from './request-head.ts';
import {
  decodeIndex,
  parseInconsistent,
  type Inconsistent,
  type StorageIndex,
} from './storage-index.ts';

export const LEVELS = ['stale', 'bounded', 'session', 'linearizable', 'leader'] as const;
export type Level = (typeof LEVELS)[number];

export type Wanted = {
  readonly level: Level;
  /** Meaningful for `bounded`. */
  readonly maxStalenessMs: number;
  readonly index: StorageIndex | undefined;
  readonly inconsistent: Inconsistent | undefined;
};

export type ConsistencyDefaults = {
  /** Of reads that do not say. A write is not delayed for what it does not ask. */
  readonly level: Exclude<Level, 'session'>;
  /** Of `bounded` where the request gives none; 0: it has to. */
  readonly maxStalenessMs: number;
};

/** A larger bound says nothing that `stale` does not. */
export const MAX_STALENESS_MS_MAX = 3_600_000;

export function asksForConsistency(head: RequestHead): boolean {
  return (
    head.index !== undefined ||
    head.inconsistent !== undefined ||
    head.consistency !== undefined ||
    head.maxStaleness !== undefined
  );
}

/** Throws `invalid-request`, on every node alike. */
export function readWanted(
  head: RequestHead,
  { isRead, defaults }: { readonly isRead: boolean; readonly defaults: ConsistencyDefaults },
): Wanted {
  const { maxStaleness, index, inconsistent } = head;
  const level = readLevel(head) ?? (isRead ? defaults.level : 'stale');
  return {
    level,
    maxStalenessMs:
      maxStaleness === undefined ? defaultBound(level, defaults) : readBound(level, maxStaleness),
    index: index === undefined ? undefined : decodeIndex(index),
    inconsistent: inconsistent === undefined ? undefined : parseInconsistent(inconsistent),
  };
}

function readLevel({ consistency, maxStaleness, index }: RequestHead): Level | undefined {
  if (consistency === undefined) {
    if (maxStaleness !== undefined) return 'bounded';
    return index === undefined ? undefined : 'session';
  }
  const level = LEVELS.find((each) => each === consistency.trim());
  if (level === undefined) {
    throw new ServerError(
      'invalid-request',
      `X-Bao-Consistency must be one of ${LEVELS.join(', ')}`,
    );
  }
  if (level === 'session' && index === undefined) {
    throw new ServerError('invalid-request', 'X-Bao-Consistency: session needs an X-Vault-Index');
  }
  return level;
}

function defaultBound(level: Level, { maxStalenessMs }: ConsistencyDefaults): number {
  if (level === 'bounded' && maxStalenessMs === 0) {
    throw new ServerError(
      'invalid-request',
      'X-Bao-Consistency: bounded needs X-Bao-Max-Staleness',
    );
  }
  return maxStalenessMs;
}

function readBound(level: Level, text: string): number {
  if (level !== 'bounded') {
    throw new ServerError(
      'invalid-request',
      'X-Bao-Max-Staleness goes with bounded consistency only',
    );
  }
  const ms = parseDurationMs(text);
  if (ms === undefined || ms <= 0 || MAX_STALENESS_MS_MAX < ms) {
    throw new ServerError(
      'invalid-request',
      'X-Bao-Max-Staleness must be a duration like 250ms, above 0 and at most 1h',
    );
  }
  return ms;
}
