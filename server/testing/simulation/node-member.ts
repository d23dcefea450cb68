/** One node of the node world across its processes, and which of its ends are its disk's fault. */

import type { NodeId } from '../../raft/message.ts';
import { LogDamagedError } from '../../storage/log-recovery.ts';
import type { Random } from '../random.ts';
import type { ActionOf } from './inflict.ts';
import type { NodeClock } from './node-clock.ts';
import type { NodeDisks } from './node-disks.ts';
import type { NodeProcess } from './node-process.ts';
import type { StreamHost } from './streams.ts';

export type Member = {
  readonly id: NodeId;
  readonly disks: NodeDisks;
  readonly jitter: Random;
  clock: NodeClock;
  process: NodeProcess | undefined;
  /** The process, as its connections see it. */
  host: StreamHost | undefined;
  isStarting: boolean;
  /** Its disk is damaged. */
  isLost: boolean;
  incarnation: number;
  pausedUntilUs: number;
  backlog: (() => void)[];
  diskFreeAtUs: number;
  driftPpm: number;
  wasMember: boolean;
  onDeath: (() => void)[];
  /** Loss of a crash that comes in the middle of a disk operation. */
  pendingCrash: ActionOf<'crash'> | undefined;
};

export function isOfDisk(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return code === 'EIO' || code === 'ENOSPC' || isOfDisk(error.cause);
}

export function isDamage(error: unknown): boolean {
  return error instanceof LogDamagedError;
}
