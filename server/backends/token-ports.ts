/** What the token backend needs of the core, in its own words. */

import type {
  Auth,
  LogicalRequest,
  LogicalResponse,
  TokenEntry,
  TokenType,
} from '../core/backend.ts';

export type TokenPorts = {
  readonly tokens: TokenStorePort;
  /** Whether the client's token has `sudo` (or is root) on the path of this request. */
  hasSudo(request: LogicalRequest): boolean;
  policyExists(name: string): boolean;
  /** Milliseconds since the epoch. */
  clock(): number;
  readonly maxLeaseTtlSeconds: number;
};

/** What it needs of the token store. Refusals are `ServerError`s with OpenBao's text. */
export type TokenStorePort = {
  /** Throws `read-only` on a standby. */
  requireWritable(): void;
  /** The token if it is good now. */
  lookup(id: string): TokenEntry | undefined;
  /** Also one whose last use is the request at hand. */
  lookupTainted(id: string): TokenEntry | undefined;
  lookupAccessor(accessor: string): TokenEntry | undefined;
  listAccessors(): Promise<string[]>;
  /** All that the request of `origin` writes, answered by `answer`. */
  create(
    spec: NewToken,
    asked: {
      readonly origin: LogicalRequest['origin'];
      readonly answer: (grant: TokenGrant) => LogicalResponse;
    },
  ): Promise<TokenGrant>;
  renew(id: string, spec: TokenRenewal): Promise<TokenGrant>;
  revokeTree(id: string): Promise<void>;
  revokeOrphan(id: string): Promise<void>;
};

export type NewToken = {
  /** Empty for a random one. */
  readonly id: string;
  readonly type: TokenType;
  readonly policies: readonly string[];
  readonly path: string;
  readonly meta: { readonly [key: string]: string } | null;
  readonly displayName: string;
  /** Empty for an orphan. */
  readonly parent: string;
  readonly role: string;
  readonly numUses: number;
  readonly renewable: boolean;
  /** 0 means the default, or for ever if the token is root. */
  readonly ttlSeconds: number;
  readonly periodSeconds: number;
  readonly explicitMaxTtlSeconds: number;
  readonly rolePeriodSeconds: number;
  readonly roleExplicitMaxTtlSeconds: number;
};

export type TokenRenewal = {
  /** 0 means as long as last time. */
  readonly incrementSeconds: number;
  readonly periodSeconds: number;
  readonly explicitMaxTtlSeconds: number;
};

export type TokenGrant = { readonly auth: Auth; readonly warnings: readonly string[] };
