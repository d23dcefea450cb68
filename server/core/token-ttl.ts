/** How long a token lives: openbao sdk/framework/lease.go (`CalculateTTL`). */

import { ServerError } from '../errors.ts';
import { humanDuration } from '../duration.ts';

export type TtlSettings = {
  readonly defaultLeaseTtlSeconds: number;
  readonly maxLeaseTtlSeconds: number;
};

export type TtlRequest = {
  /** What is asked for; 0 means `fallbackSeconds`. */
  readonly incrementSeconds: number;
  /** 0 means the default of the server. */
  readonly fallbackSeconds: number;
  /** A periodic token lives this long after each renewal, without a maximum. 0 for others. */
  readonly periodSeconds: number;
  /** Counted from `startMs`, over all renewals. 0 means none. */
  readonly explicitMaxSeconds: number;
  readonly startMs: number;
  readonly nowMs: number;
};

export type Ttl = { readonly ttlSeconds: number; readonly warnings: string[] };

/** Throws `invalid-request` when nothing is left of the maximum. */
export function calculateTtl(settings: TtlSettings, request: TtlRequest): Ttl {
  const { periodSeconds, explicitMaxSeconds } = request;
  const warnings: string[] = [];
  const isLowered = explicitMaxSeconds > 0 && explicitMaxSeconds < settings.maxLeaseTtlSeconds;
  const maxSeconds = isLowered ? explicitMaxSeconds : settings.maxLeaseTtlSeconds;
  let ttlSeconds: number;
  let endSeconds = Number.POSITIVE_INFINITY;
  const startSeconds = Math.floor(request.startMs / 1000);
  if (periodSeconds > 0) {
    ttlSeconds = Math.min(periodSeconds, maxSeconds);
    if (periodSeconds > maxSeconds) {
      warnings.push(
        `period of "${humanDuration(periodSeconds)}" exceeded the effective max_ttl of ` +
          `"${humanDuration(maxSeconds)}"; period value is capped accordingly`,
      );
    }
    if (explicitMaxSeconds > 0) endSeconds = startSeconds + explicitMaxSeconds;
  } else {
    ttlSeconds =
      request.incrementSeconds || request.fallbackSeconds || settings.defaultLeaseTtlSeconds;
    endSeconds = startSeconds + maxSeconds;
  }
  const leftSeconds = endSeconds - Math.floor(request.nowMs / 1000);
  if (leftSeconds <= 0) {
    throw new ServerError('invalid-request', 'past the max TTL, cannot renew');
  }
  if (leftSeconds < ttlSeconds) {
    warnings.push(
      `TTL of "${humanDuration(ttlSeconds)}" exceeded the effective max_ttl of ` +
        `"${humanDuration(leftSeconds)}"; TTL value is capped accordingly`,
    );
    ttlSeconds = leftSeconds;
  }
  return { ttlSeconds, warnings };
}
