/** What a leader is not asked at the moment, because the release of etcd differs there, or must take. */

import { decodeConfiguration } from '../../server/raft/configuration.ts';
import type { Configuration } from '../../server/raft/message.ts';
import { mayLead } from './agreement.ts';
import type { Lockstep } from './lockstep.ts';

export function isHandingOver({ ours, theirStatus }: Lockstep, number: number): boolean {
  return ours.status(number).transferTarget !== 0 || theirStatus(number).transferTarget !== 0;
}

/**
 * While a joint configuration is yet to be left by itself, etcd 3.4 appends the entry that leaves it
 * once more for each batch that it applies meanwhile, and panics when it applies the second one.
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

/** A leader among the voters takes commands, unless it hands over. */
export function mustTakeCommands({ theirStatus }: Lockstep, number: number): boolean {
  const { role, configuration, transferTarget } = theirStatus(number);
  return role === 'leader' && transferTarget === 0 && mayLead(configuration, number);
}

/** Ours waits for the configuration before, and for the first entry of a leader's term. */
export function mustTakeConfigurations(lockstep: Lockstep, number: number): boolean {
  const { state, raft } = lockstep.ours.node(number);
  const isFirstApplied = state.term === raft.status().currentTerm;
  const isWaiting = configurationsToApply(lockstep, number).length > 0;
  return mustTakeCommands(lockstep, number) && isFirstApplied && !isWaiting;
}

function configurationsToApply({ ours }: Lockstep, number: number): Configuration[] {
  const { disk, state } = ours.node(number);
  return disk.entries
    .filter(({ kind, index }) => kind === 'configuration' && state.index < index)
    .map(({ command }) => decodeConfiguration(command));
}
