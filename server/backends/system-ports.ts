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
  /** Counts the writes of this name; 0 for the built-in `root`. */
  readonly version: number;
  readonly casRequired: boolean;
  /** RFC 3339; null for built-in policies that were never written. */
  readonly modified: string | null;
  readonly expiration: string | null;
};

export type PolicyWrite = {
  /** Lower case. */
  readonly name: string;
  readonly text: string;
  readonly casRequired: boolean;
  /** Version that must be current; -1 means that the policy must not exist. */
  readonly cas: number | undefined;
  readonly expirationMs: number | null;
};

export type HaNode = {
  readonly hostname: string;
  readonly apiAddress: string;
  readonly clusterAddress: string;
  readonly isActive: boolean;
  /** RFC 3339; null for the active node itself. */
  readonly lastEcho: string | null;
  readonly version: string;
};

export type RaftServer = {
  readonly id: string;
  readonly address: string;
  readonly isLeader: boolean;
  readonly isVoter: boolean;
};

export type SystemPorts = {
  readonly mounts: {
    list(namespace: Namespace, kind: MountTableKind): readonly MountDescription[];
    /** The mount that serves `path`, by longest prefix; paths of auth mounts start with `auth/`. */
    match(namespace: Namespace, path: string): MountDescription | undefined;
    /** Throws `conflict` (`path is already in use at x/`), or says why the type cannot be mounted. */
    enable(namespace: Namespace, spec: MountSpec): Promise<void>;
    /** Removes the mount and all it stores; nothing happens if there is none. */
    disable(namespace: Namespace, kind: MountTableKind, path: string): Promise<void>;
    tune(
      namespace: Namespace,
      mount: { readonly kind: MountTableKind; readonly path: string },
      change: Partial<MountTuning>,
    ): Promise<void>;
    /** What a TTL of 0 stands for. */
    readonly defaultLeaseTtlSeconds: number;
    readonly maxLeaseTtlSeconds: number;
  };
  readonly policies: {
    /** Without `root` (which is no record). */
    list(namespace: Namespace): Promise<readonly string[]>;
    get(namespace: Namespace, name: string): PolicyRecord | undefined;
    /** Parses, then compares `cas` and writes as one step. */
    set(namespace: Namespace, policy: PolicyWrite): Promise<void>;
    delete(namespace: Namespace, name: string): Promise<void>;
  };
  readonly access: {
    /** Undefined: no such token here (a standby that lags throws `standby-please-forward`). */
    token(id: string): TokenEntry | undefined;
    tokenByAccessor(accessor: string): TokenEntry | undefined;
    capabilities(token: TokenEntry, namespace: Namespace, path: string): readonly string[];
    /** Whether any rule of the token's policies allows anything at or below the mount. */
    mountIsVisible(token: TokenEntry, namespace: Namespace, mountPath: string): boolean;
    /** `root`, `exact_paths` and `glob_paths` as OpenBao prints them. */
    resultantAcl(token: TokenEntry, namespace: Namespace): JsonObject;
  };
  readonly ha: {
    nodes(): Promise<readonly HaNode[]>;
    /** Seals this node, active or standby. */
    seal(): Promise<void>;
    /** Throws `standby-please-forward` on a standby. */
    stepDown(): Promise<void>;
  };
  readonly raft: {
    configuration(): { readonly servers: readonly RaftServer[]; readonly index: number };
    challenge(nodeId: string): Promise<JsonObject>;
    answer(answer: {
      readonly nodeId: string;
      readonly clusterAddress: string;
      readonly answer: string;
      readonly nonVoter: boolean;
    }): Promise<JsonObject>;
    removePeer(nodeId: string): Promise<void>;
  };
  readonly keyStatus: () => {
    readonly term: number;
    readonly installTime: string;
    readonly encryptions: number;
  };
  /** Prometheus text format. */
  readonly metrics: () => Promise<string>;
  readonly hostInfo: () => JsonObject;
  /** Present only where `sys/internal/state-hash` is enabled. */
  readonly stateHash?: () => Promise<{ readonly index: number; readonly hash: string }>;
  /** A refusal that rests on local data alone may be lag: a standby forwards instead. */
  readonly isStandby: () => boolean;
  readonly clock: { nowMs(): number };
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
