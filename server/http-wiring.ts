/** The HTTP layer's view of a node, filled from its parts. */

import { hostname } from 'node:os';

import type { Forwarder } from './cluster/forwarding.ts';
import type { Config } from './config.ts';
import { ADVERTISEMENT_PATH } from './core/advertisement.ts';
import type { Core } from './core/core.ts';
import type { ChangeFeed } from './core/ports.ts';
import type { Identity } from './http/node-port.ts';
import { RequestHandler } from './http/request-handler.ts';
import { RequestStamps } from './http/request-stamps.ts';
import type { Metrics, Tally } from './metrics.ts';
import type { NodeLogger } from './node-logger.ts';
import type { Replica } from './replica/replica.ts';

export type HandlerParts = {
  readonly config: Config;
  readonly logger: NodeLogger;
  readonly core: Core;
  readonly replica: Replica;
  readonly identity: Identity;
  readonly tally: Tally;
  readonly metrics: Metrics;
};

export function createHandler(
  { config, logger, core, replica, identity, tally, metrics }: HandlerParts,
  forward: Forwarder['forward'],
): RequestHandler {
  const { listener } = config;
  const { physical } = replica;
  return new RequestHandler({
    core,
    identity,
    position: {
      appliedIndex: () => physical.appliedIndex(),
      committedIndex: () => replica.status().commitIndex,
      awaitApplied: (index, timeoutMs) => physical.awaitApplied(index, timeoutMs),
      linearize: (timeoutMs) => replica.reads.linearize(timeoutMs),
      stalenessMs: () => replica.reads.stalenessMs(),
    },
    jsonLimits: { stringsMax: listener.max_request_json_strings },
    openMetrics: listener.unauthenticated_metrics_access ? metrics : undefined,
    forwarding: {
      core,
      forward,
      onLeaderChange: leaderChanges(replica.changeFeed),
      stamps: new RequestStamps(() => physical.appliedIndex()),
      limits: {
        leaderWaitMs: config.leader_wait,
        requestMs: config.default_max_request_duration,
      },
    },
    settings: {
      disableStandbyReads: config.disable_standby_reads,
      awaitForwardedWrites: config.await_forwarded_writes,
      missingIndexForward: listener.consistency_missing_header_forward,
      inconsistentFallback: listener.consistency_fallback_behavior,
      indexWaitMs: listener.consistency_max_index_wait,
      consistency: {
        level: listener.consistency_default,
        maxStalenessMs: listener.consistency_max_staleness,
      },
      readWaitMs: listener.consistency_read_wait,
      inconsistentStatus: listener.consistency_fail_status,
      raftNodeIdHeader: config.enable_response_header_raft_node_id,
      hostnameHeader: config.enable_response_header_hostname,
    },
    events: {
      requestHandled: () => {
        tally.requests += 1;
      },
      foundBehind: () => {
        tally.foundBehind += 1;
      },
      requestForwarded: () => {
        tally.forwards += 1;
      },
      forwardFailed: ({ code, message }) => {
        tally.forwardErrors += 1;
        logger.warn({ code, reason: message }, 'forwarding failed');
      },
      internalError: (error, requestId) => logger.error({ error, requestId }, 'request failed'),
    },
  });
}

/** The cluster's id is asked for until it is known; only a restored state can be another's. */
export function identityOf(
  core: Core,
  { nodeId, version }: { readonly nodeId: string; readonly version: string },
  replica: Pick<Replica, 'changeFeed' | 'restoredIndex'>,
): Identity {
  let cluster: { readonly name: string; readonly id: string; readonly state: string } | undefined;
  replica.changeFeed.subscribe(({ kind }) => {
    if (kind === 'everything') cluster = undefined;
  });
  const known = (): typeof cluster => {
    if (cluster === undefined) {
      const { clusterName: name, clusterId: id } = core.sealStatus();
      if (name === undefined || id === undefined) return undefined;
      const restored = replica.restoredIndex();
      cluster = { name, id, state: restored === 0 ? id : `${id}.${restored}` };
    }
    return cluster;
  };
  return {
    nodeId,
    hostname: hostname(),
    version,
    clusterName: () => known()?.name,
    clusterId: () => known()?.id,
    stateId: () => known()?.state,
  };
}

/** Who leads is posted in storage; listeners run after the turn in which it changed. */
function leaderChanges(changeFeed: ChangeFeed): (listener: () => void) => () => void {
  const listeners = new Set<() => void>();
  changeFeed.subscribe((change) => {
    if (listeners.size === 0) return;
    if (change.kind === 'keys' && !change.keys.includes(ADVERTISEMENT_PATH)) return;
    setImmediate(() => {
      for (const listener of [...listeners]) listener();
    });
  });
  return (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
}
