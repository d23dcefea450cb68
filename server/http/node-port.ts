/** What the HTTP layer needs of the node behind it: part of the core, and what the wiring knows. */

import type { Core } from '../core/core.ts';

export type NodeCore = Pick<
  Core,
  | 'sealStatus'
  | 'initialize'
  | 'unseal'
  | 'resetUnseal'
  | 'isInitialized'
  | 'isSealed'
  | 'standby'
  | 'leader'
  | 'requestJoin'
  | 'handleRequest'
>;

/** How far this node has come in the replicated log. */
export type NodePosition = {
  appliedIndex(): number;
  /** For display only. */
  committedIndex(): number;
  awaitApplied(index: number, timeoutMs: number): Promise<boolean>;
  /** As `Reads` of the core's ports. */
  linearize(timeoutMs: number): Promise<void>;
  stalenessMs(): number | undefined;
};

export type Identity = {
  readonly nodeId: string;
  readonly hostname: string;
  readonly version: string;
  /** Known from the first unseal on. */
  clusterName(): string | undefined;
  clusterId(): string | undefined;
  /**
   * What an index is an index of: another one after a snapshot was restored, so that nobody takes
   * what was there before for what is there now.
   */
  stateId(): string | undefined;
};
