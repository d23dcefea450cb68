/** The backends, each with its ports filled from the core and the replica of this node. */

import { arch, hostname, platform, totalmem, uptime } from 'node:os';

import { createCubbyhole } from './backends/cubbyhole.ts';
import { createKvV1 } from './backends/kv-v1.ts';
import { createKvV2 } from './backends/kv-v2.ts';
import type { AclRule, SystemPorts } from './backends/system-ports.ts';
import { createSystem } from './backends/system.ts';
import type { TokenPorts } from './backends/token-ports.ts';
import { createTokenBackend } from './backends/token.ts';
import type { LogicalRequest, TokenEntry } from './core/backend.ts';
import type { Core } from './core/core.ts';
import type { BackendFactories } from './core/mount-table.ts';
import { CAPABILITY, parsePolicy } from './core/policy.ts';
import type { Replication } from './core/ports.ts';
import type { Services } from './core/services.ts';
import { standbyPleaseForwardError } from './errors.ts';
import { haNodes } from './ha-nodes.ts';

export type BackendWiring = {
  /** Asked when a request comes: the core is made with these backends. */
  readonly core: () => Core;
  readonly replication: Replication;
  readonly version: string;
  readonly leaseTtl: { readonly defaultSeconds: number; readonly maxSeconds: number };
  readonly metrics: () => Promise<string>;
  readonly stateHash: SystemPorts['stateHash'];
  readonly clock: () => number;
};

export function createBackends(wiring: BackendWiring): BackendFactories {
  const { clock } = wiring;
  const tokenPorts = createTokenPorts(wiring);
  const systemPorts = createSystemPorts(wiring);
  return {
    kv: {
      kind: 'secret',
      create: ({ options }) => (options['version'] === '2' ? createKvV2(clock) : createKvV1()),
    },
    cubbyhole: { kind: 'secret', create: () => createCubbyhole() },
    system: { kind: 'secret', create: () => createSystem(systemPorts) },
    token: { kind: 'auth', create: () => createTokenBackend(tokenPorts) },
  };
}

function createTokenPorts({ core, clock, leaseTtl }: BackendWiring): TokenPorts {
  const tokens = (): Services['tokens'] => core().services().tokens;
  return {
    tokens: {
      requireWritable: () => tokens().requireWritable(),
      lookup: (id) => tokens().lookup(id),
      lookupTainted: (id) => tokens().lookupTainted(id),
      lookupAccessor: (accessor) => tokens().lookupAccessor(accessor),
      listAccessors: () => tokens().listAccessors(),
      create: (spec, asked) => tokens().create(spec, asked),
      renew: (id, spec) => tokens().renew(id, spec),
      revokeTree: (id) => tokens().revokeTree(id),
      revokeOrphan: (id) => tokens().revokeOrphan(id),
    },
    hasSudo: (request) => hasSudo(core().services(), request),
    policyExists: (name) => core().services().policies.exists(name),
    clock,
    maxLeaseTtlSeconds: leaseTtl.maxSeconds,
  };
}

function hasSudo({ policies }: Services, request: LogicalRequest): boolean {
  if (request.token === undefined) return false;
  const { operation, mountPoint, path, data } = request;
  const acl = policies.acl(request.token.policies);
  return acl.isRoot || acl.check(operation, mountPoint + path, data).sudo;
}

function createSystemPorts(wiring: BackendWiring): SystemPorts {
  const { core, replication, leaseTtl, clock } = wiring;
  const services = (): Services => core().services();
  const { stateHash } = wiring;
  return {
    mounts: {
      list: (namespace, kind) => services().mounts.list(namespace, kind),
      match: (namespace, path) => services().mounts.match(namespace, path),
      enable: (namespace, spec) => services().mounts.enable(namespace, spec),
      disable: (namespace, kind, path) => services().mounts.disable(namespace, kind, path),
      tune: (namespace, mount, change) => services().mounts.tune(namespace, mount, change),
    },
    leaseTtl,
    policies: () => services().policies,
    access: {
      token: (id) => found(core(), services().tokens.lookupTainted(id)),
      tokenByAccessor: (accessor) => found(core(), services().tokens.lookupAccessor(accessor)),
      acl: (token) => services().policies.acl(token.policies),
      rules: (token) => rulesOf(services(), token),
    },
    ha: {
      nodes: async () =>
        haNodes({
          leader: core().leader(),
          servers: replication.configuration().servers,
          autopilot: replication.autopilotState(),
          hostname: hostname(),
          version: wiring.version,
          nowMs: clock(),
        }),
      seal: () => core().seal(),
      stepDown: () => core().stepDown(),
    },
    raft: {
      configuration: () => replication.configuration(),
      challenge: (nodeId) => core().bootstrapChallenge(nodeId),
      answer: (answer) => core().bootstrapAnswer(answer),
      removeServer: (id) => replication.removeServer(id),
      promoteServer: (id) => replication.promoteServer(id),
      demoteServer: (id) => replication.demoteServer(id),
      autopilot: {
        state: () => replication.autopilotState(),
        configuration: () => replication.autopilotConfiguration(),
        set: (change) => replication.setAutopilotConfiguration(change),
      },
    },
    snapshots: {
      save: async () => core().saveSnapshot(),
      restore: async (archive, options) => core().restoreSnapshot(archive, options),
    },
    keyStatus: () => core().keyStatus(),
    metrics: wiring.metrics,
    hostInfo: () => ({
      timestamp: new Date(clock()).toISOString(),
      host: { hostname: hostname(), os: platform(), kernelArch: arch(), uptime: uptime() },
      memory: { total: totalmem() },
    }),
    ...(stateHash === undefined ? {} : { stateHash }),
    isStandby: () => core().standby(),
    version: wiring.version,
    clock,
  };
}

/** A standby that does not know a token may merely be late. */
function found(core: Core, token: TokenEntry | undefined): TokenEntry | undefined {
  if (token === undefined && core.standby()) throw standbyPleaseForwardError();
  return token;
}

function rulesOf({ policies }: Services, token: TokenEntry): AclRule[] {
  return token.policies.flatMap((name) => {
    const stored = policies.get(name);
    if (stored === undefined) return [];
    return parsePolicy(name, stored.text)
      .paths.filter((rule) => !rule.hasSegmentWildcards)
      .map(({ path, isPrefix, capabilities }) => ({
        path,
        isPrefix,
        capabilities: Object.entries(CAPABILITY)
          .filter(([, bit]) => (capabilities & bit) !== 0)
          .map(([capability]) => capability),
      }));
  });
}
