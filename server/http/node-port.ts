/**
 * What the HTTP layer needs of the node behind it, in its own words. `Core` provides `NodeCore`;
 * the wiring provides the rest, and tests provide twins.
 */

import type { JsonObject, LogicalResponse, Operation } from '../core/backend.ts';

export type LogicalCall = {
  readonly id: string;
  readonly operation: Operation;
  /** Full, without `v1/`. */
  readonly path: string;
  readonly namespacePath: string;
  readonly data: JsonObject;
  readonly clientToken: string;
  readonly remoteAddress: string;
  readonly forwarded: boolean;
  readonly wrapTtlSeconds?: number;
};

export type SealStatus = {
  readonly type: string;
  readonly initialized: boolean;
  readonly sealed: boolean;
  readonly threshold: number;
  readonly shares: number;
  /** Shares given so far. */
  readonly progress: number;
  readonly nonce: string;
};

export type Leader = {
  readonly isSelf: boolean;
  readonly nodeId: string;
  readonly redirectAddress: string;
  readonly clusterAddress: string;
  readonly activeTimeMs: number | null;
};

export type NodeCore = {
  sealStatus(): SealStatus;
  initialize(split: {
    readonly shares: number;
    readonly threshold: number;
  }): Promise<{ readonly keys: readonly Buffer[]; readonly rootToken: string }>;
  unseal(share: Buffer): Promise<SealStatus>;
  resetUnseal(): SealStatus;
  isInitialized(): boolean;
  isSealed(): boolean;
  standby(): boolean;
  leader(): Leader | undefined;
  requestJoin(target: {
    readonly leaderApiAddress: string;
    readonly nonVoter: boolean;
  }): Promise<void>;
  /** Throws `ServerError`. */
  handleRequest(call: LogicalCall): Promise<LogicalResponse | undefined>;
};

/** How far this node has come in the replicated log. */
export type NodePosition = {
  appliedIndex(): number;
  /** For display only. */
  committedIndex(): number;
  awaitApplied(index: number, timeoutMs: number): Promise<boolean>;
};

export type Identity = {
  readonly nodeId: string;
  readonly hostname: string;
  readonly version: string;
  /** Known from the first unseal on. */
  clusterName(): string | undefined;
  clusterId(): string | undefined;
};
