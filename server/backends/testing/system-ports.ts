/** `SystemPorts` in memory, for the tests of the system backend. */

import type { TokenEntry } from '../../core/backend.ts';
import type { AutopilotConfiguration, AutopilotState } from '../../core/ports.ts';
import { readOnlyError, standbyPleaseForwardError } from '../../errors.ts';
import { createSystem } from '../system.ts';
import type {
  AclPort,
  AclRule,
  MountDescription,
  PolicyRecord,
  SystemPorts,
} from '../system-ports.ts';
import type { MemoryView, Send } from './memory-view.ts';
import { createMemoryView, sender, serviceToken } from './memory-view.ts';

export const NOW_MS = Date.UTC(2026, 0, 2, 10, 0, 0);

export type SystemNode = {
  readonly send: Send;
  readonly view: MemoryView;
  readonly mounts: MountDescription[];
  readonly policies: Map<string, PolicyRecord>;
  readonly tokens: Map<string, TokenEntry>;
  /** Calls of ports that act, in order. */
  readonly calls: unknown[];
};

export type SystemNodeOptions = {
  readonly rules?: readonly AclRule[];
  readonly acl?: Partial<AclPort>;
  readonly isStandby?: boolean;
  readonly hasStateHash?: boolean;
  readonly autopilotState?: AutopilotState;
  readonly autopilotConfiguration?: Partial<AutopilotConfiguration>;
};

const AUTOPILOT: AutopilotConfiguration = {
  cleanupDeadServers: false,
  lastContactThresholdMs: 10_000,
  deadServerLastContactThresholdMs: 24 * 3_600_000,
  maxTrailingLogs: 1000,
  minQuorum: 0,
  serverStabilizationMs: 10_000,
};

export function createSystemNode(options: SystemNodeOptions = {}): SystemNode {
  const { isStandby = false } = options;
  const view = createMemoryView();
  view.isReadOnly = isStandby;
  const calls: unknown[] = [];
  const policies = new Map<string, PolicyRecord>();
  const tokens = new Map([['s.token', serviceToken()]]);
  const mounts = [
    mount({ path: 'cubbyhole/', type: 'cubbyhole', accessor: 'cubbyhole_1' }),
    mount({ path: 'secret/', type: 'kv', accessor: 'kv_1', options: { version: '2' } }),
    mount({ path: 'sys/', type: 'system', accessor: 'system_1' }),
    mount({ kind: 'auth', path: 'token/', type: 'token', accessor: 'auth_token_1' }),
  ];
  const unlessStandby = <T>(value: T): T => {
    if (isStandby && value === undefined) throw standbyPleaseForwardError();
    return value;
  };
  const act = async (...call: unknown[]): Promise<void> => {
    if (isStandby) throw readOnlyError();
    calls.push(call);
  };
  const ports: SystemPorts = {
    mounts: {
      list: (_, kind) => mounts.filter((each) => each.kind === kind),
      match: (_, path) =>
        mounts.find((each) =>
          path.startsWith(each.kind === 'auth' ? `auth/${each.path}` : each.path),
        ),
      enable: (_, spec) => act('enable', spec),
      disable: (_, kind, path) => act('disable', kind, path),
      tune: (_, target, change) => act('tune', target, change),
    },
    leaseTtl: { defaultSeconds: 2_764_800, maxSeconds: 2_764_800 },
    policies: () => ({
      list: async () => ['default', ...policies.keys(), 'root'],
      get: (name) => policies.get(name),
      set: (name, change) => act('set', name, change),
      delete: (name) => act('delete', name),
    }),
    access: {
      token: (id) => unlessStandby(tokens.get(id)),
      tokenByAccessor: (accessor) =>
        unlessStandby([...tokens.values()].find((token) => token.accessor === accessor)),
      acl: () => ({
        isRoot: false,
        capabilities: (path) => (path.startsWith('secret/') ? ['read'] : ['deny']),
        hasMountAccess: (path) => path === 'secret/',
        ...options.acl,
      }),
      rules: () => options.rules ?? [],
    },
    ha: {
      nodes: async () => [
        {
          hostname: 'host',
          apiAddress: 'http://127.0.0.1:1',
          clusterAddress: 'https://127.0.0.1:2',
          isActive: true,
          lastEcho: null,
          version: '0.1.0',
        },
      ],
      seal: async () => void calls.push(['seal']),
      stepDown: () => act('stepDown'),
    },
    raft: {
      configuration: () => ({
        servers: [
          { id: 'node-1', address: '127.0.0.1:2', suffrage: 'voter', isLeader: true },
          { id: 'node-2', address: '127.0.0.1:4', suffrage: 'learner', isLeader: false },
        ],
        index: 7,
      }),
      challenge: async (nodeId) => ({ challenge: nodeId }),
      answer: async (answer) => ({ given: { ...answer } }),
      removeServer: (id) => act('removeServer', id),
      promoteServer: (id) => act('promoteServer', id),
      demoteServer: (id) => act('demoteServer', id),
      autopilot: {
        state: () => options.autopilotState,
        configuration: () => ({ ...AUTOPILOT, ...options.autopilotConfiguration }),
        set: (change) => act('setAutopilot', change),
      },
    },
    snapshots: {
      save: () => Promise.reject(new Error('no snapshots here')),
      restore: () => Promise.reject(new Error('no snapshots here')),
    },
    keyStatus: () => ({ term: 1, installTimeMs: NOW_MS, encryptions: 3 }),
    metrics: async () => '# HELP x y\nx 1\n',
    hostInfo: () => ({ host: { hostname: 'host' } }),
    ...(options.hasStateHash === true
      ? { stateHash: async () => ({ index: 9, hash: 'abc' }) }
      : {}),
    isStandby: () => isStandby,
    version: '0.1.0',
    clock: () => NOW_MS,
  };
  return { send: sender(createSystem(ports), view), view, mounts, policies, tokens, calls };
}

export function mount(fields: Partial<MountDescription>): MountDescription {
  return {
    kind: 'secret',
    path: 'secret/',
    type: 'kv',
    description: '',
    accessor: 'kv_1',
    uuid: 'uuid-1',
    local: false,
    sealWrap: false,
    externalEntropyAccess: false,
    options: {},
    defaultLeaseTtlSeconds: 0,
    maxLeaseTtlSeconds: 0,
    forceNoCache: false,
    listingVisibility: '',
    tokenType: 'default-service',
    auditNonHmacRequestKeys: [],
    auditNonHmacResponseKeys: [],
    passthroughRequestHeaders: [],
    allowedResponseHeaders: [],
    ...fields,
  };
}
