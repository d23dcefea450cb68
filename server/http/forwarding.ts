/**
 * Requests that only the active node may answer (design D7). A request is handed over at most
 * once: while it is certain that nobody has it, another leader may be tried; from then on its
 * answer, or the fact that its outcome is unknown, is all that the client gets.
 */

import type { WireRequest, WireResponse } from '../cluster/forwarding.ts';
import type { Leader } from '../core/core-options.ts';
import { ServerError, isServerError } from '../errors.ts';
import { EMPTY_BODY, type Answer, type Incoming } from './exchange.ts';
import type { NodeCore } from './node-port.ts';
import { SINGLE_HEADERS } from './request-head.ts';

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
  readonly limits: ForwardingLimits;
};

export type ForwardingLimits = {
  /** How long a request waits for a leader to appear. */
  readonly leaderWaitMs: number;
  /** How long one forwarded request may take. */
  readonly requestMs: number;
};

/** A leader that refuses connections may still be coming up: it is asked again after so long. */
const LEADER_RETRY_MS = 50;

/**
 * The active node's answer; undefined once this node has become the active one itself.
 * Throws `no-leader`, `outcome-unknown`, or what the active node refused it with.
 */
export async function forwardToActive(
  forwarding: Forwarding,
  incoming: Incoming,
): Promise<WireResponse | undefined> {
  const { core, limits } = forwarding;
  const request = wireRequest(incoming);
  const deadline = performance.now() + limits.leaderWaitMs;
  for (;;) {
    if (!core.standby()) return undefined;
    const leader = core.leader();
    if (leader !== undefined && !leader.isSelf && leader.clusterAddress !== '') {
      try {
        return await forwarding.forward(leader.clusterAddress, request, limits.requestMs);
      } catch (error) {
        if (!isServerError(error, 'no-leader')) throw error;
      }
    }
    const left = deadline - performance.now();
    if (left <= 0) throw new ServerError('no-leader', 'no active node found');
    await leaderChange(forwarding, Math.min(left, LEADER_RETRY_MS));
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
