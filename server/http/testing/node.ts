/** A node whose core and peers answer what a test says, behind a real request handler. */

import type { WireRequest, WireResponse } from '../../cluster/forwarding.ts';
import type { LogicalResponse } from '../../core/backend.ts';
import type { Leader } from '../../core/core-options.ts';
import type { LogicalCall } from '../../core/request-handling.ts';
import { ServerError, type ErrorCode } from '../../errors.ts';
import { EMPTY_BODY, type Answer } from '../exchange.ts';
import { RequestHandler, type HandlerSettings } from '../request-handler.ts';
import { readHead } from '../request-head.ts';
import { RequestStamps } from '../request-stamps.ts';
import { createIndexEncoder } from '../storage-index.ts';

const SETTINGS: HandlerSettings = {
  disableStandbyReads: false,
  awaitForwardedWrites: true,
  missingIndexForward: false,
  inconsistentFallback: 'fail',
  indexWaitMs: 0,
  consistency: { level: 'stale', maxStalenessMs: 0 },
  readWaitMs: 2_000,
  inconsistentStatus: 429,
  raftNodeIdHeader: true,
  hostnameHeader: false,
};

export const ACTIVE: Leader = {
  isSelf: false,
  nodeId: 'n2',
  redirectAddress: 'http://n2:8200',
  clusterAddress: 'n2:8201',
  activeTimeMs: null,
};

export class Node {
  isInitialized = true;
  isSealed = false;
  isStandby = false;
  leader: Leader | undefined = ACTIVE;
  applied = 10;
  appliedAfterWait = 10;
  requestMs = 90_000;
  respond: (call: LogicalCall) => LogicalResponse | undefined | Promise<undefined> = () => ({
    data: { a: 1 },
  });
  forward: (address: string) => WireResponse = () => ({
    status: 200,
    headers: { 'X-Vault-Raft-Node-ID': 'n2' },
    body: Buffer.from('from the active node'),
    index: 12,
  });
  readonly calls: LogicalCall[] = [];
  readonly forwarded: { readonly address: string; readonly request: WireRequest }[] = [];
  readonly waits: number[] = [];
  /** The waits of reads that asked to be proved current, and what they are told. */
  readonly linearized: number[] = [];
  readError: ErrorCode | undefined;
  staleness: number | undefined;
  readonly leaderListeners = new Set<() => void>();
  readonly internalErrors: unknown[] = [];

  handler(settings: Partial<HandlerSettings> = {}): RequestHandler {
    return new RequestHandler({
      core: {
        isInitialized: () => this.isInitialized,
        isSealed: () => this.isSealed,
        standby: () => this.isStandby || this.isSealed,
        leader: () => this.leader,
        sealStatus: () => this.#sealStatus(1),
        unseal: async () => this.#sealStatus(0),
        resetUnseal: () => this.#sealStatus(0),
        initialize: async () => ({ keys: [Buffer.from([1, 2])], rootToken: 's.root' }),
        requestJoin: async ({ retry }) => !retry,
        handleRequest: async (call) => {
          this.calls.push(call);
          return this.respond(call);
        },
      },
      position: {
        appliedIndex: () => this.applied,
        committedIndex: () => this.applied,
        linearize: async (timeoutMs) => {
          this.linearized.push(timeoutMs);
          if (this.readError !== undefined) throw new ServerError(this.readError, 'no');
          this.staleness = 0;
        },
        stalenessMs: () => this.staleness,
        awaitApplied: async (index) => {
          this.waits.push(index);
          this.applied = this.appliedAfterWait;
          return this.applied >= index;
        },
      },
      identity: {
        nodeId: 'n1',
        hostname: 'host',
        version: '1.0.0',
        clusterName: () => 'cluster',
        clusterId: () => 'c1',
        stateId: () => 'c1',
      },
      jsonLimits: { stringsMax: 1000 },
      forwarding: {
        core: { leader: () => this.leader, standby: () => this.isStandby },
        forward: async (address, request) => {
          this.forwarded.push({ address, request });
          return this.forward(address);
        },
        stamps: new RequestStamps(() => 0),
        onLeaderChange: (listener) => {
          this.leaderListeners.add(listener);
          return () => this.leaderListeners.delete(listener);
        },
        limits: { leaderWaitMs: 60_000, requestMs: this.requestMs },
      },
      settings: { ...SETTINGS, ...settings },
      openMetrics: undefined,
      events: {
        requestHandled: () => undefined,
        requestForwarded: () => undefined,
        foundBehind: () => undefined,
        forwardFailed: () => undefined,
        internalError: (error) => this.internalErrors.push(error),
      },
    });
  }

  #sealStatus(progress: number) {
    return {
      type: 'shamir',
      initialized: this.isInitialized,
      sealed: this.isSealed,
      t: 2,
      n: 3,
      progress,
      nonce: 'x',
      clusterName: undefined,
      clusterId: undefined,
    } as const;
  }
}

export function ask(
  handler: RequestHandler,
  method: string,
  url: string,
  options: { headers?: readonly string[]; body?: string } = {},
): Promise<Answer> {
  const rawHeaders = options.headers ?? [];
  return handler.handle({
    id: 'id-1',
    method,
    url,
    rawHeaders,
    head: readHead(rawHeaders),
    body: options.body === undefined ? EMPTY_BODY : Buffer.from(options.body),
    remoteAddress: '10.0.0.9',
    isForwarded: false,
  });
}

export function header(answer: Answer, name: string): string | undefined {
  for (let at = 0; at < answer.headers.length; at += 2) {
    if (answer.headers[at]?.toLowerCase() === name.toLowerCase()) return answer.headers[at + 1];
  }
  return undefined;
}

export function indexOf(value: number, cluster = 'c1'): string {
  return createIndexEncoder()(cluster, '', value);
}
