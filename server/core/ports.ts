/**
 * What the core needs from below, in its own words: a replicated store, a feed of what changed in
 * it, and leadership. Nothing here knows of Raft; `server/replica` provides all three, and tests
 * provide in-memory twins.
 */

import type { JsonObject } from './backend.ts';

/** One change to physical storage. Keys are UTF-8 paths like `logical/<uuid>/a/b`. */
export type WriteOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string };

export type ListPage = {
  /** Exclusive, lexicographic. */
  readonly after?: string | undefined;
  /** At most so many; absent or <= 0 means all. */
  readonly limit?: number | undefined;
};

/** A value, or its absence (undefined), as it was read. */
export type ReadCondition = { readonly key: string; readonly value: Uint8Array | undefined };

/** A listing as it was read. */
export type ListCondition = {
  readonly prefix: string;
  readonly page: ListPage;
  readonly children: readonly string[];
};

/**
 * By which a request that a standby forwards is known if it comes again. Requests of a session
 * count up from 1; the standby will not ask again for those below `acknowledgedBelow`.
 */
export type RequestStamp = {
  /** 32 hexadecimal digits, drawn anew by each process. */
  readonly session: string;
  /** What the standby had applied before the first request of the session. */
  readonly openedIndex: number;
  readonly sequence: number;
  readonly acknowledgedBelow: number;
};

/** All or nothing, and only if every condition still holds in the log's order. */
export type Commit = {
  readonly reads: readonly ReadCondition[];
  readonly lists: readonly ListCondition[];
  readonly operations: readonly WriteOperation[];
  /** With `once`, nothing happens if the request took effect before; `finish` notes its result. */
  readonly request?:
    | {
        readonly stamp: RequestStamp;
        readonly phase: 'once' | 'finish';
        readonly result: Uint8Array;
      }
    | undefined;
};

/** What became of a commit, the same on every node. Only `applied` had an effect. */
export type CommitOutcome =
  | { readonly kind: 'applied'; readonly index: number }
  /** A condition no longer held. */
  | { readonly kind: 'conflict' }
  /** The request took effect before: see `recorded`. */
  | { readonly kind: 'duplicate' }
  /** Too old to say whether the request took effect before. */
  | { readonly kind: 'expired' };

/** What is known here of a request. */
export type RecordedRequest =
  | { readonly kind: 'unknown' }
  /** It took effect; `result` is empty until it is finished. */
  | { readonly kind: 'recorded'; readonly result: Uint8Array }
  | { readonly kind: 'expired' };

/**
 * Physical storage: reads are local, synchronous and of the applied state; writes are replicated.
 * `applied >= X` implies that every read here sees X.
 */
export type PhysicalStore = {
  get(key: string): Uint8Array | undefined;
  /**
   * The immediate children under `prefix` (empty, or ending in `/`), sorted bytewise: leaf names, and directory names with a
   * trailing `/`, each once. One consistent state.
   */
  list(prefix: string, page?: ListPage): Promise<string[]>;
  /**
   * Applies all operations as one atomic unit on every node. Resolves with the log index once
   * it is applied *here*. Rejects with `no-leader` (nothing happened), `too-large`, `overloaded`,
   * or `outcome-unknown` (it may or may not take effect).
   */
  write(operations: readonly WriteOperation[]): Promise<number>;
  /** As `write`, on conditions. Resolves once it is decided and, if so, applied *here*. */
  commit(commit: Commit): Promise<CommitOutcome>;
  /** Of the state that `get` reads. */
  recorded(stamp: RequestStamp): RecordedRequest;
  appliedIndex(): number;
  /** False if `index` was not applied here within `timeoutMs`. */
  awaitApplied(index: number, timeoutMs: number): Promise<boolean>;
};

export type Change =
  | { readonly kind: 'keys'; readonly index: number; readonly keys: readonly string[] }
  /** A snapshot was installed: nothing read before may be believed. */
  | { readonly kind: 'everything'; readonly index: number };

/**
 * Listeners run synchronously, in the turn in which the change becomes visible to `get` and
 * before `appliedIndex()` moves: a cache that forgets what they name is never older than the
 * published index. They must not throw.
 */
export type ChangeFeed = {
  subscribe(listener: (change: Change) => void): () => void;
};

/** How current this node's state is, and how to make sure that it is current enough. */
export type Reads = {
  /**
   * Resolves once this node has applied all that any node had acknowledged before the call. Rejects
   * with `no-leader`, `not-current` or `overloaded` if that cannot be had within `timeoutMs`.
   */
  linearize(timeoutMs: number): Promise<void>;
  /**
   * Everything acknowledged longer ago than this is applied here, however the cluster may be
   * partitioned. Undefined: nothing is known.
   */
  stalenessMs(): number | undefined;
};

/** A term of leadership, from the moment at which everything earlier is applied here. */
export type Tenure = {
  readonly term: number;
  /** Resolves when leadership ends, for whatever reason. */
  readonly lost: Promise<void>;
};

export type Leadership = {
  readonly nodeId: string;
  /** Resolves once this node leads and has applied all entries of earlier terms. */
  acquire(signal: AbortSignal): Promise<Tenure>;
  /** Hands leadership to the most advanced voter, or rejects with why it cannot. */
  stepDown(): Promise<void>;
  isLeader(): boolean;
  /** Who leads, as far as this node knows. */
  leaderId(): string | undefined;
};

/**
 * One self-signed certificate and its key, shared by all nodes of a cluster and kept behind the
 * barrier: to hold it is to be a member.
 */
export type ClusterCredentials = {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
};

export type ClusterServer = {
  readonly id: string;
  /** `host:port` of its cluster listener. */
  readonly address: string;
  readonly suffrage: 'voter' | 'learner';
  readonly isLeader: boolean;
};

/** How the leader tends the cluster (OpenBao's autopilot). */
export type AutopilotConfiguration = {
  readonly cleanupDeadServers: boolean;
  /** Quiet for longer, a server is unhealthy. */
  readonly lastContactThresholdMs: number;
  /** Quiet for longer, it is dead, if dead servers are cleaned up. */
  readonly deadServerLastContactThresholdMs: number;
  /** So many entries behind, a server is still healthy. */
  readonly maxTrailingLogs: number;
  /** Cleaning up leaves at least so many that vote, or will. */
  readonly minQuorum: number;
  /** So long a server must be healthy before it becomes a voter. */
  readonly serverStabilizationMs: number;
};

export type AutopilotServer = {
  readonly id: string;
  readonly address: string;
  readonly status: 'leader' | 'voter' | 'non-voter';
  /** What it shall be. */
  readonly nodeType: 'voter' | 'non-voter';
  readonly nodeStatus: 'alive' | 'left';
  readonly lastContactMs: number;
  readonly lastTerm: number;
  /** Durable in its log, as far as the leader knows. */
  readonly lastIndex: number;
  readonly isHealthy: boolean;
  /** For how long `isHealthy` has been what it is. */
  readonly stableMs: number;
};

export type AutopilotState = {
  readonly isHealthy: boolean;
  /** So many healthy voters may fail before writes stop. */
  readonly failureTolerance: number;
  readonly leader: string;
  readonly voters: readonly string[];
  readonly nonVoters: readonly string[];
  readonly servers: readonly AutopilotServer[];
};

/** The life of this node as a member of the cluster, and the cluster's membership. */
export type Replication = {
  /** The disk that keeps what this node promises; another one under its id is another server. */
  readonly instance: string;
  /** Whether this node's disk holds replicated state, be it founded here or received. */
  isBootstrapped(): boolean;
  /** Founds a cluster of this one node; resolves when it leads and takes writes. */
  bootstrap(credentials: ClusterCredentials): Promise<void>;
  /** Takes part in the cluster that the disk knows, or waits passively for one to add this node. */
  start(credentials: ClusterCredentials): Promise<void>;
  /** Leaves the network; what is in flight ends with `outcome-unknown`. `start` may follow. */
  stop(): Promise<void>;
  /** As applied here; `index` is that of the last applied entry it is known to hold for. */
  configuration(): { readonly servers: readonly ClusterServer[]; readonly index: number };
  /**
   * Leader only (`no-leader` elsewhere). Resolves once the server is a learner; it becomes a voter
   * by itself when it has caught up, unless `nonVoter`. Repeating it is harmless. Without an
   * `instance` whatever disk comes under that id is taken for the server's.
   */
  addServer(server: {
    readonly id: string;
    readonly address: string;
    readonly instance?: string | undefined;
    readonly nonVoter?: boolean | undefined;
  }): Promise<void>;
  /**
   * Leader only. Resolves once the server is no longer part of the configuration, and enough of the
   * others know that to go on without it; at once if it is not part of it.
   */
  removeServer(id: string): Promise<void>;
  /** Leader only. Lets a server that was to stay without a vote become a voter. */
  promoteServer(id: string): Promise<void>;
  /** Leader only. Takes the vote of a server, for good. */
  demoteServer(id: string): Promise<void>;
  /** Undefined where this node does not lead, or has only just begun to. */
  autopilotState(): AutopilotState | undefined;
  autopilotConfiguration(): AutopilotConfiguration;
  /** Leader only. Resolves when it is replicated. */
  setAutopilotConfiguration(change: Partial<AutopilotConfiguration>): Promise<void>;
};

/** A member whom a joiner asks, and how it is known. */
export type JoinPeer = {
  /** Of its API, like `https://10.0.0.1:8200`. */
  readonly apiAddress: string;
  /** PEM texts. Without a CA those of the system are believed. */
  readonly tls: {
    readonly caCert?: string | undefined;
    readonly clientCert?: string | undefined;
    readonly clientKey?: string | undefined;
    /** Expected in the member's certificate in place of its host. */
    readonly serverName?: string | undefined;
  };
};

/** How the joiner reaches the API of the node that it was told to ask. */
export type JoinClient = {
  /** POST `sys/storage/raft/bootstrap/challenge`; resolves with `data`. */
  challenge(peer: JoinPeer, body: JsonObject): Promise<JsonObject>;
  /** POST `sys/storage/raft/bootstrap/answer`; resolves with `data`. */
  answer(peer: JoinPeer, body: JsonObject): Promise<JsonObject>;
};

/** Backups of the whole replicated state, below the barrier. */
export type Snapshots = {
  /** The state of this node as it is now, packed as `sys/storage/raft/snapshot` answers it. */
  save(): Promise<AsyncIterable<Uint8Array>>;
  /** Takes what `save` gave; rejects with `invalid-request` if it is not whole and undamaged. */
  receive(archive: AsyncIterable<Uint8Array>): Promise<ReceivedState>;
};

/** A state that has arrived, and is not in force. */
export type ReceivedState = {
  /** What it holds at `key`. */
  find(key: string): Promise<Uint8Array | undefined>;
  /**
   * Puts it in the place of everything, on all nodes at the index that it resolves with; listeners
   * then hear that everything has changed. Rejects as a write does.
   */
  restore(): Promise<number>;
  discard(): Promise<void>;
};
