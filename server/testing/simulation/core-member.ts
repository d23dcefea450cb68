/** One node of the core world across its crashes. */

import type { SimulatedNode } from '../simulated-node.ts';

export type CoreMember = {
  readonly node: SimulatedNode;
  /** Events of an earlier incarnation are void. */
  incarnation: number;
  pausedUntilUs: number;
  /** A paused clock that stands makes no ticks. */
  clockStands: boolean;
  /** What arrived during a pause. */
  backlog: (() => void)[];
  diskFreeAtUs: number;
  tickPeriodUs: number;
  isReadyScheduled: boolean;
  /** A server that was removed is never added again: its id is spent. */
  wasMember: boolean;
};
