/** Carries out nemesis actions on whatever world there is: who is meant is decided when it is due. */

import type { NodeId } from '../../raft/message.ts';
import { Random } from '../random.ts';
import type { NemesisAction, Target } from './nemesis.ts';
import { NO_PARTITION, partition, type Partition } from './partitions.ts';

export type ActionOf<Kind extends NemesisAction['kind']> = NemesisAction & { readonly kind: Kind };

/** What a world can do to its nodes. One that is down, or is not there, is left alone. */
export type Victims = {
  ids(): readonly NodeId[];
  /** Of several that believe to lead, the one of the latest term. */
  leaderId(): NodeId | undefined;
  partition(partition: Partition): void;
  clog(from: NodeId, to: NodeId, forUs: number): void;
  crash(id: NodeId, action: ActionOf<'crash'>): void;
  transfer(to: NodeId): void;
  campaign(id: NodeId): void;
  configure(changes: ActionOf<'configure'>['changes']): void;
  compact(id: NodeId): void;
  slowDisk(id: NodeId, forUs: number): void;
  diskFault(id: NodeId, action: ActionOf<'diskFault'>): void;
  pause(id: NodeId, action: ActionOf<'pause'>): void;
  drift(id: NodeId, ppm: number): void;
  clockJump(id: NodeId, byUs: number): void;
  /** Waits for a transfer to come so far. */
  transferFault(fault: ActionOf<'transferFault'>): void;
  count(name: string): void;
};

export function inflict(action: NemesisAction, victims: Victims): void {
  const name = action.kind === 'partition' ? `partition: ${action.partition}` : action.kind;
  victims.count(`nemesis ${name}`);
  switch (action.kind) {
    case 'crash':
      return victims.crash(resolve(action.target, victims), action);
    case 'partition': {
      const draws = new Random(action.seed, 'partition');
      const subject = {
        ids: victims.ids(),
        leader: victims.leaderId(),
        draw: () => draws.next(),
      };
      return victims.partition(partition(action.partition, subject));
    }
    case 'reconnect':
      return victims.partition(NO_PARTITION);
    case 'clog': {
      const id = resolve(action.target, victims);
      for (const other of victims.ids()) {
        if (action.direction === 'in') victims.clog(other, id, action.forUs);
        else victims.clog(id, other, action.forUs);
      }
      return;
    }
    case 'transfer':
      return victims.transfer(resolve({ ...action.target, role: 'any' }, victims));
    case 'campaign':
      return victims.campaign(resolve(action.target, victims));
    case 'configure':
      return victims.configure(action.changes);
    case 'compact':
      return victims.compact(resolve(action.target, victims));
    case 'slowDisk':
      return victims.slowDisk(resolve(action.target, victims), action.forUs);
    case 'diskFault':
      return victims.diskFault(resolve(action.target, victims), action);
    case 'pause':
      return victims.pause(resolve(action.target, victims), action);
    case 'transferFault':
      return victims.transferFault(action);
    case 'drift':
      return victims.drift(resolve(action.target, victims), action.ppm);
    case 'clockJump':
      return victims.clockJump(resolve(action.target, victims), action.byUs);
  }
}

export function resolve({ role, pick }: Target, victims: Victims): NodeId {
  const ids = victims.ids();
  const any = ids[Math.floor(pick * ids.length)] ?? '';
  return role === 'leader' ? (victims.leaderId() ?? any) : any;
}
