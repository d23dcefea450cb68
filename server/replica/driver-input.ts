/** What the driver's loop is told. Everything outside of it only enqueues one of these. */

import type { Configuration, InstallSnapshot, Message, NodeId } from '../raft/message.ts';
import type { ProposeConfigurationResult } from '../raft/raft.ts';
import type { Proposal } from './proposals.ts';

/** What happened outside since the last turn. */
export type DriverInput =
  | { readonly kind: 'message'; readonly message: Message }
  | {
      readonly kind: 'snapshotReceived';
      readonly message: InstallSnapshot;
      readonly file: string;
      /** Called when it is installed, or was of no use. */
      readonly done: () => void;
    }
  | { readonly kind: 'appendDone' }
  | { readonly kind: 'applied'; readonly index: number }
  | { readonly kind: 'compact'; readonly index: number }
  | { readonly kind: 'unreachable'; readonly id: NodeId }
  | { readonly kind: 'snapshotSent'; readonly id: NodeId; readonly isComplete: boolean }
  | { readonly kind: 'campaign' }
  | { readonly kind: 'readIndex'; readonly id: number }
  | ConfigureInput
  | {
      readonly kind: 'transfer';
      readonly to: NodeId;
      readonly answer: (began: boolean) => void;
    };

export type ConfigureInput = {
  readonly kind: 'configure';
  /** Computed from what is in force when it is proposed; nothing if that is right already. */
  readonly edit: (inForce: Configuration) => Configuration | undefined;
  /** Settled like a write, if the core accepts the change. */
  readonly proposal: Proposal;
  readonly refused: (result: RefusedConfiguration) => void;
};

export type RefusedConfiguration =
  Exclude<ProposeConfigurationResult, { kind: 'accepted' }> | { readonly kind: 'unchanged' };
