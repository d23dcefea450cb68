/**
 * What an answer rests on, for those who ask with `X-Bao-Consistency-Info: 1`. It costs more than
 * a default read should pay, and tells who leads.
 */

import type { Answer } from './exchange.ts';
import type { Identity, NodeCore, NodePosition } from './node-port.ts';

export type InfoParts = {
  readonly core: Pick<NodeCore, 'isSealed' | 'standby' | 'leader'>;
  readonly position: Pick<NodePosition, 'appliedIndex' | 'committedIndex' | 'stalenessMs'>;
  readonly identity: Pick<Identity, 'nodeId'>;
};

/** Of this node, at the time of the answer. `isForwarded`: it answers through another node. */
export function consistencyInfo(
  { core, position, identity }: InfoParts,
  isForwarded: boolean,
): string[] {
  const applied = position.appliedIndex();
  const committed = Math.max(position.committedIndex(), applied);
  const stalenessMs = position.stalenessMs();
  return [
    ...['X-Bao-Served-By', isForwarded ? 'forwarded' : 'local'],
    ...['X-Bao-Node', identity.nodeId],
    ...['X-Bao-Role', role(core)],
    ...['X-Bao-Applied-Index', String(applied)],
    ...['X-Bao-Commit-Index-Known', String(committed)],
    ...['X-Bao-Lag-Entries', String(committed - applied)],
    // Rounded up: it is a bound.
    ...['X-Bao-Staleness-Ms', stalenessMs === undefined ? 'unknown' : `${Math.ceil(stalenessMs)}`],
    ...['X-Bao-Known-Leader', String(core.leader() !== undefined)],
  ];
}

function role(core: Pick<NodeCore, 'isSealed' | 'standby'>): string {
  if (core.isSealed()) return 'sealed';
  return core.standby() ? 'standby' : 'active';
}

export function hasHeader({ headers }: Answer, name: string): boolean {
  return headers.some((each, position) => position % 2 === 0 && each === name);
}
