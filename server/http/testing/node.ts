/** A node whose core and peers answer what a test says, behind a real request handler. */

import type { WireRequest, WireResponse } from '../../cluster/forwarding.ts';
import type { LogicalResponse } from '../../core/backend.ts';
import type { Leader } from '../../core/core-options.ts';
import type { LogicalCall } from '../../core/request-handling.ts';
import { RequestHandler, type HandlerSettings } from '../request-handler.ts';
import { RequestStamps } from '../request-stamps.ts';

const SETTINGS: HandlerSettings = {
  disableStandbyReads: false,
  awaitForwardedWrites: true,
  missingIndexForward: false,
  inconsistentFallback: 'fail',
  indexWaitMs: 0,
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
  respond: (call: LogicalCall) => LogicalResponse | undefined = () => ({ data: { a: 1 } });
  forward: (address: string) => WireResponse = () => ({
    status: 200,
    headers: { 'X-Vault-Raft-Node-ID': 'n2' },
    body: Buffer.from('from the active node'),
    index: 12,
  });
  readonly calls: LogicalCall[] = [];
  readonly forwarded: { readonly address: string; readonly request: WireRequest }[] = [];
  readonly waits: number[] = [];
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
        requestJoin: async () => undefined,
        handleRequest: async (call) => {
          this.calls.push(call);
          return this.respond(call);
        },
      },
      position: {
        appliedIndex: () => this.applied,
        committedIndex: () => this.applied,
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
        limits: { leaderWaitMs: 60_000, requestMs: 90_000 },
      },
      settings: { ...SETTINGS, ...settings },
      openMetrics: undefined,
      events: {
        requestHandled: () => undefined,
        requestForwarded: () => undefined,
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
