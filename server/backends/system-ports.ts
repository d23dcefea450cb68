/**
 * What the system backend needs of the core, in the words of its own paths. Ports throw
 * `ServerError`s with the text that the client shall see. A port that writes throws `read-only` on
 * a standby before it judges anything by local data.
 */

import type {
  JsonObject,
  LogicalRequest,
  LogicalResponse,
  Namespace,
  TokenEntry,
} from '../core/backend.ts';
import type { AutopilotConfiguration, AutopilotState, ClusterServer } from '../core/ports.ts';

/** Which table a mount belongs to: `secret` is reached at its path, `auth` below `auth/`. */
export type MountTableKind = 'secret' | 'auth';

export type ListingVisibility = '' | 'hidden' | 'unauth';
export type MountTokenType = 'default-service' | 'default-batch' | 'service' | 'batch';

/** What can be tuned. A TTL of 0 stands for the default of the server. */
export type MountTuning = {
  readonly description: string;
  readonly defaultLeaseTtlSeconds: number;
  readonly maxLeaseTtlSeconds: number;
  readonly forceNoCache: boolean;
  readonly listingVisibility: ListingVisibility;
  /** Auth mounts only. */
  readonly tokenType: MountTokenType;
  readonly options: { readonly [key: string]: string };
  readonly auditNonHmacRequestKeys: readonly string[];
  readonly auditNonHmacResponseKeys: readonly string[];
  readonly passthroughRequestHeaders: readonly string[];
  readonly allowedResponseHeaders: readonly string[];
};

export type MountSpec = MountTuning & {
  readonly kind: MountTableKind;
  /** Ends in a slash, never starts with one, and does not contain the `auth/` of the table. */
  readonly path: string;
  /** `kv` for both versions; the version is `options.version`. */
  readonly type: string;
  readonly local: boolean;
  readonly sealWrap: boolean;
  readonly externalEntropyAccess: boolean;
};

export type MountDescription = MountSpec & {
  readonly accessor: string;
  readonly uuid: string;
};

export type PolicyRecord = {
  readonly name: string;
  /** HCL or JSON, as it was written. */
  readonly text: string;
  /** Counts the writes of this name; 0 for a built-in that was never written. */
  readonly version: number;
  readonly casRequired: boolean;
  /** null for a built-in. */
  readonly modifiedMs: number | null;
  /** null means never. */
  readonly expireTimeMs: number | null;
};

export type PolicyChange = {
  readonly text: string;
  readonly casRequired: boolean;
  /** Version that must be current; -1 means that there must be no such policy. */
  readonly cas?: number;
  readonly expireTimeMs?: number;
};

export type PolicyPort = {
  list(): Promise<readonly string[]>;
  /** Undefined as well for one that has expired. */
  get(name: string): PolicyRecord | undefined;
  /** Parses, then compares `cas` and writes as one step. */
  set(name: string, change: PolicyChange): Promise<void>;
  delete(name: string): Promise<void>;
};

export type AclPort = {
  readonly isRoot: boolean;
  /** `['deny']` for none, `['root']` for root. */
  capabilities(path: string): readonly string[];
  /** Whether anything at or below this mount (a path ending in `/`) is granted. */
  hasMountAccess(mountPath: string): boolean;
};

/** One rule of one policy. */
export type AclRule = {
  /** Without the `*` of a prefix. */
  readonly path: string;
  readonly isPrefix: boolean;
  readonly capabilities: readonly string[];
};

export type HaNode = {
  readonly hostname: string;
  readonly apiAddress: string;
  readonly clusterAddress: string;
  readonly isActive: boolean;
  /** RFC 3339; null for the active node itself, and for who was not heard since it leads. */
  readonly lastEcho: string | null;
  readonly version: string;
};

export type SystemPorts = {
  readonly mounts: {
    list(namespace: Namespace, kind: MountTableKind): readonly MountDescription[];
    /** The mount that serves `path`, by longest prefix; paths of auth mounts start with `auth/`. */
    match(namespace: Namespace, path: string): MountDescription | undefined;
    /** Throws `conflict`, or says why not this type, or why nothing can be mounted there. */
    enable(namespace: Namespace, spec: MountSpec): Promise<void>;
    /** Removes the mount and all it stores; nothing happens if there is none. */
    disable(namespace: Namespace, kind: MountTableKind, path: string): Promise<void>;
    /** Options that are given replace those of the same name. */
    tune(
      namespace: Namespace,
      mount: { readonly kind: MountTableKind; readonly path: string },
      change: Partial<MountTuning>,
    ): Promise<void>;
  };
  /** What a TTL of 0 on a mount stands for. */
  readonly leaseTtl: { readonly defaultSeconds: number; readonly maxSeconds: number };
  policies(namespace: Namespace): PolicyPort;
  readonly access: {
    /** Undefined: no such token here (a standby that lags throws `standby-please-forward`). */
    token(id: string): TokenEntry | undefined;
    tokenByAccessor(accessor: string): TokenEntry | undefined;
    acl(token: TokenEntry, namespace: Namespace): AclPort;
    /** What the policies of a token that is not root say, without rules that hold a `+`. */
    rules(token: TokenEntry, namespace: Namespace): readonly AclRule[];
  };
  readonly ha: {
    nodes(): Promise<readonly HaNode[]>;
    /** Seals this node, active or standby. */
    seal(): Promise<void>;
    /** Throws `standby-please-forward` on a standby. */
    stepDown(): Promise<void>;
  };
  readonly raft: {
    configuration(): { readonly servers: readonly ClusterServer[]; readonly index: number };
    challenge(nodeId: string): Promise<JsonObject>;
    answer(answer: {
      readonly nodeId: string;
      readonly instance: string;
      readonly clusterAddress: string;
      readonly answer: string;
      readonly nonVoter: boolean;
    }): Promise<JsonObject>;
    /** Throws `no-leader` where this node does not lead. */
    removeServer(id: string): Promise<void>;
    promoteServer(id: string): Promise<void>;
    demoteServer(id: string): Promise<void>;
    readonly autopilot: {
      /** Undefined where nothing is known yet. */
      state(): AutopilotState | undefined;
      configuration(): AutopilotConfiguration;
      set(change: Partial<AutopilotConfiguration>): Promise<void>;
    };
  };
  readonly snapshots: {
    /** The state of this node, as an archive. */
    save(): Promise<AsyncIterable<Uint8Array>>;
    /** Resolves once the state is in force. With `force` it need not be this cluster's. */
    restore(
      archive: AsyncIterable<Uint8Array>,
      options: { readonly force: boolean },
    ): Promise<void>;
  };
  readonly keyStatus: () => {
    readonly term: number;
    readonly installTimeMs: number;
    readonly encryptions: number;
  };
  /** Prometheus text format. */
  readonly metrics: () => Promise<string>;
  readonly hostInfo: () => JsonObject;
  /** Present only where `sys/internal/state-hash` is enabled. */
  readonly stateHash?: () => Promise<{ readonly index: number; readonly hash: string }>;
  /** A refusal that rests on local data alone may be lag: a standby forwards instead. */
  readonly isStandby: () => boolean;
  /** Of this program. */
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
};

export type SystemRequest = {
  readonly request: LogicalRequest;
  readonly ports: SystemPorts;
  /** What the pattern of the route captured, in order. */
  readonly captures: readonly string[];
};

export type SystemHandler = (
  request: SystemRequest,
) => Promise<LogicalResponse | undefined> | LogicalResponse | undefined;
