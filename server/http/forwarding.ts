/**
 * Requests that only the active node may answer (design D7). While it is certain that nobody has a
 * request, another leader may be tried. Once it was handed over, it is asked again only under its
 * stamp, by which every active node knows whether it took effect; when no answer comes of that in
 * time, or it has no stamp, the client hears that the outcome is unknown.
 */

import type { WireRequest, WireResponse } from '../cluster/forwarding.ts';
import type { Leader } from '../core/core-options.ts';
import { isUndecided } from '../core/exactly-once.ts';
import type { StampedRequest } from '../core/exactly-once.ts';
import type { RequestStamp } from '../core/ports.ts';
import { ServerError, isServerError } from '../errors.ts';
import { EMPTY_BODY, type Answer, type Incoming } from './exchange.ts';
import type { NodeCore } from './node-port.ts';
import { SINGLE_HEADERS } from './request-head.ts';
import type { RequestStamps } from './request-stamps.ts';
import { toServerError } from './wire-errors.ts';

export type Forwarding = {
  readonly core: Pick<NodeCore, 'leader' | 'standby'>;
  /** Rejects with `no-leader` as long as nothing was handed over, else with `outcome-unknown`. */
  readonly forward: (
    address: string,
    request: WireRequest,
    timeoutMs: number,
  ) => Promise<WireResponse>;
  /** Calls back when who leads may have changed; returns how to unsubscribe. */
  readonly onLeaderChange: (listener: () => void) => () => void;
  readonly stamps: RequestStamps;
  readonly limits: ForwardingLimits;
};

export type ForwardingLimits = {
  /** How long a request waits for a leader to appear. */
  readonly leaderWaitMs: number;
  /** How long one request may take that was forwarded, or that may write here. */
  readonly requestMs: number;
};

/** A leader that refuses connections may still be coming up: it is asked again after so long. */
const LEADER_RETRY_MS = 50;
/** A session that ends twice under one request is a sign of something else. */
const SESSIONS_PER_REQUEST_MAX = 2;

/** By the active node, or by this one if that is what it has become. */
export type Forwarded =
  | { readonly kind: 'there'; readonly response: WireResponse }
  | { readonly kind: 'here'; readonly answer: Answer };

type Handling = {
  /** Whether the active node can tell that it was executed before. */
  readonly isRepeatable: boolean;
  readonly handleHere: (stamped: StampedRequest | undefined) => Promise<Answer>;
};

/** Throws `no-leader`, `outcome-unknown`, or what the active node refused it with. */
export async function forwardToActive(
  forwarding: Forwarding,
  incoming: Incoming,
  { isRepeatable, handleHere }: Handling,
): Promise<Forwarded> {
  const { stamps } = forwarding;
  for (let sessions = 1; ; sessions += 1) {
    const stamp = isRepeatable ? stamps.take() : undefined;
    try {
      return await new Attempts(forwarding, wireRequest(incoming), stamp).run(handleHere);
    } catch (error) {
      const isExpired = isServerError(error, 'session-expired') && stamp !== undefined;
      if (!isExpired) throw error;
      stamps.expire(stamp);
      if (SESSIONS_PER_REQUEST_MAX <= sessions) throw noLeader();
    } finally {
      if (stamp !== undefined) stamps.release(stamp);
    }
  }
}

/** One request, until somebody answers it or time is up. */
class Attempts {
  readonly #forwarding: Forwarding;
  readonly #request: WireRequest;
  readonly #stamp: RequestStamp | undefined;
  /** Set once an attempt was handed over and not answered. */
  #unknown: ServerError | undefined;
  #deadlineMs: number;

  constructor(forwarding: Forwarding, request: WireRequest, stamp: RequestStamp | undefined) {
    this.#forwarding = forwarding;
    this.#request = request;
    this.#stamp = stamp;
    this.#deadlineMs = performance.now() + forwarding.limits.leaderWaitMs;
  }

  async run(handleHere: Handling['handleHere']): Promise<Forwarded> {
    const { core } = this.#forwarding;
    for (;;) {
      if (!core.standby()) return { kind: 'here', answer: await this.#handleHere(handleHere) };
      const leader = core.leader();
      if (leader !== undefined && !leader.isSelf && leader.clusterAddress !== '') {
        const response = await this.#ask(leader.clusterAddress);
        if (response !== undefined) return { kind: 'there', response };
      }
      const left = this.#deadlineMs - performance.now();
      if (left <= 0) throw this.#unknown ?? noLeader();
      await leaderChange(this.#forwarding, Math.min(left, LEADER_RETRY_MS));
    }
  }

  async #handleHere(handleHere: Handling['handleHere']): Promise<Answer> {
    try {
      return await handleHere(this.#stamped());
    } catch (error) {
      const isUnknown = this.#unknown !== undefined && isUndecided(toServerError(error).code);
      throw isUnknown ? this.#unknown : error;
    }
  }

  /** Undefined if it may be asked again. */
  async #ask(address: string): Promise<WireResponse | undefined> {
    const stamped = this.#stamped();
    const stamp = stamped && { ...stamped.stamp, isRepeated: stamped.isRepeated };
    const { limits, forward } = this.#forwarding;
    const answer = forward(address, { ...this.#request, stamp }, limits.requestMs);
    try {
      return await (stamp === undefined ? answer : this.#unlessDeposed(address, answer));
    } catch (error) {
      if (isServerError(error, 'no-leader')) return undefined;
      if (isServerError(error, 'outcome-unknown') && stamp !== undefined) {
        // From now on there is something to find out, for which another leader may be needed.
        if (this.#unknown === undefined) {
          this.#deadlineMs = performance.now() + limits.leaderWaitMs;
        }
        this.#unknown = error;
        return undefined;
      }
      throw this.#unknown ?? error;
    }
  }

  #stamped(): StampedRequest | undefined {
    if (this.#stamp === undefined) return undefined;
    return { stamp: this.#stamp, isRepeated: this.#unknown !== undefined };
  }

  /** Somebody else leads: whoever was asked may hold the request for as long as it is away. */
  async #unlessDeposed(address: string, answer: Promise<WireResponse>): Promise<WireResponse> {
    const { core, onLeaderChange } = this.#forwarding;
    let unsubscribe = (): void => undefined;
    const deposed = new Promise<never>((_resolve, reject) => {
      unsubscribe = onLeaderChange(() => {
        const leader = core.leader();
        if (leader !== undefined && leader.clusterAddress !== address) reject(deposedError());
      });
    });
    // What the former leader still says is of no interest then.
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, deposed]);
    } finally {
      unsubscribe();
    }
  }
}

/** 307, for clients that asked not to be forwarded; they repeat the request themselves. */
export function redirectTo(leader: Leader | undefined, url: string): Answer {
  if (leader === undefined || leader.redirectAddress === '') {
    throw new ServerError('no-leader', 'no active node found');
  }
  const location = leader.redirectAddress.replace(/\/+$/, '') + url;
  return { status: 307, headers: ['Location', location], body: EMPTY_BODY };
}

/** Hop-by-hop headers (RFC 9110 §7.6.1), and what is computed anew when the answer is sent. */
const NOT_PASSED_ON = new Set([
  'connection',
  'content-length',
  'date',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export function answerOf({ status, headers, body }: WireResponse): Answer {
  return { status, headers: Object.entries(headers).flat(), body };
}

/**
 * Alternating names and values to a record; repeated headers are joined as RFC 9110 §5.3 says, but
 * for those of which the first counts.
 */
export function headerRecord(raw: readonly string[]): Record<string, string> {
  const record: Record<string, string> = Object.create(null);
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    const key = name.toLowerCase();
    if (NOT_PASSED_ON.has(key)) continue;
    const present = record[name];
    const value = raw[at + 1] ?? '';
    if (present === undefined || present === '') record[name] = value;
    else if (!SINGLE_HEADERS.has(key)) record[name] = `${present}, ${value}`;
  }
  return record;
}

function wireRequest(incoming: Incoming): WireRequest {
  const { id, method, url, rawHeaders, body, remoteAddress } = incoming;
  return { id, method, url, headers: headerRecord(rawHeaders), body, remoteAddress };
}

function noLeader(): ServerError {
  return new ServerError('no-leader', 'no active node found');
}

function deposedError(): ServerError {
  const reason = 'the request was forwarded and its outcome is unknown: its leader was deposed';
  return new ServerError('outcome-unknown', reason);
}

function leaderChange(forwarding: Forwarding, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      unsubscribe();
      resolve();
    };
    const timer = setTimeout(done, timeoutMs);
    const unsubscribe = forwarding.onLeaderChange(done);
  });
}
