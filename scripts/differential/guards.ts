/** What a leader is not asked at the moment, because the release of etcd differs there. */

import { decodeConfiguration } from '../../server/raft/configuration.ts';
import type { Configuration } from '../../server/raft/message.ts';
import type { Lockstep } from './lockstep.ts';

export function isHandingOver({ ours, theirStatus }: Lockstep, number: number): boolean {
  return ours.status(number).transferTarget !== 0 || theirStatus(number).transferTarget !== 0;
}

/**
 * While a joint configuration is yet to be left by itself, etcd 3.4 appends the entry that leaves it
 * once more for each batch that it applies meanwhile, and the second one ends the process.
 */
export function willLeaveJoint(lockstep: Lockstep, number: number): boolean {
  const { configuration } = lockstep.ours.status(number);
  return (
    configuration.autoLeave ||
    configurationsToApply(lockstep, number).some(({ joint }) => joint?.autoLeave === true)
  );
}

/** A leader of ours that hands over waits with leaving, etcd's does not. */
export function isChanging(lockstep: Lockstep, number: number): boolean {
  const { configuration } = lockstep.ours.status(number);
  return (
    configuration.votersOutgoing.length > 0 || configurationsToApply(lockstep, number).length > 0
  );
}

function configurationsToApply({ ours }: Lockstep, number: number): Configuration[] {
  const { disk, state } = ours.node(number);
  return disk.entries
    .filter(({ kind, index }) => kind === 'configuration' && state.index < index)
    .map(({ command }) => decodeConfiguration(command));
}
