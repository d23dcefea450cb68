/**
 * The system backend, mounted at `sys/`: which path goes where, and what it takes to ask.
 *
 * The backend only translates: it checks the request, asks a port, and gives the answer
 * OpenBao's shape (internal/vault/logical_system*.go). What mounts, policies, tokens and the
 * cluster are is settled behind the ports.
 *
 * Not here: `sys/init`, `sys/unseal`, `sys/seal-status`, `sys/health`, `sys/leader` and
 * `sys/storage/raft/join` work on a sealed node and belong to the HTTP layer.
 */

import type { Backend, LogicalRequest, Operation } from '../core/backend.ts';
import { unsupportedOperationError, unsupportedPathError } from '../errors.ts';
import {
  capabilities,
  capabilitiesAccessor,
  capabilitiesSelf,
  readMountForUi,
  readMountsForUi,
  resultantAcl,
} from './system-access.ts';
import {
  hostInfo,
  keyStatus,
  listNamespaces,
  metrics,
  readHaStatus,
  seal,
  stateHash,
  stepDown,
} from './system-cluster.ts';
import { forceRestore, restore, saveSnapshot } from './system-snapshot.ts';
import {
  disableMount,
  enableMount,
  listMounts,
  readMount,
  readTune,
  tuneMount,
} from './system-mounts.ts';
import {
  deletePolicy,
  listPolicies,
  listPoliciesDetailed,
  patchPolicy,
  readPolicy,
  writePolicy,
} from './system-policies.ts';
import {
  answerChallenge,
  createChallenge,
  demotePeer,
  promotePeer,
  raftConfiguration,
  readAutopilotConfiguration,
  readAutopilotState,
  removePeer,
  writeAutopilotConfiguration,
} from './system-raft.ts';
import type { SystemHandler, SystemPorts } from './system-ports.ts';

export type { SystemPorts } from './system-ports.ts';

type Route = {
  /** Relative to `sys/`; of a listing's path without the slash that it ends in. */
  readonly pattern: RegExp;
  readonly operations: { readonly [operation in Operation]?: SystemHandler };
};

/** Order matters: the first pattern that matches decides, as in OpenBao. */
const ROUTES: readonly Route[] = [
  { pattern: /^mounts$/, operations: { read: listMounts('secret') } },
  {
    pattern: /^mounts\/(.+)\/tune$/,
    operations: writes(tuneMount('secret'), { read: readTune('secret') }),
  },
  {
    pattern: /^mounts\/(.+)$/,
    operations: writes(enableMount('secret'), {
      read: readMount('secret'),
      delete: disableMount('secret'),
    }),
  },
  { pattern: /^auth$/, operations: { read: listMounts('auth') } },
  {
    pattern: /^auth\/(.+)\/tune$/,
    operations: writes(tuneMount('auth'), { read: readTune('auth') }),
  },
  {
    pattern: /^auth\/(.+)$/,
    operations: writes(enableMount('auth'), {
      read: readMount('auth'),
      delete: disableMount('auth'),
    }),
  },
  { pattern: /^policy\/?$/, operations: { read: listPolicies, list: listPolicies } },
  {
    pattern: /^policy\/(.+)$/,
    operations: writes(writePolicy, {
      read: readPolicy,
      list: listPolicies,
      delete: deletePolicy,
    }),
  },
  { pattern: /^policies\/acl$/, operations: { list: listPolicies } },
  {
    pattern: /^policies\/acl\/(.+)$/,
    operations: writes(writePolicy, {
      read: readPolicy,
      list: listPolicies,
      patch: patchPolicy,
      delete: deletePolicy,
    }),
  },
  { pattern: /^policies\/detailed\/acl(?:\/(.+))?$/, operations: { list: listPoliciesDetailed } },
  { pattern: /^capabilities$/, operations: writes(capabilities) },
  { pattern: /^capabilities-self$/, operations: writes(capabilitiesSelf) },
  { pattern: /^capabilities-accessor$/, operations: writes(capabilitiesAccessor) },
  { pattern: /^internal\/ui\/mounts$/, operations: { read: readMountsForUi } },
  { pattern: /^internal\/ui\/mounts\/(.+)$/, operations: { read: readMountForUi } },
  { pattern: /^internal\/ui\/resultant-acl$/, operations: { read: resultantAcl } },
  { pattern: /^internal\/ui\/namespaces$/, operations: { read: listNamespaces } },
  { pattern: /^internal\/state-hash$/, operations: { read: stateHash } },
  { pattern: /^namespaces$/, operations: { list: listNamespaces, scan: listNamespaces } },
  { pattern: /^ha-status$/, operations: { read: readHaStatus } },
  { pattern: /^seal$/, operations: writes(seal) },
  { pattern: /^step-down$/, operations: writes(stepDown) },
  { pattern: /^key-status$/, operations: { read: keyStatus } },
  { pattern: /^metrics$/, operations: { read: metrics } },
  { pattern: /^host-info$/, operations: { read: hostInfo } },
  { pattern: /^storage\/raft\/configuration$/, operations: { read: raftConfiguration } },
  { pattern: /^storage\/raft\/snapshot$/, operations: writes(restore, { read: saveSnapshot }) },
  { pattern: /^storage\/raft\/snapshot-force$/, operations: writes(forceRestore) },
  { pattern: /^storage\/raft\/remove-peer$/, operations: writes(removePeer) },
  { pattern: /^storage\/raft\/promote$/, operations: writes(promotePeer) },
  { pattern: /^storage\/raft\/demote$/, operations: writes(demotePeer) },
  { pattern: /^storage\/raft\/autopilot\/state$/, operations: { read: readAutopilotState } },
  {
    pattern: /^storage\/raft\/autopilot\/configuration$/,
    operations: writes(writeAutopilotConfiguration, { read: readAutopilotConfiguration }),
  },
  { pattern: /^storage\/raft\/bootstrap\/challenge$/, operations: writes(createChallenge) },
  { pattern: /^storage\/raft\/bootstrap\/answer$/, operations: writes(answerChallenge) },
];

export function createSystem(ports: SystemPorts): Backend {
  return {
    type: 'system',
    specialPaths: {
      // internal/vault/logical_system.go PathsSpecial, and what core checks with sudo by itself:
      // seal and step-down (internal/vault/core.go).
      root: [
        'auth/*',
        'remount',
        'audit',
        'audit/*',
        'raw',
        'raw/*',
        'rotate',
        'rotate/keyring',
        'rotate/root',
        'config/cors',
        'config/auditing/*',
        'config/ui/headers/*',
        'leases/revoke-prefix/*',
        'leases/revoke-force/*',
        'leases/lookup/*',
        'leases',
        'internal/inspect/*',
        'seal',
        'step-down',
      ],
      unauthenticated: [
        'internal/ui/mounts',
        'internal/ui/mounts/*',
        'internal/ui/namespaces',
        'storage/raft/bootstrap/challenge',
        'storage/raft/bootstrap/answer',
      ],
      forward: [
        'ha-status',
        'step-down',
        'storage/raft/bootstrap/challenge',
        'storage/raft/bootstrap/answer',
        'storage/raft/remove-peer',
        'storage/raft/promote',
        'storage/raft/demote',
        'storage/raft/autopilot/state',
        'storage/raft/autopilot/configuration',
      ],
    },
    handle: async (request) => {
      const path = routedPath(request);
      for (const { pattern, operations } of ROUTES) {
        const match = pattern.exec(path);
        if (match === null) continue;
        const handler = operations[request.operation];
        if (handler === undefined) {
          throw unsupportedOperationError();
        }
        return handler({ request, ports, captures: match.slice(1).map((text) => text ?? '') });
      }
      throw unsupportedPathError();
    },
  };
}

/**
 * Only listings may end in a slash: policies are judged by the path as it came, so what is refused
 * as `a` must not be had as `a/`. Mounts are named either way, as in OpenBao.
 */
function routedPath({ path, operation }: LogicalRequest): string {
  const isListing = operation === 'list' || operation === 'scan';
  return isListing && path.endsWith('/') ? path.slice(0, -1) : path;
}

/** `create` and `update` differ only in the capability that was checked. */
function writes(handler: SystemHandler, others: Route['operations'] = {}): Route['operations'] {
  return { ...others, create: handler, update: handler };
}
