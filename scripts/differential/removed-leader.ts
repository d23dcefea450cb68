/** A leader that is removed: etcd 3.4 leads on, ours sees its removal through and steps down. */

import { Disagreement, mayLead } from './agreement.ts';
import { entryAt } from './committed-log.ts';
import type { NodeStatus } from './oracle.ts';
import type { OurSide } from './our-side.ts';

export function hasStoodAside(number: number, ours: NodeStatus, theirs: NodeStatus): boolean {
  return (
    theirs.role === 'leader' &&
    ours.role === 'follower' &&
    ours.term === theirs.term &&
    !mayLead(ours.configuration, number)
  );
}

/** A majority of the others must have applied the removal: nobody needs this leader's vote then. */
export function checkRemoval(number: number, side: OurSide): void {
  const { disk, state } = side.node(number);
  const removal = disk.entries.findLast(
    ({ kind, index }) => kind === 'configuration' && index <= state.index,
  );
  if (removal === undefined) return;
  const { voters } = side.status(number).configuration;
  const knowing = voters.filter((voter) => removal.index <= side.node(voter).state.index);
  if (2 * knowing.length > voters.length) return;
  throw new Disagreement(`node ${number} stands aside before others know of its removal`);
}

/** Ours commits at once what the voters without it hold, etcd's with the next answer that is news. */
export function commitsForOthers(number: number, ours: NodeStatus, theirs: NodeStatus): boolean {
  const { voters, votersOutgoing } = ours.configuration;
  if (ours.role !== 'leader' || theirs.role !== 'leader' || voters.includes(number)) return false;
  const holding = voters.filter((voter) => ours.commit <= (theirs.match[voter] ?? 0));
  const isOwn = entryAt(theirs, ours.commit)?.startsWith(`${ours.term}:`) === true;
  return votersOutgoing.length === 0 && isOwn && 2 * holding.length > voters.length;
}
