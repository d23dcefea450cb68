/**
 * What a backend is: the one thing that `server/backends` may know of the core. Shapes follow
 * OpenBao's sdk/logical, reduced to what crosses the boundary.
 */

import type { RequestOrigin } from './exactly-once.ts';
import type { ListPage } from './ports.ts';

export type Operation =
  'create' | 'read' | 'update' | 'patch' | 'delete' | 'list' | 'scan' | 'help';

export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Only the root namespace exists so far; everything that will differ by namespace carries it. */
export type Namespace = {
  readonly id: string;
  readonly uuid: string;
  /** Empty for root, else `a/b/`. */
  readonly path: string;
};

export const ROOT_NAMESPACE: Namespace = { id: 'root', uuid: 'root', path: '' };

export type ViewOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string };

/**
 * Reads and writes that take effect as one, or not at all if anything that was read or listed has
 * changed by then. What it writes, it reads; nobody else does before it is committed.
 */
export type Transaction = {
  get(key: string): Uint8Array | undefined;
  list(prefix: string, page?: ListPage): Promise<string[]>;
  /** Throws `read-only` on a standby, at once. */
  write(operations: readonly ViewOperation[]): void;
};

/**
 * Decrypted storage below one prefix: all a backend ever sees. Reads are synchronous and local.
 * On a standby every write throws `read-only` at once.
 */
export type View = {
  get(key: string): Uint8Array | undefined;
  list(prefix: string, page?: ListPage): Promise<string[]>;
  put(key: string, value: Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  /** All or nothing. */
  write(operations: readonly ViewOperation[]): Promise<void>;
  /**
   * Commits what `change` does and resolves with what it returns. Runs it again, a bounded number
   * of times, if somebody else changed what it had read: it must not act on anything else. Throws
   * `transaction-conflict` if nothing came of it, and `read-only` on a standby, as soon as it is
   * one, even if nothing was written.
   */
  transact<T>(change: (transaction: Transaction) => T | Promise<T>): Promise<T>;
  /**
   * Throws `read-only` on a standby, else does nothing. A write asks before it judges anything by
   * what is stored: a standby that lags must forward a delete of what it has not seen yet, or a
   * check-and-set that only looks stale, and never answer it.
   */
  requireWritable?(): void;
};

export type TokenType = 'service' | 'batch';

/** A token as stored and cached. Times are milliseconds since the epoch, durations seconds. */
export type TokenEntry = {
  readonly id: string;
  readonly accessor: string;
  readonly namespaceId: string;
  readonly type: TokenType;
  readonly policies: readonly string[];
  readonly path: string;
  readonly meta: { readonly [key: string]: string } | null;
  readonly displayName: string;
  /** The token role it was made with. */
  readonly role?: string;
  /** Empty for an orphan. */
  readonly parent: string;
  readonly orphan: boolean;
  /** 0 means unlimited. */
  readonly numUses: number;
  readonly creationTimeMs: number;
  readonly creationTtlSeconds: number;
  readonly explicitMaxTtlSeconds: number;
  readonly periodSeconds: number;
  readonly renewable: boolean;
  readonly lastRenewalMs: number | null;
  /** null means never. */
  readonly expireTimeMs: number | null;
};

/** What a login or a token creation hands to the client under `auth`. */
export type Auth = {
  readonly clientToken: string;
  readonly accessor: string;
  readonly policies: readonly string[];
  readonly tokenPolicies: readonly string[];
  readonly metadata: { readonly [key: string]: string } | null;
  readonly leaseDurationSeconds: number;
  readonly renewable: boolean;
  readonly entityId: string;
  readonly tokenType: TokenType;
  readonly orphan: boolean;
  readonly numUses: number;
};

export type LogicalRequest = {
  readonly id: string;
  readonly operation: Operation;
  /** Relative to the mount, without a leading slash. */
  readonly path: string;
  /** Where the mount sits, for example `secret/` or `auth/token/`. */
  readonly mountPoint: string;
  readonly mountAccessor: string;
  /** Options of the mount entry, for example `{version: '2'}`. */
  readonly mountOptions: { readonly [key: string]: string };
  /** What the mount is tuned to; absent means the default of the server. */
  readonly defaultLeaseTtlSeconds?: number;
  readonly namespace: Namespace;
  readonly data: JsonObject;
  /** The body, where it is no JSON and may be too large to be held: a snapshot. */
  readonly stream?: AsyncIterable<Uint8Array> | undefined;
  readonly clientToken: string;
  /** Absent on unauthenticated paths. */
  readonly token: TokenEntry | undefined;
  readonly view: View;
  /**
   * As `view.transact`, for all that the request writes, together with its answer: a request that
   * was forwarded is then known if it comes again. At most once for each request.
   */
  readonly transact: (
    change: (
      transaction: Transaction,
    ) => LogicalResponse | undefined | Promise<LogicalResponse | undefined>,
  ) => Promise<LogicalResponse | undefined>;
  /** To be passed on by who writes through the core's own stores instead of `transact`. */
  readonly origin?: RequestOrigin | undefined;
  readonly remoteAddress: string;
};

export type LogicalResponse = {
  readonly data?: JsonObject | null;
  /** Already serialised `data`, for hot reads: spliced into the envelope as it is. */
  readonly dataJson?: string;
  /** `lease_duration` of the envelope where no lease exists (kv v1); absent means 0. */
  readonly leaseDurationSeconds?: number;
  readonly auth?: Auth;
  readonly warnings?: readonly string[];
  /** Overrides 200 (or 204 for nothing), as KV v2 needs for 404 with a body. */
  readonly status?: number;
  /** An answer that is not an envelope: metrics, health. */
  readonly raw?: {
    readonly contentType: string;
    readonly body: string;
    /** In place of `body`, for what may be too large to be held. */
    readonly stream?: AsyncIterable<Uint8Array>;
  };
};

/** Paths are exact, or end in `*` for a prefix; a `+` stands for one segment. */
export type SpecialPaths = {
  /** Needs `sudo`. */
  readonly root: readonly string[];
  readonly unauthenticated: readonly string[];
  /** RFC: flagged by its backend; a standby forwards these before any work. */
  readonly forward: readonly string[];
};

export type Backend = {
  readonly type: string;
  readonly specialPaths: SpecialPaths;
  /** Undefined means: nothing there (404 for reads and lists, 204 for the rest). */
  handle(request: LogicalRequest): Promise<LogicalResponse | undefined>;
  /** Whether all that this request writes is one `request.transact`; absent means it is not. */
  isOneTransaction?(request: LogicalRequest): boolean;
  /** Whether a write to this path creates or updates; absent means every write is an update. */
  exists?(request: LogicalRequest): Promise<boolean>;
  /** Runs once when the mount is created, on the active node only. May write. */
  initialize?(view: View): Promise<void>;
  /** A token is gone: whatever it owned below this mount goes too. Active node only. May write. */
  revokeToken?(view: View, tokenId: string): Promise<void>;
  /** A key below the mount changed (or, with undefined, everything may have). */
  invalidate?(key: string | undefined): void;
};
